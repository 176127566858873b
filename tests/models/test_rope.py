"""Rotation frequencies against the formulas, worked in float64 by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgeq.models.rope import Rope

LLAMA3 = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip


def frequencies(words: dict[str, Any], head_dim: int = 128) -> np.ndarray[Any, Any]:
    result = Rope.from_hf(words).inverse_frequencies(head_dim)
    assert result.dtype == np.float32 and result.shape == (head_dim // 2,)
    return result


def plain(theta: float, head_dim: int = 128) -> list[float]:
    return [1 / theta ** (2 * i / head_dim) for i in range(head_dim // 2)]


def llama3(frequency: float) -> float:
    """Llama 3.1's rule for one frequency: fast ones stay, slow ones are divided, between is blended."""
    wavelength = 2 * math.pi / frequency
    if wavelength < 8192 / 4:
        return frequency
    if wavelength > 8192 / 1:
        return frequency / 8
    smooth = (8192 / wavelength - 1) / (4 - 1)
    return (1 - smooth) * frequency / 8 + smooth * frequency


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, plain(1e4)),
        ({"rope_theta": 5e5}, plain(5e5)),
        ({"rope_theta": 5e5, "rope_scaling": None}, plain(5e5)),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, plain(1e6)),
        ({"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}}, plain(1e6)),
        ({"rope_scaling": {"type": "linear", "factor": 4}}, [f / 4 for f in plain(1e4)]),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 2e4}},
            [f / 4 for f in plain(2e4)],
        ),
        ({"rope_theta": 5e5, "rope_scaling": LLAMA3}, [llama3(f) for f in plain(5e5)]),
        ({"rope_parameters": LLAMA3 | {"rope_theta": 5e5}}, [llama3(f) for f in plain(5e5)]),
    ],
)
def test_frequencies(words: dict[str, Any], expected: list[float]) -> None:
    np.testing.assert_allclose(frequencies(words), expected, rtol=1e-6)


def test_llama3_has_all_three_kinds() -> None:
    """Fast, blended and slow frequencies all occur, so that the comparison above means something."""
    ratio = frequencies({"rope_theta": 5e5, "rope_scaling": LLAMA3}) / frequencies({"rope_theta": 5e5})
    assert (ratio == 1).any() and (ratio == 0.125).any() and ((ratio > 0.13) & (ratio < 0.99)).any()


def test_first_frequency_is_exact() -> None:
    assert frequencies({}, 64)[0] == 1 and frequencies({}, 64)[16] == np.float32(0.01)

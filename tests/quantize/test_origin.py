"""What is quantized already, by its types and by its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import formats
from edgeq.converters import open_source
from edgeq.converters.source import Source, SourceTensor
from edgeq.errors import UsageError
from edgeq.quantize.origin import names_of, on_grid, refuse_quantized
from tests.converters.checkpoints import config, weights, write_directory, write_gguf

Array = np.ndarray[Any, Any]


def tensor(x: Array) -> SourceTensor:
    kinds = {"float32": "F32", "float16": "F16"}
    return SourceTensor("a", kinds[x.dtype.name], x.shape, x.view(np.uint8).reshape(-1))


def grid(rows: int, columns: int, scheme: str = "q4") -> Array:
    x = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    return np.ascontiguousarray(formats.dequantize(formats.quantize(x, scheme), scheme)[:, :columns])


def opened(folder: Path, **changes: Any) -> Source:
    words = config("qwen2", **changes)
    return open_source(write_directory(folder, words, weights(words)))


@pytest.mark.parametrize("rows", [1, 16, 40])
def test_numbers_on_a_grid(rows: int) -> None:
    """As they are, and as they come of a format of fewer bits."""
    x = grid(rows, 96)
    assert on_grid(tensor(x)) and on_grid(tensor(x.astype(np.float16)))
    assert not on_grid(tensor(x + np.float32(0.01) * np.sign(x)))


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(1).standard_normal((16, 64)).astype(np.float32),
        np.zeros((4, 64), np.float32),
        np.full((4, 64), np.nan, np.float32),
        np.full((4, 64), np.inf, np.float32),
        np.full((4, 64), 3e38, np.float32) * np.random.default_rng(1).random((4, 64), np.float32),
        grid(8, 96)[:, :72],
        grid(8, 96).reshape(-1),
        grid(8, 64, "q8"),
    ],
    ids=["noise", "nothing", "nan", "infinite", "large", "narrow", "vector", "q8"],
)
def test_numbers_on_none(x: Array) -> None:
    assert not on_grid(tensor(np.ascontiguousarray(x)))
    assert not on_grid(None)


def test_floats_are_taken(tmp_path: Path) -> None:
    for tied in (False, True):
        source = opened(tmp_path / str(tied), tie_word_embeddings=tied)
        assert ("output" in names_of(source)) != tied and len(names_of(source)) == 16 - tied
        refuse_quantized(source)


@pytest.mark.parametrize("name", ["embed", "output", "blocks.1.down"])
def test_one_matrix_is_enough(name: str, tmp_path: Path) -> None:
    source = opened(tmp_path / "a")
    rows, columns = source.tensors[name].shape
    other = replace(tensor(grid(rows, columns)), name=name)
    with pytest.raises(UsageError, match=f"holds 1 matrices of numbers that lie on q4's grid .* {name} "):
        refuse_quantized(replace(source, tensors={**source.tensors, name: other}))


def test_types_are_told_by_their_number(tmp_path: Path) -> None:
    words = config("llama")
    write_gguf(tmp_path / "a.gguf", words, weights(words), kind="Q4_0")
    with pytest.raises(UsageError, match=r"a.gguf is quantized already \(\d+ Q4_0\): .*--allow-requantize"):
        refuse_quantized(open_source(tmp_path / "a.gguf"))

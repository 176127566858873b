"""Presets: all rows name what there is, and each gives a model that still predicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.converters import pipeline
from edgeq.converters.recipe import choose
from edgeq.converters.source import Source
from edgeq.errors import UsageError
from edgeq.formats import SCHEMES, dequantize, quantize
from edgeq.quantize.activations import ACTIVATIONS
from edgeq.quantize.methods import METHODS
from edgeq.quantize.presets import PRESETS, preset_of
from edgeq.quantize.transforms import TRANSFORMS, Transform
from edgeq.quantize.trial import rounded, trial
from edgeq.runtime.dense import Dense

NAMES = (
    "w8a16 w4a16 w6a16 w8a8 w4a8 w4a4-sim zeroquant qoq atom quarot awq smoothquant omniquant-clip llm.int8 "
    "nf4 gptq hqq sinq iot"
)


@pytest.fixture(scope="module")
def source(demo_checkpoint: Path) -> Source:
    return pipeline.open_source(demo_checkpoint)


@pytest.fixture(scope="module")
def dense() -> Iterator[Dense]:
    with Dense(1) as pool:
        yield pool


def windows(source: Source, seed: int) -> Any:
    return np.random.default_rng(seed).integers(3, source.config.vocab_size, (2, 48))


def test_all_names_are_there() -> None:
    assert set(PRESETS) == set(NAMES.split())
    with pytest.raises(UsageError, match="preset 'w2a2' is unknown; known are w8a16"):
        preset_of("w2a2")


@pytest.mark.parametrize("name", PRESETS)
def test_rows(name: str, source: Source) -> None:
    row = preset_of(name)
    assert row.act in ("int8", "f32") and row.about and set(row.steps) <= set(METHODS)
    assert METHODS[row.steps[0]].begins and (not row.activations or row.activations in ACTIVATIONS)
    assert all(isinstance(t, Transform) or t in TRANSFORMS for t in row.transforms)
    schemes = row.recipe.schemes(source.family, source.config)
    assert row.whole or schemes["blocks.0.q"] == SCHEMES[row.scheme]
    assert bool(row.simulated) == ("simulated" in row.about)


@pytest.mark.parametrize("name", PRESETS)
def test_trial(name: str, source: Source, dense: Dense) -> None:
    found = trial(source, preset_of(name), windows(source, 0), windows(source, 1), dense)
    assert 0 < found.kld < 2


def test_rounded_weights_are_those_of_the_converter(source: Source, dense: Dense) -> None:
    from edgeq.quantize.transforms.base import observed

    found = rounded(source, choose(scheme="q4"), ("rtn",), observed(source, None), dense)
    w = source.tensors["blocks.1.down"].floats()
    assert np.array_equal(found["blocks.1.down"], dequantize(quantize(w, "q4"), "q4")[:, : w.shape[1]])
    assert set(found) == set(choose(scheme="q4").schemes(source.family, source.config))

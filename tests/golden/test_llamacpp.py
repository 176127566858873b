"""The engine beside llama.cpp on the same GGUF files, and beside the exact sum of what those files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import gguf_checkpoint, reference

HERE = Path(__file__).parent / "llamacpp"
MODELS = sorted(path.stem for path in HERE.glob("*.gguf"))
# At every position. Both engines round activations to 8 bits, each in its own way: llama.cpp for K- and
# I-types with one scale for 256 columns, which is a coarser one.
COSINE = {"every-type": 0.999}
COSINE_OTHERS = 0.9995


def golden(name: str) -> tuple[list[int], Any]:
    """(ids, logits [len(ids), vocab]) that llama.cpp gave with a float32 cache."""
    return np.load(HERE / f"{name}.ids.npy").tolist(), np.load(HERE / f"{name}.logits.npy")


def cosines(a: Any, b: Any) -> Any:
    """Cosine of each row of a with the same row of b."""
    a, b = np.float64(a), np.float64(b)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


# Kernels of nineteen schemes are compiled for every-type where none are kept.
SLOW = {"every-type": pytest.mark.slow}
RUN = [pytest.param(name, marks=SLOW.get(name, ())) for name in MODELS]


@pytest.fixture(scope="module", params=RUN)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(name, .edgeq file) of each GGUF, with its own numbers."""
    from edgeq.converters import convert

    name: str = request.param
    path = tmp_path_factory.mktemp("llamacpp") / "model.edgeq"
    convert(HERE / f"{name}.gguf", path, scheme="keep")
    return name, path


def test_like_llamacpp(converted: tuple[str, Path]) -> None:
    import edgeq

    name, path = converted
    ids, logits = golden(name)
    with edgeq.load(path, kv="f32") as model:
        ours = model.logits(ids)
    assert cosines(ours, logits).min() >= COSINE.get(name, COSINE_OTHERS)


def test_exact(converted: tuple[str, Path]) -> None:
    """With float activations only float32 rounds: conversion lost nothing and moved every row rightly."""
    import edgeq

    name, path = converted
    ids, _ = golden(name)
    exact = reference.logits(gguf_checkpoint.read(HERE / f"{name}.gguf"), ids)
    with edgeq.load(path, kv="f32", act="f32") as model:
        ours = model.logits(ids)
    assert np.abs(ours - exact).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("name", MODELS)
def test_golden_is_near_the_exact_sum(name: str) -> None:
    """The goldens belong to the files beside them."""
    ids, logits = golden(name)
    exact = reference.logits(gguf_checkpoint.read(HERE / f"{name}.gguf"), ids)
    assert cosines(logits, exact).min() >= COSINE.get(name, COSINE_OTHERS)


def test_vocabulary_of_a_trained_model(tmp_path: Path) -> None:
    import edgeq
    from edgeq.converters import convert

    convert(HERE / "stories260K-q8_0.gguf", tmp_path / "model.edgeq", scheme="q8")
    with edgeq.load(tmp_path / "model.edgeq") as model:
        assert model.tokenizer.encode("Once upon a time") == [1, 403, 407, 261, 378]

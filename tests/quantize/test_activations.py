"""Rounded activations: what each row of the table rounds to, and where in a model that is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.converters import pipeline
from edgeq.converters.recipe import choose
from edgeq.converters.source import Source
from edgeq.errors import UsageError
from edgeq.evaluate.windows import log_softmax
from edgeq.quantize.activations import ACTIVATIONS, TENSOR, Activations, Run, simulate
from edgeq.runtime.dense import Dense

TEXT = "Once upon a time there was a little girl named Lily. She liked to play outside in the park. "


@pytest.fixture(scope="module")
def source(demo_checkpoint: Path) -> Source:
    return pipeline.open_source(demo_checkpoint)


@pytest.fixture(scope="module")
def dense() -> Iterator[Dense]:
    with Dense(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def ids(source: Source) -> Any:
    from edgeq import tokenizer

    spoken = source.tokenizer()
    assert spoken is not None
    speaker = tokenizer.load(spoken[0], spoken[1], source.config.vocab_size)
    return np.array(speaker.encode(TEXT * 6)[:128], np.int64).reshape(2, 64)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("columns", [64, 172])
def test_rounding(name: str, columns: int) -> None:
    row = ACTIVATIONS[name]
    x = np.random.default_rng(0).standard_normal((7, columns)).astype(np.float32)
    x[2] = 0
    largest = float(np.abs(x).max())
    y = row.rounded(x, largest)
    top = (1 << row.bits - 1) - 1
    width = columns if row.columns in (0, TENSOR) else row.columns
    for first in range(0, columns, width):
        a, b = x[:, first : first + width], y[:, first : first + width]
        scale = np.full((7, 1), largest) if row.static else np.abs(a).max(axis=1, keepdims=True)
        scale = scale / top
        assert (np.abs(a - b) <= scale * 0.5001).all()
        whole = b / np.where(scale > 0, scale, 1)
        assert np.allclose(whole, np.rint(whole), atol=1e-3) and np.abs(whole).max() <= top * 1.0001
    assert (y[2] == 0).all() and y.dtype == np.float32


def test_what_lies_outside_a_static_scale_is_clipped() -> None:
    x = np.array([[-3, -1, 0.26, 2]], np.float32)
    assert np.allclose(Activations("", 4, TENSOR, "").rounded(x, 0.7), [[-0.7, -0.7, 0.3, 0.7]])


def test_nothing_rounded_is_nothing_changed(source: Source, ids: Any, dense: Dense) -> None:
    found = simulate(source, ids, dense=dense)
    assert found.kld == 0 and found.same_top == 1 and found.tokens == 2 * 31


def test_it_is_the_engines_model(source: Source, ids: Any, dense: Dense, tmp_path: Path) -> None:
    """The rows before the head are those that the engine's logits come from."""
    pipeline.write(source, tmp_path / "a.edgeq", choose(scheme="f32"), None)
    run = Run(source, dense)
    rows = run.rows(ids)
    with edgeq.load(tmp_path / "a.edgeq", kv="f32", act="f32") as model:
        theirs = model.logits(ids[0].tolist())
    ours = np.concatenate([part.copy() for part in run.logits(rows[0])])
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_int8_is_near_what_the_engine_does(source: Source, ids: Any, dense: Dense, tmp_path: Path) -> None:
    """With the same weights: the divergence of act int8 from act f32 within a third."""
    from edgeq.formats import dequantize, quantize

    pipeline.write(source, tmp_path / "a.edgeq", choose(scheme="q8"), None)
    with edgeq.load(tmp_path / "a.edgeq", kv="f32", act="int8") as model:
        rounded = [log_softmax(model.logits(window.tolist())[32:-1]) for window in ids]
    with edgeq.load(tmp_path / "a.edgeq", kv="f32", act="f32") as model:
        exact = [log_softmax(model.logits(window.tolist())[32:-1]) for window in ids]
    theirs = np.mean([(np.exp(p) * (p - q)).sum(axis=1) for p, q in zip(exact, rounded, strict=True)])

    def weights(name: str, w: Any) -> Any:
        return dequantize(quantize(w, "q8"), "q8")[:, : w.shape[1]]

    run, other = Run(source, dense, weights), Run(source, dense, weights, ACTIVATIONS["int8"])
    from edgeq.quantize.activations import compared

    ours = compared(run, run.rows(ids), other, other.rows(ids)).kld
    assert theirs > 0 and abs(ours / theirs - 1) < 0.35


def test_finer_scales_are_nearer(source: Source, ids: Any, dense: Dense) -> None:
    klds = {name: simulate(source, ids, name, calibration=ids, dense=dense).kld for name in ACTIVATIONS}
    assert 0 < klds["int8"] < klds["int8-token"] < klds["int8-static"] < klds["int4-static"]
    assert klds["int8-token"] < klds["int4"] < klds["int4-token"]


def test_weights_and_made(source: Source, ids: Any, dense: Dense) -> None:
    from edgeq.quantize.transforms import transformed

    asked = []

    def weights(name: str, w: Any) -> Any:
        asked.append(name)
        return w * np.float32(1.001) if name.endswith("down") else w

    turned = transformed(source, ["rotate"], dense=dense)
    assert simulate(source, ids, made=turned, dense=dense).kld < 1e-9
    assert simulate(source, ids, made=turned, weights=weights, dense=dense).kld > 1e-9
    assert {"embed", "output", "blocks.0.q"} <= set(asked) and "blocks.0.norm1" not in asked


def test_refusals(source: Source, ids: Any, dense: Dense) -> None:
    with pytest.raises(UsageError, match="activations 'int2' are unknown; known are int8"):
        simulate(source, ids, "int2", dense=dense)
    with pytest.raises(UsageError, match="int8-static go by what a model does on a text"):
        simulate(source, ids, "int8-static", dense=dense)

"""Layers one after another and the head give what the engine gives, and what goes into products is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.calibrate.layers import Head, Layer, floats_of
from edgeq.calibrate.moments import Moments, passed, symmetric
from edgeq.converters import convert
from edgeq.converters.source import Source
from edgeq.runtime.dense import Dense

Array = np.ndarray[Any, Any]
Opened = Callable[[str], Source]

MODELS = ("stories260K", "llama", "qwen2", "qwen3")
WINDOW = 40
TAPS = [(("q", "k", "v"), False), (("o",), True), (("gate", "up"), False), (("down",), True)]


def ids_of(source: Source, count: int = WINDOW) -> Array:
    return np.random.default_rng(3).integers(3, source.config.vocab_size, count)


def embedded(source: Source, count: int = WINDOW) -> Array:
    return source.tensors["embed"].floats()[ids_of(source, count)]


def layer_of(dense: Dense, source: Source, i: int = 0, window: int = WINDOW) -> Layer:
    return Layer(dense, source, i, window, floats_of(source, i))


def head_of(dense: Dense, source: Source) -> Head:
    w = source.tensors.get("output", source.tensors["embed"]).floats()
    return Head(dense, source, w)


def logits(dense: Dense, source: Source, x: Array) -> Array:
    for i in range(source.config.num_hidden_layers):
        x = layer_of(dense, source, i, len(x)).run(x).copy()
    return np.concatenate([part.copy() for part in head_of(dense, source).logits(x)])


def assert_same_bits(found: Array, want: Array) -> None:
    np.testing.assert_array_equal(found.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("name", MODELS)
def test_layers_and_head_are_the_engine(
    name: str, dense: Dense, opened: Opened, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    convert(folder_of(name), tmp_path / "a.edgeq", scheme="f32")
    source = opened(name)
    with engine.load(tmp_path / "a.edgeq", threads=1, act="f32", kv="f32") as model:
        want = model.logits(ids_of(source).tolist())
    assert_same_bits(logits(dense, source, embedded(source)), want)


def test_a_head_takes_any_number_of_rows(
    dense: Dense, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that do not fit at a time one after another."""
    source = opened("qwen2")
    x = embedded(source, 30)
    want = np.concatenate([part.copy() for part in head_of(dense, source).logits(x)])
    monkeypatch.setattr("edgeq.calibrate.layers.LOGITS_BYTES", 4 * source.config.vocab_size * 7)
    head = head_of(dense, source)
    parts = [part.copy() for part in head.logits(x)]
    assert [len(part) for part in parts] == [7, 7, 7, 7, 2]
    assert_same_bits(np.concatenate(parts), want)
    norm, w = source.tensors["norm"].floats().reshape(-1), source.tensors["output"].floats()
    read: list[Array] = []

    def doubled(rows: Array) -> Array:
        read.append(rows.copy())
        return rows * 2

    twice = np.concatenate([part.copy() for part in head.logits(x, doubled)])
    inputs = np.concatenate(read)
    assert_same_bits(twice, want * 2)
    np.testing.assert_allclose(inputs, normed(x, norm, source), rtol=1e-5, atol=1e-6)
    assert_same_bits(dense.product(w, inputs), want)


# ---- taps ----
def normed(x: Array, weight: Array, source: Source) -> Array:
    x = x.astype(np.float64)
    mean = np.square(x).mean(axis=1, keepdims=True)
    found: Array = x / np.sqrt(mean + source.config.rms_norm_eps) * weight.reshape(-1)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_taps_are_what_products_read(name: str, dense: Dense, opened: Opened) -> None:
    source = opened(name)
    i = source.config.num_hidden_layers - 1
    layer, x = layer_of(dense, source, i), embedded(source, 33)
    assert [(tap.matrices, tap.adds) for tap in layer.taps] == [
        (tuple(f"blocks.{i}.{matrix}" for matrix in names), adds) for names, adds in TAPS
    ]
    arrays = floats_of(source, i)
    read = {tap.matrices[0].rpartition(".")[2]: rows.copy() for tap, rows in passed(layer, x)}
    assert {name: rows.shape for name, rows in read.items()} == {
        name: (33, arrays[f"blocks.{i}.{name}"].shape[1]) for name in ("q", "o", "gate", "down")
    }
    np.testing.assert_allclose(
        read["q"], normed(x, arrays[f"blocks.{i}.norm1"], source), rtol=1e-5, atol=1e-6
    )
    middle = x + read["o"].astype(np.float64) @ arrays[f"blocks.{i}.o"].T
    want = normed(middle, arrays[f"blocks.{i}.norm2"], source)
    np.testing.assert_allclose(read["gate"], want, rtol=1e-3, atol=1e-5)
    gate, up = (read["gate"].astype(np.float64) @ arrays[f"blocks.{i}.{name}"].T for name in ("gate", "up"))
    np.testing.assert_allclose(read["down"], gate / (1 + np.exp(-gate)) * up, rtol=1e-3, atol=1e-4)
    end = middle + read["down"].astype(np.float64) @ arrays[f"blocks.{i}.down"].T
    np.testing.assert_allclose(layer.x[:33], end, rtol=1e-3, atol=1e-4)
    assert_same_bits(layer.x[:33].copy(), layer_of(dense, source, i).run(x))


def test_a_shorter_window_is_the_beginning_of_a_longer_one(dense: Dense, opened: Opened) -> None:
    """Nothing is left of the window before."""
    source = opened("stories260K")
    layer, x = layer_of(dense, source), embedded(source)
    want = layer.run(x).copy()
    for count in (1, 2, 17):
        assert_same_bits(layer.run(x[:count]).copy(), want[:count])
    assert_same_bits(layer_of(dense, source, window=1).run(x[:1]).copy(), want[:1])


def test_another_matrix_is_what_counts(dense: Dense, opened: Opened) -> None:
    """And only it: taps before it stay, and with the first one back all is as it was."""
    source = opened("qwen3")
    layer, x = layer_of(dense, source), embedded(source)
    arrays = floats_of(source, 0)
    before = {tap.matrices: rows.copy() for tap, rows in passed(layer, x)}
    end = layer.x[: len(x)].copy()
    other = arrays["blocks.0.gate"][::-1].copy()
    layer.held.exchange("blocks.0.gate", other)
    after = {tap.matrices: rows.copy() for tap, rows in passed(layer, x)}
    for names, rows in before.items():
        assert np.array_equal(rows, after[names]) == (names != ("blocks.0.down",))
    fresh = Layer(dense, source, 0, WINDOW, {**arrays, "blocks.0.gate": other})
    assert_same_bits(layer.x[: len(x)].copy(), fresh.run(x))
    layer.held.exchange("blocks.0.gate", arrays["blocks.0.gate"])
    assert_same_bits(layer.run(x).copy(), end)


# ---- moments ----
def test_moments_of_a_tap(dense: Dense, opened: Opened) -> None:
    """Of windows one after another, and of two halves that are merged."""
    source = opened("stories260K")
    layer, tap = layer_of(dense, source), layer_of(dense, source).taps[3]
    assert tap.columns == 172  # no multiple of 16
    halves = Moments.empty(tap, dense), Moments.empty(tap, dense)
    x = embedded(source)
    rows = []
    for moments, first, last in ((halves[0], 0, 25), (halves[0], 25, 26), (halves[1], 26, 40)):
        *_, (tap, read) = passed(layer, x[first:last])
        moments.add(read, dense)
        rows.append(read.copy())
    halves[0].merge(halves[1])
    seen = np.concatenate(rows).astype(np.float64)
    assert halves[0].count == 40 and halves[0].matrices == ("blocks.0.down",)
    np.testing.assert_allclose(halves[0].mean, seen.T @ seen / 40, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(halves[0].mean, halves[0].mean.T)
    np.testing.assert_allclose(halves[0].absolute, np.abs(seen).sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(halves[0].largest, np.abs(seen).max(axis=0))


def test_what_lies_above_the_diagonal_is_of_no_account() -> None:
    x = np.array([[1, np.nan, np.nan], [2, 3, np.nan], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(symmetric(x), [[1, 2, 4], [2, 3, 5], [4, 5, 6]])

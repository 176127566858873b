"""Every family's layers one by one, between what it begins with and its head, are the engine; experts' taps
hold the rows of the tokens that come to each.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.calibrate.layers import Head, Layer, Tap, embedded, floats_of
from edgeq.calibrate.moments import learn, passed
from edgeq.calibrate.statistics import Statistics, calibrate, merge
from edgeq.calibrate.windows import Windows, check
from edgeq.converters import convert, open_source
from edgeq.converters.source import Source
from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats.arrays import ArraysWriter, open_arrays
from edgeq.models.experts import Config as Mixture
from edgeq.runtime.dense import Dense
from tests.golden.test_families import FAMILIES, HERE, TOLERANCE, distance, golden

Array = np.ndarray[Any, Any]

TOGETHER = {"gemma4", "gemma4-sees"}  # their layers have inputs, or read others' keys and values
APART = [name for name in FAMILIES if name not in TOGETHER]


def opened(name: str) -> Source:
    return open_source(HERE / "families" / name)


def one_by_one(dense: Dense, source: Source, ids: Array) -> Array:
    """float32 [tokens, vocabulary]."""
    (x,) = embedded(dense, source, source.tensors["embed"].floats(), ids[None])
    for i in range(source.config.num_hidden_layers):
        x = Layer(dense, source, i, len(ids), floats_of(source, i)).run(x).copy()
    w = source.tensors.get("output", source.tensors["embed"]).floats()
    return np.concatenate([part.copy() for part in Head(dense, source, w).logits(x)])


@pytest.mark.parametrize("name", APART)
def test_layers_one_by_one_are_the_engine(name: str, dense: Dense, tmp_path: Path) -> None:
    ids, wanted = golden(name)
    found = one_by_one(dense, opened(name), np.array(ids))
    assert distance(found, wanted) < TOLERANCE
    convert(HERE / "families" / name, tmp_path / "a.edgeq", scheme="f32")
    with engine.load(tmp_path / "a.edgeq", threads=1, act="f32", kv="f32") as model:
        theirs = model.logits(ids)
    np.testing.assert_array_equal(found.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("name", ["lfm2", "qwen3_5", "mistral"])
def test_a_window_is_longer_than_a_page(name: str, dense: Dense, tmp_path: Path) -> None:
    """The engine keeps states behind each."""
    folder = shutil.copytree(HERE / "families" / name, tmp_path / "long")
    words = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(words | {"max_position_embeddings": 512}))
    source = open_source(folder)
    ids = np.random.default_rng(1).integers(0, source.config.vocab_size, 300)
    convert(folder, tmp_path / "a.edgeq", scheme="f32")
    with engine.load(tmp_path / "a.edgeq", threads=1, act="f32", kv="f32") as model:
        theirs = model.logits(ids.tolist())
    np.testing.assert_array_equal(one_by_one(dense, source, ids), theirs)


@pytest.mark.parametrize("name", sorted(TOGETHER))
def test_layers_that_read_others_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="read what others made, and calibrating takes them one by"):
        check(opened(name))


# ---- experts ----
def mixture(source: Source) -> Mixture:
    assert isinstance(source.config, Mixture)
    return source.config


def routed(source: Source, i: int, h: Array) -> Array:
    """int [tokens, picked]: Mixtral's choice for rows that its router reads."""
    scores = h.astype(np.float64) @ source.tensors[f"blocks.{i}.router"].floats().T.astype(np.float64)
    chosen: Array = np.sort(np.argsort(-scores, axis=1)[:, : mixture(source).num_experts_per_tok], axis=1)
    return chosen


def test_experts_have_the_rows_of_their_tokens(dense: Dense) -> None:
    source = opened("mixtral")
    count = mixture(source).num_experts
    ids = np.array(golden("mixtral")[0])
    (x,) = embedded(dense, source, source.tensors["embed"].floats(), ids[None])
    layer = Layer(dense, source, 0, len(ids) + 3, floats_of(source, 0))
    seen: dict[str, tuple[Tap, list[Array]]] = {}
    for tap, _ in passed(layer, x):
        seen[tap.matrices[0].rpartition(".")[2]] = tap, [rows.copy() for rows in layer.shared(tap)]
    assert list(seen) == ["q", "o", "experts_gate", "experts_down"]
    assert len(seen["q"][1]) == 1 and seen["q"][0].experts == 0
    tap, shares = seen["experts_gate"]
    assert (tap.experts, tap.picked) == (count, mixture(source).num_experts_per_tok)
    arrays = floats_of(source, 0)
    middle = x + seen["o"][1][0].astype(np.float64) @ arrays["blocks.0.o"].T
    mean = np.square(middle).mean(axis=1, keepdims=True)
    h = middle / np.sqrt(mean + source.config.rms_norm_eps) * arrays["blocks.0.norm2"]
    chosen = routed(source, 0, h)
    width = mixture(source).moe_intermediate_size
    for expert, (rows, inner) in enumerate(zip(shares, seen["experts_down"][1], strict=True)):
        own = h[(chosen == expert).any(axis=1)]
        assert len(rows) == len(inner) == len(own)
        np.testing.assert_allclose(rows, own, rtol=1e-4, atol=1e-5)
        part = slice(expert * width, (expert + 1) * width)
        gate, up = (own @ arrays[f"blocks.0.experts_{name}"][part].T for name in ("gate", "up"))
        np.testing.assert_allclose(inner, gate / (1 + np.exp(-gate)) * up, rtol=1e-3, atol=1e-5)


def windows_of(source: Source, count: int = 6, length: int = 20) -> Windows:
    ids = np.random.default_rng(2).integers(0, source.config.vocab_size, (count, length))
    return Windows(ids, "ab" * 32, ids.size)


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_file_keeps_what_came_to_each_expert(diagonal: bool, dense: Dense, tmp_path: Path) -> None:
    source = opened("qwen3_moe")
    ran = windows_of(source)
    calibrate(source, tmp_path / "a", ran, dense, lambda *_: None, diagonal=diagonal)
    found = Statistics(tmp_path / "a")
    found.check(source)
    rows = embedded(dense, source, source.tensors["embed"].floats(), ran.parts()["learn"])
    taps = iter(found.taps)
    for i in range(source.config.num_hidden_layers):
        for shares in learn(Layer(dense, source, i, 20, floats_of(source, i)), rows, dense):
            shape = next(taps)
            assert shape.names == shares[0].matrices and shape.parts == len(shares)
            for expert, each in enumerate(shares):
                kept = found.moments("learn", shape, expert)
                assert kept.count == each.count
                wanted = np.diag(np.diagonal(each.mean)) if diagonal else each.mean
                np.testing.assert_array_equal(kept.mean, wanted)
                np.testing.assert_array_equal(kept.largest, each.largest)
    assert not list(taps)
    assert sum(shape.experts for shape in found.taps) == 2 * 6 * sum(source.config.sparse)  # type: ignore[attr-defined]
    merge([tmp_path / "a", tmp_path / "a"], tmp_path / "b")
    twice = Statistics(tmp_path / "b")
    last = found.taps[-1]
    for expert in range(last.experts):
        one, two = (each.moments("judge", last, expert) for each in (found, twice))
        assert two.count == 2 * one.count
        np.testing.assert_array_equal(two.products, 2 * one.products)


@pytest.mark.parametrize(
    ("taps", "sentence"),
    [
        ("0", "a tap of 0 experts"),
        ("-3", "a tap of -3 experts"),
        ("true", "a tap of True experts"),
        ('"6"', "a tap of '6' experts"),
        ("6, 6", "does not say what its arrays are of"),
        ("5", "is not .* numbers of float32"),
        ("1000000", "a tap of 1000000 experts"),
    ],
)
def test_experts_that_are_none_are_refused(taps: str, sentence: str, dense: Dense, tmp_path: Path) -> None:
    source = opened("qwen3_moe")
    calibrate(source, tmp_path / "a", windows_of(source), dense, lambda *_: None, diagonal=True)
    about, arrays = open_arrays(tmp_path / "a", "edgeq statistics 1")
    words = {"f": "F32", "i": "I64"}
    shapes = {name: (words[array.dtype.kind], array.shape) for name, array in arrays.items()}
    changed = {**about, "taps": about["taps"].replace(", 6]", f", {taps}]", 1)}
    assert changed != about
    with ArraysWriter(tmp_path / "b", changed, shapes) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
        writer.commit()
    with pytest.raises(FormatError, match=sentence):
        Statistics(tmp_path / "b")

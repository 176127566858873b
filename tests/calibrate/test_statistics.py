"""Files of moments: what is in them, that they add up, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.calibrate.layers import Layer, floats_of
from edgeq.calibrate.moments import passed
from edgeq.calibrate.statistics import (
    PARTS,
    Statistics,
    calibrate,
    identity,
    merge,
    packed,
    taps_of,
    unpacked,
)
from edgeq.calibrate.windows import Windows
from edgeq.converters import pipeline
from edgeq.converters.source import Source
from edgeq.errors import EdgeqError, FormatError, UsageError
from edgeq.formats.arrays import ArraysWriter, open_arrays
from edgeq.runtime.dense import Dense
from tests.converters.checkpoints import config, weights, write_directory

Array = np.ndarray[Any, Any]
SHA = "0123456789abcdef" * 4


def windows_of(seed: int, count: int = 4) -> Windows:
    ids = np.random.default_rng(seed).integers(0, 70, (count, 9))
    return Windows(ids, f"{seed:064x}", 100)


Kept = Callable[..., Path]


@pytest.fixture(scope="module")
def kept(opened: Callable[[str], Source], dense: Dense, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """kept(family, seed, diagonal) is a file of moments."""
    known: dict[tuple[str, int, bool], Path] = {}

    def one(family: str = "qwen2", seed: int = 1, diagonal: bool = False) -> Path:
        key = family, seed, diagonal
        if key not in known:
            path = tmp_path_factory.mktemp("kept") / "a.stats"
            calibrate(opened(family), path, windows_of(seed), dense, lambda *_: None, diagonal=diagonal)
            known[key] = path
        return known[key]

    return one


def test_packing() -> None:
    x = np.random.default_rng(0).standard_normal((7, 7)).astype(np.float32)
    assert np.array_equal(unpacked(packed(x), 7), np.tril(x))
    assert np.array_equal(packed(np.full((1, 1), 3)), [3])


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_it_holds_what_came_to_the_products(
    family: str, diagonal: bool, kept: Kept, opened: Callable[[str], Source], dense: Dense
) -> None:
    source, windows = opened(family), windows_of(1)
    found = Statistics(kept(family, 1, diagonal))
    found.check(source)
    assert found.diagonal == diagonal and found.tokens == windows.tokens
    assert found.taps == taps_of(source, dense)
    taps = iter(found.taps)
    rows = {part: source.tensors["embed"].floats()[windows.parts()[part]] for part in PARTS}
    for i in range(source.config.num_hidden_layers):
        layer = Layer(dense, source, i, windows.length, floats_of(source, i))
        came: dict[tuple[str, str], list[Array]] = {}
        for part in PARTS:
            for n, window in enumerate(rows[part]):
                for tap, x in passed(layer, window):
                    came.setdefault((part, tap.matrices[0]), []).append(x.astype(np.float64))
                rows[part][n] = layer.x[: len(window)]
        for _ in layer.taps:
            shape = next(taps)
            for part in PARTS:
                x, moments = np.concatenate(came[part, shape.names[0]]), found.moments(part, shape)
                wanted = x.T @ x / len(x)
                wanted = np.diag(np.diagonal(wanted)) if diagonal else wanted
                assert moments.count == len(x) and moments.matrices == shape.names
                np.testing.assert_allclose(moments.mean, wanted, atol=1e-4 * np.abs(wanted).max())
                np.testing.assert_allclose(moments.absolute, np.abs(x).sum(axis=0), rtol=1e-4)
                assert np.array_equal(moments.largest, np.abs(x).max(axis=0).astype(np.float32))


def test_the_same_bytes_whatever_the_threads(
    kept: Kept, opened: Callable[[str], Source], tmp_path: Path
) -> None:
    with Dense(1) as alone:
        calibrate(opened("qwen2"), tmp_path / "a", windows_of(1), alone, lambda *_: None)
    assert (tmp_path / "a").read_bytes() == kept().read_bytes()


def test_merged_files_add_up(kept: Kept, opened: Callable[[str], Source], tmp_path: Path) -> None:
    one, other = kept("qwen2", 1), kept("qwen2", 2)
    merge([one, other, one], tmp_path / "a")
    found, parts = Statistics(tmp_path / "a"), [Statistics(path) for path in (one, other, one)]
    found.check(opened("qwen2"))
    assert found.tokens == sum(part.tokens for part in parts) and found.taps == parts[0].taps
    assert found.about["text_sha256"] not in {part.about["text_sha256"] for part in parts}
    for tap in found.taps:
        for part in PARTS:
            moments = [each.moments(part, tap) for each in parts]
            total = found.moments(part, tap)
            assert total.count == sum(each.count for each in moments)
            assert np.array_equal(total.largest, np.maximum(moments[0].largest, moments[1].largest))
            for kind in ("products", "absolute"):
                first, second, third = (getattr(each, kind) for each in moments)
                assert np.array_equal(getattr(total, kind), first + second + third)
    merge([one], tmp_path / "b")
    assert Statistics(tmp_path / "b").tokens == parts[0].tokens


def test_what_does_not_go_together(kept: Kept, tmp_path: Path) -> None:
    for other in (kept("qwen3"), kept("qwen2", 1, True)):
        with pytest.raises(UsageError, match="are not of one model and kind"):
            merge([kept(), other], tmp_path / "a")
    with pytest.raises(UsageError, match="there are no files to merge"):
        merge([], tmp_path / "a")
    large = changed(kept(), tmp_path / "large", absolute=lambda x: np.full_like(x, 3e38))
    with pytest.raises(UsageError, match="the sums of learn/blocks.0.q.absolute are beyond float32"):
        merge([large, large], tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large"]


def test_another_model_is_another(opened: Callable[[str], Source], kept: Kept, tmp_path: Path) -> None:
    """By its shape, its names, or the beginnings of its numbers."""
    words = config("qwen2", intermediate_size=108, hidden_size=72, vocab_size=70)
    tensors = {key: x if x.ndim == 1 else x / 8 for key, x in weights(words).items()}
    same = pipeline.open_source(write_directory(tmp_path / "same", words, tensors))
    assert identity(same) == identity(opened("qwen2"))
    Statistics(kept()).check(same)
    last = {
        **tensors,
        "model.layers.1.mlp.down_proj.weight": tensors["model.layers.1.mlp.down_proj.weight"] * 2,
    }
    for n, (said, held) in enumerate([(words | {"rope_theta": 5000.0}, tensors), (words, last)]):
        other = pipeline.open_source(write_directory(tmp_path / str(n), said, held))
        with pytest.raises(UsageError, match="a.stats is of another model"):
            Statistics(kept()).check(other)


# ---- files of others ----
def changed(
    path: Path,
    made: Path,
    about: Callable[[dict[str, str]], object] = lambda about: None,
    **changes: Callable[[Array], Array | None],
) -> Path:
    """The file with other words, or with other arrays by the last part of their names; None leaves it out."""
    words, arrays = open_arrays(path, "edgeq statistics 1")
    words = dict(words)
    about(words)
    found = {}
    for name, x in arrays.items():
        new = changes.get(name.rpartition(".")[2], np.asarray)(np.array(x))
        if new is not None:
            found[name] = new
    kinds = {"<f2": "F16", "<f4": "F32", "<f8": "F64", "<i4": "I32", "<i8": "I64"}
    with ArraysWriter(
        made, words, {name: (kinds[x.dtype.str], x.shape) for name, x in found.items()}
    ) as writer:
        for name, x in found.items():
            writer.write(name, x)
        writer.commit()
    return made


def with_first(value: float) -> Callable[[Array], Array]:
    def change(x: Array) -> Array:
        x[0] = value
        return x

    return change


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("count", with_first(0), "count is no number of rows"),
        ("count", with_first(-1), "count is no number of rows"),
        ("count", with_first(1 << 62), "count is no number of rows"),
        ("count", lambda x: x.astype(np.int32), "count is no number of rows"),
        ("count", lambda x: np.array([1, 2]), "count is no number of rows"),
        ("count", lambda x: None, "count is no number of rows"),
        ("products", with_first(np.nan), "products holds what is not finite"),
        ("products", with_first(-np.inf), "products holds what is not finite"),
        ("products", with_first(-1.0), "products holds sums below nothing"),
        ("products", lambda x: x[:-1], "products is not 2628 numbers of float32"),
        ("products", lambda x: x.reshape(1, -1), "products is not 2628 numbers of float32"),
        ("products", lambda x: x.astype(np.float64), "products is not 2628 numbers of float32"),
        ("products", lambda x: None, "products is not 2628 numbers of float32"),
        ("largest", with_first(np.inf), "largest holds what is not finite"),
        ("absolute", with_first(-1.0), "absolute holds sums below nothing"),
        ("absolute", lambda x: None, "absolute is not 72 numbers of float32"),
    ],
)  # fmt: skip
def test_arrays_that_are_none(kind: str, change: Any, sentence: str, kept: Kept, tmp_path: Path) -> None:
    made = changed(kept(), tmp_path / "a", **{kind: change})
    with pytest.raises(FormatError, match=f"learn/blocks.0.q.{sentence}"):
        Statistics(made)


TAP = [["blocks.0.q"], 72]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("taps", "", "does not say its taps"),
        ("taps", "[", "taps of .* is not JSON"),
        ("taps", "[" * 5000, "nested deeper than 3 levels"),
        ("taps", "{}", "does not say what its arrays are of"),
        ("taps", "[1]", "does not say what its arrays are of"),
        ("taps", '["ab"]', "does not say what its arrays are of"),
        ("taps", '[["ab", 1]]', "does not say what its arrays are of"),
        ("taps", "[[[], 72]]", "does not say what its arrays are of"),
        ("taps", "[[[1], 72]]", "has a tap of 1, which is no name of a matrix"),
        ("taps", json.dumps([[["\x1b[2J"], 72]]), r"has a tap of '\\x1b\[2J', which is no name of a matrix"),
        ("taps", json.dumps([[["blocks.0.q"], 72.5]]), "has a tap of 72.5 columns"),
        ("taps", json.dumps([[["blocks.0.q"], -1]]), "has a tap of -1 columns"),
        ("taps", json.dumps([[["blocks.0.q"], 1 << 60]]), "has a tap of 1152921504606846976 columns"),
        ("taps", json.dumps([[["blocks.0.q"], 1 << 20]]), "is not 549756338176 numbers of float32"),
        ("taps", json.dumps([TAP, TAP]), "has two taps of one matrix"),
        ("taps", json.dumps([TAP]), "array 'judge/blocks.0.down.absolute' belongs to no tap"),
        ("taps", json.dumps([[["nothing"], 72]]), "learn/nothing.products is not"),
        ("model", "x", "does not say its model"),
        ("text_sha256", "\x1b[2J" + SHA[4:], "does not say its text_sha256"),
        ("tokens", "-1", "does not say its tokens"),
        ("tokens", "9" * 5000, "does not say its tokens"),
        ("tokens", "١", "does not say its tokens"),
        ("window", "1e9", "does not say its window"),
        ("diagonal", "2", "does not say its diagonal"),
        ("diagonal", "1", "is not 72 numbers of float32"),
    ],
)  # fmt: skip
def test_words_that_are_none(key: str, value: str, sentence: str, kept: Kept, tmp_path: Path) -> None:
    made = changed(kept(), tmp_path / "a", lambda about: about.__setitem__(key, value))
    with pytest.raises(FormatError, match=sentence):
        Statistics(made)
    made = changed(kept(), tmp_path / "a", lambda about: about.pop(key))
    with pytest.raises(FormatError, match=f"does not say its {key}"):
        Statistics(made)


@pytest.mark.parametrize("names", [["blocks.0.q", "blocks.0.k"], ["blocks.0.q", "blocks.0.k", "blocks.9.v"]])
def test_taps_that_are_not_the_models(
    names: list[str], kept: Kept, opened: Callable[[str], Source], tmp_path: Path
) -> None:
    """A matrix that is in no tap would be rounded without being calibrated, and nobody would know."""

    def change(about: dict[str, str]) -> None:
        rows = json.loads(about["taps"])
        rows[0][0] = names
        about["taps"] = json.dumps(rows)

    with pytest.raises(FormatError, match="is not of each matrix of the model's layers once"):
        Statistics(changed(kept(), tmp_path / "a", change)).check(opened("qwen2"))


def test_what_is_not_finite_is_not_kept(
    opened: Callable[[str], Source], dense: Dense, tmp_path: Path
) -> None:
    words = config("llama")
    tensors = weights(words)
    tensors["model.layers.1.input_layernorm.weight"][3] = np.nan
    source = pipeline.open_source(write_directory(tmp_path / "model", words, tensors))
    windows = Windows(windows_of(1).ids % 50, SHA, 100)
    with pytest.raises(FormatError, match=r"tensor 'blocks.1.q': the moments of .* inputs are not finite"):
        calibrate(source, tmp_path / "a", windows, dense, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_not_there(opened: Callable[[str], Source], dense: Dense, tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match="cannot be written: No such file"):
        calibrate(opened("qwen2"), tmp_path / "b" / "a", windows_of(1), dense, lambda *_: None)

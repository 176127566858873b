"""Calibration of every kind of family: the file is what was measured, and nearer to the model than one that
nothing was learnt for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine, formats
from edgeq.calibrate.statistics import Statistics
from edgeq.calibrate.windows import Windows
from edgeq.converters import convert, open_source
from edgeq.converters.recipe import choose, load
from edgeq.converters.source import Source
from edgeq.errors import UnsupportedError, UsageError
from edgeq.evaluate.windows import kld_of_rows
from edgeq.formats import SCHEMES
from edgeq.models.experts import Config as Mixture
from edgeq.quantize.budget import Budget
from edgeq.quantize.estimate import Shapes, memory
from edgeq.quantize.experts import JUDGED_MIN, joined, known_of, quantize_experts, without_data
from edgeq.quantize.ladder import Judge, climb
from edgeq.quantize.methods import METHODS
from edgeq.quantize.pipeline import estimate, keep_statistics, measure, quantize
from edgeq.quantize.presets import preset_of
from edgeq.quantize.streams import LEARN, Pair, Streams, between
from edgeq.quantize.task import Seen, Task
from edgeq.quantize.trial import trial
from edgeq.runtime.dense import Dense
from tests.golden.test_families import HERE as GOLDEN
from tests.quantize.matrices import inputs, matrix, second_moments

Array = np.ndarray[Any, Any]

# Of each way in which families differ from Llama: what they begin and end with, where norms stand, what runs
# side by side, caps and factors, states, experts with and without an MLP beside them.
FAMILIES = (
    "gpt2", "gpt_neox", "stablelm-parallel", "cohere2", "gemma2", "granite", "olmo2", "glm4", "apertus",
    "lfm2", "qwen3_5", "mixtral", "gpt_oss", "qwen2_moe", "gemma4-mixture",
)  # fmt: skip
LENGTH, COUNT = 64, 48
E3 = choose(scheme="e3")
GIVEN: dict[str, Any] = dict(recipe=E3, threads=1)


def opened(name: str) -> Source:
    return open_source(GOLDEN / "families" / name)


def random_windows(source: Source, count: int = COUNT) -> Windows:
    length = min(LENGTH, source.config.max_position_embeddings)
    ids = np.random.default_rng(5).integers(0, source.config.vocab_size, (count, length))
    return Windows(ids, "ab" * 32, ids.size)


@pytest.fixture(autouse=True)
def random_text() -> Iterator[None]:
    """The goldens have no tokenizers."""
    with pytest.MonkeyPatch.context() as patch:
        for where in ("edgeq.quantize.run.cut", "edgeq.calibrate.windows.cut"):
            patch.setattr(where, lambda source, texts, tokens: random_windows(source))
        yield


def logits_of(path: Path, windows: Array) -> list[Array]:
    """Of the second halves of windows, as divergences are."""
    half = windows.shape[1] // 2
    with engine.load(path, threads=1, act="f32", kv="f32") as model:
        return [model.logits(window.tolist())[half:-1].copy() for window in windows]


def divergence(exact: list[Array], path: Path, windows: Array) -> float:
    others = logits_of(path, windows)
    return float(np.mean([kld_of_rows(p, q).mean() for p, q in zip(exact, others, strict=True)]))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_learnt_brings_the_model_nearer(name: str, tmp_path: Path) -> None:
    source = opened(name)
    windows = random_windows(source).parts()["report"]
    convert(GOLDEN / "families" / name, tmp_path / "float", scheme="f32")
    exact = logits_of(tmp_path / "float", windows)
    quantize(source, tmp_path / "fast", quality="fast", **GIVEN)
    fast = divergence(exact, tmp_path / "fast", windows)
    for quality in ("good", "best"):
        result = quantize(source, tmp_path / quality, quality=quality, **GIVEN)
        assert formats.verify(tmp_path / quality) == []
        found = divergence(exact, tmp_path / quality, windows)
        assert result.divergence == pytest.approx(found, rel=0.01)  # told is what the engine does
        assert 0 < found < 0.92 * fast
        assert result.helped["gptq"] > result.helped["search"] / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_where_nothing_is_rounded_no_target_moves(name: str, dense: Dense) -> None:
    """Of products with a bias, too, and of those that are added to the rows beside others."""
    source = opened(name)
    ids = {LEARN: random_windows(source, 4).ids}
    embed = source.tensors["embed"].floats()
    streams = Streams.of(dense, source, ids, embed, embed, ids)
    for i in range(source.config.num_hidden_layers):
        pair = Pair(dense, source, i, ids[LEARN].shape[1])
        for exact, rounded in zip(pair.exact.taps, pair.rounded.taps, strict=True):
            found = between(pair, streams, LEARN, exact, rounded, follow=True)
            assert sum(each.count for each in found) == ids[LEARN].size * exact.picked
            if exact.experts:
                assert all(each.wanted is None and each.drift is None for each in found)
                continue
            w = pair.matrix(exact.matrices[0])
            pull = found[0].pull(w, dense)
            assert pull is not None
            size = np.abs(w @ found[0].h).max()
            assert np.abs(pull).max() < 1e-4 * size
        pair.advance(streams)
        np.testing.assert_array_equal(streams.exact[LEARN], streams.rounded[LEARN])


def test_a_family_that_nothing_is_known_of_goes_without_transforms(tmp_path: Path) -> None:
    told: list[str] = []
    given: dict[str, Any] = dict(quality="good", tell=told.append, **GIVEN)
    quantize(opened("gemma2"), tmp_path / "a", transforms=["awq", "rotate"], **given)
    assert told == [
        "nothing is known of what feeds what in family gemma2: it is quantized without awq, rotate"
    ]
    quantize(opened("gemma2"), tmp_path / "b", **given)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(UsageError, match="transform 'quip' is unknown"):
        quantize(opened("gemma2"), tmp_path / "a", transforms=["quip"], **given)


@pytest.mark.parametrize("folder", ["families/gemma4", "vectors/encoder"])
def test_what_does_not_run_layer_by_layer_is_rounded_without_calibration(folder: str, tmp_path: Path) -> None:
    source = open_source(GOLDEN / folder)
    quantize(source, tmp_path / "a", quality="fast", **GIVEN)
    assert formats.verify(tmp_path / "a") == []
    calls: tuple[Callable[[], object], ...] = (
        lambda: quantize(source, tmp_path / "b", **GIVEN),
        lambda: estimate(source),
        lambda: measure(source),
        lambda: keep_statistics(source, tmp_path / "b"),
    )
    for call in calls:
        with pytest.raises(UnsupportedError, match="quantize --quality fast, or edgeq convert, rounds its"):
            call()
    assert not (tmp_path / "b").exists()


# ---- mixtures ----
def tensors_of(path: Path) -> dict[str, tuple[str, bytes]]:
    with formats.open_model(path) as file:
        return {name: (tensor.scheme.name, tensor.data.tobytes()) for name, tensor in file.tensors.items()}


def test_experts_keep_their_blocks_and_the_rest_is_calibrated(tmp_path: Path) -> None:
    source, recipe = opened("gpt_oss-mxfp4"), load("keep-experts")
    result = quantize(source, tmp_path / "a", recipe=recipe, threads=1)
    convert(GOLDEN / "families" / "gpt_oss-mxfp4", tmp_path / "kept", scheme="keep")
    found, kept = tensors_of(tmp_path / "a"), tensors_of(tmp_path / "kept")
    experts = {
        name for name in found if name.rpartition(".")[2] in ("experts_gate", "experts_up", "experts_down")
    }
    assert experts and all(found[name] == kept[name] and found[name][0] == "mx4" for name in experts)
    assert {found[name][0] for name in found if name[-2:] in (".q", ".k", ".v", ".o")} == {"q8"}
    assert result.divergence is not None and 0 < result.divergence < 0.01
    with pytest.raises(UsageError, match="is quantized already"):
        quantize(source, tmp_path / "b", threads=1)
    with pytest.raises(UsageError, match=r"'blocks.\*.experts_\*' matches no matrix of this model"):
        quantize(opened("llama"), tmp_path / "b", recipe=recipe, threads=1)


def test_by_a_file_of_moments_it_is_the_same(tmp_path: Path) -> None:
    keep_statistics(opened("qwen2_moe"), tmp_path / "stats", threads=1)
    quantize(opened("qwen2_moe"), tmp_path / "a", **GIVEN)
    quantize(opened("qwen2_moe"), tmp_path / "b", statistics=Statistics(tmp_path / "stats"), **GIVEN)
    assert tensors_of(tmp_path / "a") == tensors_of(tmp_path / "b")


def test_experts_that_saw_too_little_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.quantize.experts.JUDGED_MIN", 10**6)
    told: list[str] = []
    quantize(opened("mixtral"), tmp_path / "a", tell=told.append, **GIVEN)
    layers = opened("mixtral").config.num_hidden_layers
    assert told == [
        f"{3 * 4 * layers} matrices of experts, to which too little came, are rounded without calibration"
    ]
    with formats.open_model(tmp_path / "a") as file:
        rows = {row["name"]: row for row in file.header["tensors"]}
    assert rows["blocks.0.experts_up"]["experts_unseen"] == 4 and "error" not in rows["blocks.0.experts_up"]
    assert rows["blocks.0.experts_up"]["method"] == "search" and "gptq" in rows["blocks.0.q"]["method"]
    convert(GOLDEN / "families" / "mixtral", tmp_path / "b", scheme="e3")
    assert (
        tensors_of(tmp_path / "a")["blocks.0.experts_up"] == tensors_of(tmp_path / "b")["blocks.0.experts_up"]
    )


@pytest.mark.parametrize("scheme", ["e4", "e2", "q8"])
def test_each_expert_is_quantized_as_it_would_be_alone(scheme: str, dense: Dense) -> None:
    steps, row = ("search", "importance", "gptq"), SCHEMES[scheme]
    w = matrix(48, 70)
    h = [second_moments(inputs(300, 70, seed)) for seed in range(3)]
    known = [known_of(300, h[0], 100, h[0], dense), None, known_of(300, h[2], 300, h[2], dense)]
    (found,) = quantize_experts({"a": w}, {"a": row}, steps, known, 3, dense, 0).values()
    errors = []
    for k in range(3):
        own = np.ascontiguousarray(w[16 * k : 16 * k + 16])
        if k == 1:
            parts: Any = METHODS["search"].run(Task(own, row, None, dense), None)
        else:
            alone = climb(Task(own, row, Seen(h[k], dense), dense, 0), steps, Judge(h[k], None, dense))
            parts = alone.parts
            errors.append(alone.error)
        for name, array in found.parts.items():
            np.testing.assert_array_equal(array[16 * k : 16 * k + 16], parts[name])
    assert found.unseen == 1 and found.error == pytest.approx((errors[0] + 3 * errors[1]) / 4)
    assert set(found.helped) | set(found.undone) == set(steps)


def test_how_much_is_enough(dense: Dense) -> None:
    h = second_moments(inputs(100, 64))
    assert known_of(8, h, JUDGED_MIN, h, dense) is not None
    assert known_of(7, h, JUDGED_MIN, h, dense) is None and known_of(8, h, JUDGED_MIN - 1, h, dense) is None
    assert without_data(("rtn", "gptq")) == ("rtn",) and without_data(("importance",)) == ("search",)
    empty = quantize_experts(
        {"a": matrix(32, 64)}, {"a": SCHEMES["e4"]}, ("search",), [None] * 2, 2, dense, 0
    )
    assert math.isnan(empty["a"].error) and empty["a"].unseen == 2 and "error" not in empty["a"].facts
    assert joined([(empty["a"], 0)]) is empty["a"]


def test_schemes_of_a_mixture_under_a_budget(tmp_path: Path) -> None:
    source = opened("mixtral")
    found = measure(source, threads=1)
    assert all(row.divergence > 0 and row.proxy > 0 for row in found.rows)
    assert {row.name for row in found.rows} >= {"blocks.0.experts_down", "embed", "output"}
    result = quantize(source, tmp_path / "a", budget=Budget(bits_per_weight=4.5), threads=1)
    assert result.bits_per_weight <= 4.5 and formats.verify(tmp_path / "a") == []


def test_a_preset_of_a_mixture(dense: Dense) -> None:
    source = opened("mixtral")
    parts = random_windows(source).parts()
    found = {
        name: trial(source, preset_of(name), parts["learn"], parts["judge"], dense).kld
        for name in ("w8a16", "w4a16", "gptq")
    }
    assert 0 < found["w8a16"] < found["w4a16"] < found["gptq"]


def test_memory_of_experts() -> None:
    source = opened("mixtral")
    c, found = source.config, Shapes.of(source)
    assert isinstance(c, Mixture)
    assert found.count == c.num_experts and found.picked == c.num_experts_per_tok
    assert found.read == found.weights - (1 - found.picked / found.count) * sum(
        rows * columns for rows, columns in found.experts
    )
    wide = Shapes(2, 2048, ((2048, 2048), (128 * 768, 2048)), ((9, 2048),), ((128 * 768, 2048),), 128, 8)
    assert memory(wide, 0) > 4 * (2 * wide.weights + 2 * 128 * 2048 * 2048)

"""What rounding each matrix costs, against a model with that one matrix rounded, computed on its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.calibrate.layers import Head, Layer, floats_of
from edgeq.calibrate.moments import Moments, passed
from edgeq.converters import open_source
from edgeq.converters.recipe import matrices
from edgeq.converters.source import Source
from edgeq.errors import FormatError
from edgeq.formats import SCHEMES
from edgeq.quantize import sensitivity
from edgeq.quantize.ladder import Judge, climb
from edgeq.quantize.methods.search import search
from edgeq.quantize.pipeline import quantize
from edgeq.quantize.sensitivity import CANDIDATES, MEASURED, Sensitivity, rank_correlation, sensitivities
from edgeq.quantize.task import Seen, Task
from edgeq.runtime.dense import Dense
from tests.converters.checkpoints import config, weights, write_directory

Array = np.ndarray[Any, Any]
STEPS = ("search", "importance", "gptq")
MODELS: dict[str, dict[str, Any]] = {  # sizes that no block or tile divides; biases, norms; one layer
    "qwen2": dict(hidden_size=72, intermediate_size=108, vocab_size=70),
    "qwen3": dict(hidden_size=40, intermediate_size=60, vocab_size=33, tie_word_embeddings=True),
    "llama": dict(num_hidden_layers=1),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Source]:
    known: dict[str, Source] = {}

    def one(family: str) -> Source:
        if family not in known:
            words = config(family, **MODELS[family])
            tensors = {key: x if x.ndim == 1 else x / 6 for key, x in weights(words).items()}
            known[family] = open_source(write_directory(tmp_path_factory.mktemp(family), words, tensors))
        return known[family]

    return one


@pytest.fixture(scope="module")
def measured(opened: Callable[[str], Source], dense: Dense) -> Callable[[str], list[Sensitivity]]:
    known: dict[str, list[Sensitivity]] = {}

    def one(family: str) -> list[Sensitivity]:
        if family not in known:
            source = opened(family)
            known[family] = sensitivities(source, dense, *ids_of(source), STEPS, lambda *_: None)
        return known[family]

    return one


def ids_of(source: Source) -> tuple[Array, Array]:
    """Of windows that are learnt from, and of those that divergences are measured on."""
    ids = np.random.default_rng(3).integers(0, source.config.vocab_size, (7, 12))
    return ids[:4], ids[4:]


def probabilities(source: Source, dense: Dense, ids: Array, changed: dict[str, Array]) -> Array:
    """float64 [rows, vocabulary], logarithms, of the second halves of windows, one layer after another."""

    def matrix(name: str) -> Array:
        return changed[name] if name in changed else source.tensors[name].floats()

    rows = matrix("embed")[ids].copy()
    for i in range(source.config.num_hidden_layers):
        arrays = {name: changed.get(name, x) for name, x in floats_of(source, i).items()}
        layer = Layer(dense, source, i, ids.shape[1], arrays)
        for n in range(len(rows)):
            rows[n] = layer.run(rows[n])
    head = Head(dense, source, matrix("output" if "output" in source.tensors else "embed"))
    x = rows[:, ids.shape[1] // 2 : -1].reshape(-1, rows.shape[-1])
    logits = np.concatenate([part.copy() for part in head.logits(x)]).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def rounded(source: Source, dense: Dense, learn: Array, name: str) -> tuple[Array, float]:
    """A matrix in MEASURED by the steps, on what comes to it in the float model; the error of its outputs."""
    w, scheme = source.tensors[name].floats(), SCHEMES[MEASURED]
    if not name.startswith("blocks."):
        task = Task(w, scheme, None, dense)
        values = task.values(search(task, None))
        return values, float(((values - w) ** 2).sum() / (w**2).sum())
    rows = source.tensors["embed"].floats()[learn].copy()
    for i in range(int(name.split(".")[1]) + 1):
        layer = Layer(dense, source, i, learn.shape[1], floats_of(source, i))
        found = {tap.matrices: Moments.empty(tap, dense) for tap in layer.taps}
        for n, window in enumerate(rows):
            for tap, x in passed(layer, window):
                found[tap.matrices].add(x, dense)
            rows[n] = layer.x[: len(window)]
    h = next(moments.mean for names, moments in found.items() if name in names)
    task = Task(w, scheme, Seen(h, dense), dense)
    best = climb(task, STEPS, Judge(h, None, dense))
    return task.values(best.parts), best.error


@pytest.mark.parametrize("family", MODELS)
def test_it_is_the_divergence_of_the_model_with_one_matrix_rounded(
    family: str, opened: Callable[[str], Source], measured: Callable[[str], list[Sensitivity]], dense: Dense
) -> None:
    """Of the embedding, which may be the head, too, the head, and matrices of the first and last layer."""
    source, rows = opened(family), {row.name: row for row in measured(family)}
    assert list(rows) == matrices(source.family, source.config)
    assert ("output" in rows) == (family != "qwen3")
    learn, judge = ids_of(source)
    log_p = probabilities(source, dense, judge, {})
    last = f"blocks.{source.config.num_hidden_layers - 1}"
    for name in {"embed", "output", "blocks.0.q", "blocks.0.k", "blocks.0.o", f"{last}.up", f"{last}.down"}:
        if name not in rows:
            continue
        values, error = rounded(source, dense, learn, name)
        log_q = probabilities(source, dense, judge, {name: values})
        divergence = float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
        assert rows[name].divergence == pytest.approx(divergence, rel=2e-3, abs=1e-6), name
        assert rows[name].proxy == pytest.approx(error, rel=1e-3)
        assert rows[name].weights == math.prod(source.tensors[name].shape)


@pytest.mark.parametrize("family", MODELS)
def test_more_bits_cost_less(family: str, measured: Callable[[str], list[Sensitivity]]) -> None:
    for row in measured(family):
        costs = [row.cost(scheme) for scheme in CANDIDATES]
        assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0]
        assert row.errors[MEASURED] == 1 and row.cost(MEASURED) == row.divergence > 0
        assert Sensitivity(**row.to_json()) == row


def test_the_same_whatever_the_threads_and_less_where_memory_is_short(
    opened: Callable[[str], Source],
    measured: Callable[[str], list[Sensitivity]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = opened("llama")
    learn, judge = ids_of(source)
    with Dense(2) as two:
        assert sensitivities(source, two, learn, judge, STEPS, lambda *_: None) == measured("llama")
        monkeypatch.setattr(sensitivity, "VARIANT_BYTES", 0)
        found = sensitivities(source, two, learn, judge, STEPS, lambda *_: None)
        assert found == sensitivities(source, two, learn, judge[:1], STEPS, lambda *_: None)


def changed(source: Source, name: str, x: Array) -> Source:
    tensor = replace(source.tensors[name], kind="F32", data=x.view(np.uint8).reshape(-1), order=None)
    return replace(source, tensors={**source.tensors, name: tensor})


@pytest.mark.parametrize("name", ["output", "blocks.0.v", "blocks.0.norm2"])
def test_what_is_zero(name: str, opened: Callable[[str], Source], dense: Dense) -> None:
    """A head, a matrix, or the inputs of some: figures all the same."""
    source = opened("llama")
    nothing = changed(source, name, np.zeros(source.tensors[name].shape, np.float32))
    for row in sensitivities(nothing, dense, *ids_of(source), STEPS, lambda *_: None):
        assert math.isfinite(row.proxy) and row.divergence >= 0
        assert all(math.isfinite(row.cost(scheme)) for scheme in CANDIDATES)


def test_predictions_that_are_not_finite_are_told(opened: Callable[[str], Source], dense: Dense) -> None:
    source = opened("llama")
    spoilt = changed(source, "norm", np.full(source.tensors["norm"].shape, np.inf, np.float32))
    with np.errstate(all="ignore"), pytest.raises(FormatError, match="predictions are not finite"):
        sensitivities(spoilt, dense, *ids_of(source), STEPS, lambda *_: None)


def test_ranks() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == 1 and rank_correlation([1, 2, 3], [3, 2, 1]) == -1
    assert rank_correlation([1], [1]) == rank_correlation([], []) == 1
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)


@pytest.mark.parametrize("family", MODELS)
def test_no_model_is_left_without_a_file(
    family: str, opened: Callable[[str], Source], tmp_path: Path
) -> None:
    """Fast, of sizes that no block divides; without a tokenizer there is no calibration."""
    quantize(opened(family), tmp_path / "a.edgeq", quality="fast", threads=1)
    assert (tmp_path / "a.edgeq").exists()


def test_the_tokens_that_are_told_are_those_that_were_scored(
    monkeypatch: pytest.MonkeyPatch, demo_checkpoint: Path
) -> None:
    """The second halves of as many windows as there is memory for."""
    from edgeq.quantize import sensitivity
    from edgeq.quantize.pipeline import measure

    monkeypatch.setattr(sensitivity, "VARIANT_BYTES", 1)
    assert measure(demo_checkpoint, tokens=8192, threads=1).tokens == 255

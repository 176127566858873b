"""Perplexity, divergence and throughput on models without weights, against plain NumPy."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq.errors import FormatError, UsageError
from edgeq.evaluate import (
    divergence,
    divergences,
    gate,
    measure,
    missed,
    paired,
    perplexity,
    throughput,
    windows,
)
from edgeq.evaluate.divergence import GATED
from edgeq.evaluate.windows import ROWS_AT_ONCE, cut, kld_of_rows, log_softmax, scored
from tests.fake_model import BOS, VOCAB, FakeModel, script

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 3  # 237 bytes


def chances(model: FakeModel, window: list[int]) -> NDArray[np.float64]:
    """The probability of each token after the first, the long way."""
    found = []
    for place in range(1, len(window)):
        weights = np.exp(model.next_logits(window[:place]).astype(np.float64))
        found.append(weights[window[place]] / weights.sum())
    return np.array(found)


def expected_windows(context: int) -> list[list[int]]:
    ids = [BOS, *script(TEXT)]
    return [[BOS, *ids[i + 1 : i + context]] for i in range(0, len(ids) - context + 1, context)]


@pytest.mark.parametrize("context", [8, 33, 64, 200])
def test_perplexity_is_the_definition(context: int) -> None:
    model = FakeModel()
    found = perplexity(model, TEXT, context=context)
    losses = np.concatenate([-np.log(chances(model, w))[context // 2 :] for w in expected_windows(context)])
    assert found.tokens == len(losses) == found.windows * (context - 1 - context // 2)
    assert math.isclose(found.perplexity, math.exp(losses.mean()), rel_tol=1e-9)
    assert math.isclose(
        found.standard_error, found.perplexity * losses.std(ddof=1) / math.sqrt(len(losses)), rel_tol=1e-9
    )
    assert found.text_tokens == 1 + len(TEXT) and found.context == context
    assert found.text_sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert json.loads(json.dumps(found.to_json()))["perplexity"] == found.perplexity
    assert all(sequence.closed for sequence in model.sequences)


@pytest.mark.parametrize("context", [8, 33, 200])
def test_the_protocol_of_gptq(context: int) -> None:
    model, ids = FakeModel(), [BOS, *script(TEXT)]
    found = perplexity(model, TEXT, context=context, protocol="gptq")
    windows = [ids[i : i + context] for i in range(0, len(ids) - context + 1, context)]
    losses = np.concatenate([-np.log(chances(model, window)) for window in windows])
    assert found.tokens == len(losses) == found.windows * (context - 1) and found.windows == len(windows)
    assert math.isclose(found.perplexity, math.exp(losses.mean()), rel_tol=1e-9)
    assert (
        found.protocol
        == f"windows of {context} tokens as they come, without overlap, all but the first scored"
    )
    assert perplexity(FakeModel(context=100), TEXT, protocol="gptq").context == 100
    with pytest.raises(UsageError, match="protocol"):
        perplexity(model, TEXT, protocol="gtpq")


def test_a_model_without_opinion_has_the_vocabulary_as_perplexity() -> None:
    model = FakeModel()
    model.next_logits = lambda ids: np.full(VOCAB, 5.0, np.float32)  # type: ignore[method-assign]
    found = perplexity(model, TEXT, context=64)
    assert math.isclose(found.perplexity, VOCAB, rel_tol=1e-12) and found.standard_error < 1e-9


def test_the_size_of_a_block_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = perplexity(FakeModel(), TEXT, context=64)
    monkeypatch.setattr(windows, "BLOCK_BYTES", 1)
    assert perplexity(FakeModel(), TEXT, context=64).nll == whole.nll


def test_default_window_ids_and_progress() -> None:
    model = FakeModel(context=100)
    calls: list[tuple[int, int, float]] = []
    found = perplexity(model, TEXT, progress=lambda *call: calls.append(call))
    assert found.context == 100 and found.windows == 2
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)] and calls[-1][2] == found.perplexity
    # ids are taken as they are; they begin with BOS here, so every window does
    assert perplexity(model, [BOS, *script(TEXT)]).nll == found.nll
    assert perplexity(model, script(TEXT)).nll != found.nll
    assert cut(model, script(TEXT), 64).ids[1, 0] != BOS
    model.tokenizer = None
    assert perplexity(model, script(TEXT), context=64).windows == 3


def test_no_more_is_fed_than_needed_and_only_scored_rows_are_kept() -> None:
    model = FakeModel()
    cutting = cut(model, TEXT, 64)
    blocks = list(scored(model, cutting))
    assert len(model.fed) == 3 * 63
    assert (
        np.concatenate([targets for _, _, targets in blocks]).tolist() == cutting.ids[:, 33:].ravel().tolist()
    )
    assert sum(len(logits) for _, logits, _ in blocks) == cutting.tokens


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        ("short", None, "6 tokens, but one window needs 256"),
        (TEXT, 7, "window is 7"),
        (TEXT, 257, "window is 257"),
        ("", 8, "1 tokens, but one window needs 8"),
        ([VOCAB], 8, "token id"),
    ],
)
def test_texts_and_windows_that_cannot_be(text: Any, context: int | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        perplexity(FakeModel(), text, context=context)


def test_logits_that_are_no_numbers_end_the_evaluation() -> None:
    model = FakeModel()
    model.next_logits = lambda ids: np.full(VOCAB, np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(FormatError, match="edgeq verify"):
        perplexity(model, TEXT, context=64)
    assert model.sequences[0].closed


def test_two_models_on_the_same_tokens() -> None:
    models = [FakeModel(noise=0.3), FakeModel(noise=0.1)]
    one, other = divergences(models, FakeModel(), TEXT, context=64)
    for measured, noise in ((one, 0.3), (other, 0.1)):
        alone = divergence(FakeModel(noise=noise), FakeModel(), TEXT, context=64).to_json()
        assert measured.figures.to_json() | {"seconds": 0} == alone | {"seconds": 0}
    found, klds = paired(one, other), one.rows[0] - other.rows[0]
    assert found.kld == pytest.approx(one.figures.kld_mean - other.figures.kld_mean) and not found.equal
    error = klds.std(ddof=1) / math.sqrt(len(klds))
    assert (found.kld_low, found.kld_high) == pytest.approx(
        (klds.mean() - 1.96 * error, klds.mean() + 1.96 * error)
    )
    assert found.agreement == pytest.approx(one.figures.agreement - other.figures.agreement)
    assert found.perplexity_ratio == pytest.approx(one.figures.perplexity / other.figures.perplexity)
    assert found.kld_low > 0 and paired(other, one).kld == -found.kld
    same = paired(*divergences([FakeModel(noise=0.3)] * 2, FakeModel(), TEXT, context=64))
    assert same.equal and same.kld == same.kld_high == 0 and same.perplexity_ratio == 1
    smaller = FakeModel()
    smaller.tokenizer.encode = lambda text, **_: [BOS, *script(text)][::-1]
    with pytest.raises(UsageError, match="turn the text into different tokens"):
        divergences([FakeModel(), smaller], FakeModel(), TEXT, context=64)


def test_a_gate() -> None:
    terms = gate("kld<0.003 and ppl <= 1.01 and same>98.5%and max > .5e-1", GATED)
    assert [str(term) for term in terms] == ["kld < 0.003", "ppl <= 1.01", "same > 0.985", "max > 0.05"]
    figures = {"kld": 0.0029, "ppl": 1.01, "same": 0.986, "max": 1.0, "p99": 9.0}
    assert missed(terms, figures) == []
    figures |= {"kld": 0.003, "same": 0.985, "ppl": math.nan}
    assert missed(terms, figures) == [
        "kld is 0.003, not < 0.003", "ppl is nan, not <= 1.01", "same is 0.985, not > 0.985"
    ]  # fmt: skip
    found = divergence(FakeModel(noise=0.3), FakeModel(), TEXT, context=64)
    assert set(found.gated()) == set(GATED) and found.gated()["p99.9"] == found.kld_p999


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a gate is a figure and its limit, as in 'kld < 0.5'.*it has ''"),
        ("kld", "it has 'kld'"),
        ("kld = 1", "it has 'kld = 1'"),
        ("kld < 1 and", "it has ''"),
        ("kld < -1", "it has 'kld < -1'"),
        ("kld < 1 or ppl < 1", "it has 'kld < 1 or ppl < 1'"),
        ("wer < 1", "no figure is called 'wer'; a gate knows kld, max, median, p99, p99.9, ppl, same"),
    ],
)
def test_what_is_no_gate(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        gate(text, GATED)


def test_log_softmax_does_not_overflow() -> None:
    rows = np.array([[1e38, 0, -1e38], [1, 1, 1]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = log_softmax(rows)
    assert found.dtype == np.float64 and found[0, 0] == 0 and np.allclose(found[1], -math.log(3), rtol=1e-15)
    model = FakeModel()
    model.next_logits = lambda ids: np.array([1e9] + [0] * (VOCAB - 1), np.float32)  # type: ignore[method-assign]
    assert math.isfinite(perplexity(model, TEXT, context=64).perplexity)


def test_kld_of_rows() -> None:
    """Also of more rows than are computed at once."""
    rng = np.random.default_rng(5)
    p, q = (rng.normal(size=(ROWS_AT_ONCE + 3, 7)).astype(np.float32) for _ in range(2))
    found = kld_of_rows(p, q)
    for row, a, b in zip(found, p.astype(np.float64), q.astype(np.float64), strict=True):
        a, b = np.exp(a) / np.exp(a).sum(), np.exp(b) / np.exp(b).sum()
        assert row == pytest.approx((a * np.log(a / b)).sum(), rel=1e-9)
    assert kld_of_rows(p, p).max() == 0


def test_divergence_is_the_definition() -> None:
    model, reference = FakeModel(noise=0.3), FakeModel()
    found = divergence(model, reference, TEXT, context=64)
    kld, same, p_next, q_next, largest = [], [], [], [], []
    for window in expected_windows(64):
        for place in range(33, 64):
            logits, wanted = model.next_logits(window[:place]), reference.next_logits(window[:place])
            q, p = (
                np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum() for x in (logits, wanted)
            )
            kld.append(float((p * np.log(p / q)).sum()))
            same.append(logits.argmax() == wanted.argmax())
            p_next.append(p[window[place]])
            q_next.append(q[window[place]])
            largest.append(abs(p - q).max())
    pn, qn = np.array(p_next), np.array(q_next)
    wanted_figures = {
        "kld_mean": np.mean(kld),
        "kld_median": np.median(kld),
        "kld_p99": np.quantile(kld, 0.99),
        "kld_p999": np.quantile(kld, 0.999),
        "kld_max": max(kld),
        "agreement": np.mean(same),
        "perplexity": math.exp(-np.log(qn).mean()),
        "reference_perplexity": math.exp(-np.log(pn).mean()),
        "perplexity_ratio": math.exp((np.log(pn) - np.log(qn)).mean()),
        "difference_mean": (qn - pn).mean(),
        "difference_rms": math.sqrt(((qn - pn) ** 2).mean()),
        "difference_max": max(largest),
        "kld_standard_error": np.std(kld, ddof=1) / math.sqrt(len(kld)),
    }
    figures = found.to_json()
    for name, value in wanted_figures.items():
        assert math.isclose(figures[name], value, rel_tol=1e-8), name
    assert 0 < found.agreement < 1 and found.tokens == len(kld) == 3 * 31
    assert math.isclose(found.perplexity_ratio, found.perplexity / found.reference_perplexity, rel_tol=1e-9)
    assert found.perplexity == perplexity(model, TEXT, context=64).perplexity


def test_a_model_does_not_diverge_from_itself() -> None:
    found = divergence(FakeModel(), FakeModel(context=99), TEXT)
    assert (found.kld_mean, found.kld_max, found.difference_max) == (0, 0, 0)
    assert (found.agreement, found.perplexity_ratio, found.perplexity_ratio_standard_error) == (1, 1, 0)
    assert found.context == 99
    json.dumps(found.to_json(), allow_nan=False)


def test_more_noise_diverges_more() -> None:
    means = [divergence(FakeModel(noise=n), FakeModel(), TEXT, context=64).kld_mean for n in (0.01, 0.1, 1.0)]
    assert means == sorted(means) and means[0] > 0


def test_models_that_cannot_be_compared() -> None:
    other = FakeModel()
    other.vocab_size = VOCAB + 1
    with pytest.raises(UsageError, match=f"has {VOCAB} tokens and the reference {VOCAB + 1}"):
        divergence(FakeModel(), other, TEXT)
    other = FakeModel()
    other.tokenizer.encode = lambda text, **_: script(text)
    with pytest.raises(UsageError, match="different tokens"):
        divergence(FakeModel(), other, TEXT, context=64)


def test_measure_feeds_what_it_says() -> None:
    model = FakeModel()
    model.file.tensors = {
        name: SimpleNamespace(nbytes=size)
        for name, size in {"embed": 1000, "output": 2000, "blocks.0.q": 30, "tokenizer": 500}.items()
    }
    calls: list[Any] = []
    row = measure(
        model, prefill=20, decode=5, depth=7, repetitions=3, progress=lambda *call: calls.append(call)
    )
    assert len(model.fed) == 16 + 1 + 7 + 3 * (20 + 5)
    assert model.fed[24:44] == model.fed[49:69] and model.fed[44:49] == model.fed[24:29]
    assert row.prefill and row.decode and row.prefill.min <= row.prefill.median <= row.prefill.max
    assert row.weight_bytes == 2030 and row.decode_gbps == row.weight_bytes * row.decode.median / 1e9
    assert calls == [(what, n, 3) for n in (1, 2, 3) for what in ("prefill", "decode")]
    assert row.peak_rss_bytes is not None and 1 << 20 < row.peak_rss_bytes < 1 << 40
    assert model.sequences[0].closed
    del model.file.tensors["output"]
    assert (
        measure(model, prefill=1, decode=1, repetitions=1).weight_bytes == 1030
    )  # tied: the embedding is the head


def test_throughput_loads_a_model_for_every_thread_count() -> None:
    events: list[Any] = []

    @contextmanager
    def load(threads: int | None) -> Iterator[FakeModel]:
        events.append(threads)
        model = FakeModel()
        model.threads = threads  # type: ignore[attr-defined]
        yield model
        events.append("closed")

    rows = throughput(load, threads=[1, 2], prefill=0, decode=3, repetitions=1)
    assert events == [1, "closed", 2, "closed"]
    assert [row.threads for row in rows] == [1, 2]
    assert all(row.prefill is None and row.decode and row.load_seconds is not None for row in rows)
    assert json.loads(json.dumps(rows[0].to_json()))["decode"]["median"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prefill": -1}, "prefill is -1"),
        ({"decode": -1}, "decode is -1"),
        ({"depth": -1}, "depth is -1"),
        ({"repetitions": 0}, "repetitions is 0"),
        ({"prefill": 200, "depth": 57}, "200 tokens after 57, but the context holds 256"),
    ],
)
def test_benches_that_cannot_be(options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        measure(FakeModel(), **options)  # type: ignore[arg-type]

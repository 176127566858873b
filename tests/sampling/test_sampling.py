"""The samplers against a slow and obvious one, against known values, and against chance."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.errors import FormatError, UsageError
from edgeq.sampling import Sampler, SamplingOptions, all_but, distribution, largest
from edgeq.sampling.masks import one_of, only


def obvious(logits: Sequence[float], history: Sequence[int], options: SamplingOptions) -> dict[int, float]:
    """What each step means, one token at a time: id → probability."""
    values = {id: float(logit) for id, logit in enumerate(logits)}
    last = options.repeat_last_n
    for id, count in Counter(
        history if last < 0 else history[len(history) - min(last, len(history)) :]
    ).items():
        values[id] = float(
            np.float32(
                (
                    values[id] / options.repeat_penalty
                    if values[id] > 0
                    else values[id] * options.repeat_penalty
                )
                - (count * options.frequency_penalty + options.presence_penalty)
            )
        )
    order = sorted(values, key=lambda id: (-values[id], id))
    if options.temperature == 0:
        return {order[0]: 1.0}
    if options.top_k > 0:
        order = order[: options.top_k]
    if options.top_p < 1:
        weights = [math.exp(values[id] - values[order[0]]) for id in order]
        total = sum(weights)
        reached, kept = 0.0, 0
        for weight in weights:
            reached += weight / total
            kept += 1
            if reached >= options.top_p:
                break
        order = order[:kept]
    if options.min_p > 0:
        order = [id for id in order if math.exp(values[id] - values[order[0]]) >= options.min_p]
    weights = [math.exp((values[id] - values[order[0]]) / options.temperature) for id in order]
    return {id: weight / sum(weights) for id, weight in zip(order, weights, strict=True)}


def close(found: tuple[NDArray[Any], NDArray[Any]], wanted: dict[int, float]) -> bool:
    ids, probabilities = found
    return set(ids.tolist()) == set(wanted) and all(
        math.isclose(p, wanted[int(id)], rel_tol=1e-9, abs_tol=1e-300)
        for id, p in zip(ids, probabilities, strict=True)
    )


PLAIN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32),
    vocab=st.integers(1, 700),
    levels=st.sampled_from([0, 3, 8]),
    temperature=st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.5]),
    top_k=st.sampled_from([-1, 0, 1, 2, 5, 40, 10_000]),
    top_p=st.sampled_from([0.0, 0.31, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.0513, 0.61, 1.0]),
    penalties=st.sampled_from(
        [(1.0, 0.0, 0.0), (1.3, 0.0, 0.0), (0.8, 0.7, 0.0), (1.0, 0.0, 0.4), (1.1, -0.5, -0.2)]
    ),
    last=st.sampled_from([-1, 0, 1, 7, 64]),
)
def test_every_step_is_what_the_obvious_sampler_does(
    seed: int,
    vocab: int,
    levels: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    penalties: tuple[float, float, float],
    last: int,
) -> None:
    rng = np.random.default_rng(seed)
    # With few levels most logits have equals: what is kept at the edges is then decided by the id.
    logits = (rng.integers(0, levels, vocab) if levels else 2 * rng.standard_normal(vocab)).astype(np.float32)
    history = rng.integers(0, vocab, 30).tolist()
    options = SamplingOptions(
        temperature, top_k, top_p, min_p, penalties[0], last, penalties[1], penalties[2]
    )
    before = logits.copy()
    assert close(distribution(logits, history, options), obvious(logits.tolist(), history, options))
    assert np.array_equal(before, logits)


@pytest.mark.parametrize("vocab", [1, 63, 64, 65, 5000, 100_003])
@pytest.mark.parametrize("k", [1, 2, 40, 390, 5000])
@pytest.mark.parametrize("kind", ["normal", "three levels", "rising", "all equal"])
def test_largest_is_a_stable_sort_cut_off(vocab: int, k: int, kind: str) -> None:
    rng = np.random.default_rng(vocab + k)
    logits = {
        "normal": rng.standard_normal(vocab),
        "three levels": rng.integers(0, 3, vocab),
        "rising": np.arange(vocab),
        "all equal": np.zeros(vocab),
    }[kind].astype(np.float32)
    k = min(k, vocab)
    assert np.array_equal(largest(logits, k), np.argsort(-logits, kind="stable")[:k])


def test_top_p_without_top_k_on_a_long_vocabulary() -> None:
    logits = np.random.default_rng(3).standard_normal(20_000).astype(np.float32)
    for top_p in (0.001, 0.5, 0.93):
        options = SamplingOptions(**{**PLAIN, "top_p": top_p})
        ids, probabilities = distribution(logits, [], options)
        everything = np.exp(logits.astype(np.float64))
        share = everything / everything.sum()
        assert share[ids].sum() >= top_p - 1e-6 and share[ids[:-1]].sum() < top_p + 1e-6
        assert share[ids].min() >= np.delete(share, ids).max()
        assert math.isclose(probabilities.sum(), 1)


def test_greedy_takes_the_lowest_of_equals_and_needs_no_luck() -> None:
    logits = np.array([1, 5, 2, 5, 5], np.float32)
    assert [Sampler(SamplingOptions(temperature=0, seed=s))(logits, []) for s in range(20)] == [1] * 20
    assert Sampler(SamplingOptions(temperature=0, repeat_penalty=1.5))(logits, [1]) == 3


def test_penalties_by_hand() -> None:
    logits = np.array([2.0, -2.0, 1.0, 0.0], np.float32)
    options = SamplingOptions(**PLAIN, repeat_penalty=2, presence_penalty=0.5, frequency_penalty=0.25)
    _, probabilities = distribution(logits, [0, 1, 1], options)
    values = np.array([2 / 2 - 0.75, -2 * 2 - 1.0, 1.0, 0.0])
    assert np.allclose(probabilities, np.exp(values) / np.exp(values).sum(), rtol=1e-7)


@pytest.mark.parametrize(
    ("last", "penalized"), [(0, set()), (1, {3}), (2, {2, 3}), (-1, {0, 1, 2, 3}), (99, {0, 1, 2, 3})]
)
def test_only_the_last_n_tokens_are_penalized(last: int, penalized: set[int]) -> None:
    options = SamplingOptions(**PLAIN, presence_penalty=1, repeat_last_n=last)
    _, probabilities = distribution(np.zeros(6, np.float32), [0, 1, 2, 3], options)
    assert {id for id in range(6) if probabilities[id] < probabilities[5]} == penalized


def test_draws_come_as_often_as_they_should() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05])).astype(np.float32)
    sampler = Sampler(SamplingOptions(**PLAIN, seed=11))
    counts = np.bincount([sampler(logits, []) for _ in range(20_000)], minlength=4)
    expected = 20_000 * np.array([0.5, 0.3, 0.15, 0.05])
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-square, 3 degrees of freedom, p = 0.001
    hot = Sampler(SamplingOptions(**{**PLAIN, "temperature": 2.0}, seed=11))
    counts = np.bincount([hot(logits, []) for _ in range(20_000)], minlength=4)
    roots = np.sqrt([0.5, 0.3, 0.15, 0.05])
    expected = 20_000 * roots / roots.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 16.3


def test_a_seed_draws_the_same_ids_and_another_does_not() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal(500).astype(np.float32) for _ in range(50)]

    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingOptions(seed=seed, top_k=0))
        return [sampler(row, []) for row in rows]

    assert draw(5) == draw(5) != draw(6)
    assert draw(2**64 - 1) == draw(2**64 - 1)
    first = Sampler(SamplingOptions(top_k=0))
    again = Sampler(SamplingOptions(top_k=0, seed=first.seed))
    assert [first(row, []) for row in rows] == [again(row, []) for row in rows]


def test_a_tiny_temperature_is_greedy() -> None:
    logits = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    for temperature in (1e-3, 1e-30, 1e-300, 5e-324):
        sampler = Sampler(SamplingOptions(**{**PLAIN, "temperature": temperature}, seed=0))
        assert sampler(logits, []) == int(np.argmax(logits))


def test_banned_ids_are_never_drawn() -> None:
    logits = np.array([9, 8, 0, 0], np.float32)
    for options in (
        SamplingOptions(temperature=0),
        SamplingOptions(**PLAIN, seed=0),
        SamplingOptions(top_k=3, seed=0),
    ):
        sampler = Sampler(options)
        assert {sampler(logits, [0, 1], mask=all_but({0, 1, 77}, 4)) for _ in range(200)} <= {2, 3}
    with pytest.raises(UsageError, match="every token"):
        Sampler()(logits, [], mask=all_but(range(4), 4))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_no_number_points_at_verify(bad: float) -> None:
    logits = np.zeros(10, np.float32)
    logits[4] = bad
    with pytest.raises(FormatError, match="edgeq verify"):
        Sampler()(logits, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "1"),
        ("temperature", True),
        ("top_k", -2),
        ("top_k", 1.5),
        ("top_p", 1.01),
        ("top_p", -0.1),
        ("min_p", -1),
        ("min_p", 2),
        ("repeat_penalty", 0),
        ("repeat_penalty", -1),
        ("repeat_last_n", -2),
        ("presence_penalty", math.nan),
        ("frequency_penalty", math.inf),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.0),
        ("top_p", None),
    ],
)
def test_an_option_out_of_range_is_one_sentence_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} is .*, but must be a (whole )?number ") as error:
        SamplingOptions(**{name: value})
    assert "\n" not in str(error.value)


def test_logits_and_history_of_the_wrong_shape() -> None:
    with pytest.raises(UsageError, match=r"\[2, 3\]"):
        Sampler()(np.zeros((2, 3), np.float32), [])
    with pytest.raises(UsageError, match="token 10"):
        Sampler(SamplingOptions(repeat_penalty=1.1))(np.zeros(10, np.float32), [10])


def test_a_long_vocabulary_costs_little() -> None:
    logits = (3 * np.random.default_rng(0).standard_normal(128_256)).astype(np.float32)
    sampler = Sampler(SamplingOptions(seed=1, repeat_penalty=1.1))
    history = list(range(1000))

    def seconds(work: Callable[[], object]) -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    pairs = [(seconds(lambda: sampler(logits, history)), seconds(logits.argsort)) for _ in range(30)]
    draws, sorts = zip(*pairs, strict=True)
    assert min(draws) < min(sorts)  # about a tenth of it


def test_what_a_mask_forces() -> None:
    for ids, found in (
        ([70], 70),
        ([0], 0),
        ([31], 31),
        ([99], 99),
        ([], None),
        ([3, 70], None),
        ([3, 4], None),
    ):
        mask = only(ids, 100)
        assert one_of(mask) == Sampler().forced(mask) == found
    mask = only([70], 100)
    for learns in ({"mirostat": 1}, {"mirostat": 2}, {"adaptive_target": 0.5}, {"logit_bias": {70: -100.0}}):
        assert Sampler(SamplingOptions(**learns)).forced(mask) is None

"""Each sampler and 200 random chains: 200 000 draws against what the chain means, by chi-square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgeq.sampling import Sampler, SamplingOptions, State, only
from edgeq.sampling.candidates import Candidates
from edgeq.sampling.chain import DEFAULT_ORDER
from tests.sampling import meaning

Array = np.ndarray[Any, Any]
DRAWS, ALIKE = 200_000, 40
PLAIN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
SINGLE: dict[str, dict[str, Any]] = {
    "penalties": {"repeat_penalty": 1.3, "presence_penalty": 0.2, "frequency_penalty": 0.3},
    "dry": {"dry_multiplier": 0.8, "dry_allowed_length": 1},
    "top-n-sigma": {"top_n_sigma": 1.1},
    "top-k": {"top_k": 17},
    "typical-p": {"typical_p": 0.7},
    "top-p": {"top_p": 0.8},
    "min-p": {"min_p": 0.03},
    "XTC": {"xtc_probability": 1.0, "xtc_threshold": 0.02},
    "temperature": {"temperature": 1.7},
    "dynamic temperature": {"dynatemp_range": 0.7, "dynatemp_exponent": 1.4},
    "mirostat 1": {"mirostat": 1, "mirostat_tau": 3.0},
    "mirostat 2": {"mirostat": 2, "mirostat_tau": 2.5},
    "adaptive-p": {"adaptive_target": 0.1},
    "logit bias": {"logit_bias": {3: 2.0, 8: -1.0, 9: -math.inf}},
}


def random_options(rng: np.random.Generator) -> SamplingOptions:
    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    order = rng.permutation(DEFAULT_ORDER)[: int(rng.integers(3, 10))].tolist()
    return SamplingOptions(
        samplers=order,
        temperature=one(0.5, 0.8, 1.0, 1.6),
        top_k=one(0, 5, 40, 300),
        top_p=one(0.4, 0.9, 1.0),
        min_p=one(0.0, 0.01, 0.1),
        typical_p=one(1.0, 0.5, 0.9),
        top_n_sigma=one(-1.0, 1.0, 2.0),
        xtc_probability=one(0.0, 1.0),
        xtc_threshold=one(0.004, 0.02, 0.1),
        repeat_penalty=one(1.0, 1.3),
        repeat_last_n=one(-1, 5, 64),
        presence_penalty=one(0.0, 0.4),
        frequency_penalty=one(0.0, 0.2),
        dry_multiplier=one(0.0, 0.8),
        dry_base=one(1.1, 1.75),
        dry_penalty_last_n=one(-1, 20),
        dynatemp_range=one(0.0, 0.4),
        dynatemp_exponent=one(1.0, 2.0),
        mirostat=one(0, 0, 0, 0, 0, 0, 1, 2),
        mirostat_tau=one(2.0, 4.0),
        adaptive_target=one(-1.0, -1.0, -1.0, 0.05, 0.5),
        logit_bias=one((), ((3, 1.5), (11, -math.inf))),
        seed=int(rng.integers(2**32)),
    )


def drawn(options: SamplingOptions, logits: Array, text: list[int], count: int) -> Array:
    """So many draws of one row, none of which is remembered: what `draws.draw` does with each random number,
    all at once."""
    sampler = Sampler(options)
    context = sampler._context(len(logits), text)
    used: list[float] = []  # random numbers, by XTC
    context.chance = lambda: used.append(0.0) or 0.0  # type: ignore[func-returns-value]
    candidates = sampler._chain.candidates(Candidates.of(logits), context)
    if len(candidates) == 1:
        return np.full(count, candidates.id(0))
    each = 1 + len(used)
    weights = candidates.weights()
    sums = np.cumsum(weights.each, dtype=np.float64)
    points = (np.random.PCG64(options.seed).random_raw(each * count)[each - 1 :: each] >> 11) * 2.0**-53
    places = np.searchsorted(sums, points * sums[-1], side="right")
    return candidates.token_ids[np.minimum(places, np.searchsorted(sums, sums[-1]))]


def check(options: SamplingOptions, vocab: int, rng: np.random.Generator) -> None:
    logits = (rng.choice([0.7, 2.5]) * rng.standard_normal(vocab)).astype(np.float32)
    text = rng.integers(0, 12, 70).tolist()
    ids = drawn(options, logits, text, DRAWS)
    sampler = Sampler(options)
    memory = sampler.state().memory
    for id in ids[:ALIKE]:
        assert sampler(logits, text) == id
        sampler.restore(State(memory, sampler.state().random))
    assert chi_square(ids, meaning.final(logits, text, options)) < 4.5, options  # standard deviations


def chi_square(ids: Array, want: dict[int, float]) -> float:
    """How far the draws are from the distribution, in standard deviations (E. Wilson, M. Hilferty, 1931)."""
    assert set(ids.tolist()) <= set(want)
    counts = np.bincount(ids, minlength=max(want) + 1)[list(want)]
    expected = DRAWS * np.array(list(want.values()))
    order = np.argsort(-expected)
    counts, expected = counts[order], expected[order]
    many = int((expected >= 10).sum())  # the others are one class
    if expected[many:].sum() < 10 and many > 1:
        many -= 1
    counts = np.append(counts[:many], counts[many:].sum())
    expected = np.append(expected[:many], expected[many:].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(counts) - 1
    if not freedom:
        return 0.0
    square = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * freedom)
    return float(((square / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("vocab", [200, 3000])
def test_each_sampler_draws_what_it_means(name: str, vocab: int) -> None:
    options = SamplingOptions(**{**PLAIN, "dry_sequence_breakers": "none", "seed": 3, **SINGLE[name]})
    check(options, vocab, np.random.default_rng(len(name)))


@pytest.mark.parametrize("tenth", range(10))
def test_random_chains_draw_what_they_mean(tenth: int) -> None:
    rng = np.random.default_rng(tenth)
    for _ in range(20):
        check(random_options(rng), int(rng.choice([60, 400, 2500])), rng)


MANY: list[dict[str, Any]] = [  # options that leave most of a flat row
    {"typical_p": 0.9},
    {"typical_p": 0.9, "temperature": 0.7},
    {"typical_p": 0.9, "top_p": 0.95},
    {"typical_p": 0.9, "top_p": 0.95, "min_p": 0.01, "temperature": 0.7},
    {"top_p": 0.95, "typical_p": 0.9, "samplers": "top_p;typ_p"},
    {"top_k": 120_000, "top_p": 0.95},
    {"typical_p": 0.999, "top_p": 0.9999},
    {"typical_p": 0.9, "repeat_penalty": 1.3, "top_p": 0.9},
]


@pytest.mark.parametrize("options", MANY, ids=repr)
def test_many_tokens_of_a_flat_row(options: dict[str, Any]) -> None:
    """So many that they stay where they are, with others between them that are gone."""
    rng = np.random.default_rng(5)
    chosen = SamplingOptions(**{**PLAIN, "seed": 3, **options})
    for vocab in (140_000, 152_003):
        logits = rng.standard_normal(vocab).astype(np.float32)
        text = rng.integers(0, vocab, 70).tolist()
        ids, p = Sampler(chosen).distribution(logits, text)
        found, want = np.zeros(vocab), np.zeros(vocab)
        found[ids] = p
        final = meaning.final(logits, text, chosen)
        want[list(final)] = list(final.values())
        assert np.abs(found - want).sum() < 1e-4  # a token at the edge of a cut may be in or out
        sampler = Sampler(chosen)
        assert [sampler(logits, text) for _ in range(ALIKE)] == drawn(chosen, logits, text, ALIKE).tolist()


def test_the_check_sees_a_wrong_distribution() -> None:
    logits = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    ids = drawn(SamplingOptions(**PLAIN, seed=1), logits, [], DRAWS)
    right = meaning.final(logits, [], SamplingOptions(**PLAIN))
    assert chi_square(ids, right) < 4.5
    wrong = meaning.final(logits, [], SamplingOptions(**{**PLAIN, "temperature": 1.1}))
    assert chi_square(ids, wrong) > 10


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_long_rows(name: str, scale: float) -> None:
    """Where nothing is sorted: what is left, and with which probability."""
    rng = np.random.default_rng(7)
    logits = (scale * rng.standard_normal(30_011)).astype(np.float32)
    text = rng.integers(0, 12, 70).tolist()
    options = SamplingOptions(**{**PLAIN, "dry_sequence_breakers": "none", **SINGLE[name]})
    ids, found = Sampler(options).distribution(logits, text)
    want = meaning.final(logits, text, options)
    assert set(ids.tolist()) == set(want)
    np.testing.assert_allclose(found, [want[id] for id in ids.tolist()], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("k", [1, 7, 60, 200, 230, 1500, 25_000, 30_010])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_every_way_to_the_best(k: int, top_p: float) -> None:
    """By blocks, by a partition, by a histogram; what is left may be fewer than are asked for."""
    rng = np.random.default_rng(k)
    text: list[int] = []
    for vocab in (30_011, 9000, 1100):
        logits = np.round(rng.standard_normal(vocab), 2).astype(np.float32)  # with equals
        options = SamplingOptions(**{**PLAIN, "top_p": top_p, "top_k": k}, samplers=("top_p", "top_k"))
        ids, found = Sampler(options).distribution(logits, text)
        want = meaning.final(logits, text, options)
        assert len(ids) == len(want)
        difference = set(ids.tolist()) ^ set(want)  # a nucleus may end one token sooner: rounding
        assert len(difference) <= 2 * (top_p < 1) and set(ids[:3].tolist()) <= set(want)


def test_a_mask_is_as_if_the_others_were_not_there() -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal(5000).astype(np.float32)
    text = rng.integers(0, 5000, 40).tolist()
    for _ in range(20):
        options = random_options(rng)
        allowed = np.sort(rng.choice(5000, int(rng.integers(1, 2500)), replace=False))
        allowed = allowed[allowed != 11]
        ids, found = Sampler(options).distribution(logits, text, mask=only(allowed.tolist(), 5000))
        masked = np.where(np.isin(np.arange(5000), allowed), logits, -np.inf)
        places = {id: place for place, id in enumerate(allowed.tolist())}
        assert set(ids.tolist()) <= set(places)
        bias = {places[id]: x for id, x in options.logit_bias if id in places}
        small = SamplingOptions(
            **{**vars(options), "logit_bias": bias, "repeat_penalty": 1.0, "dry_multiplier": 0.0,
               "presence_penalty": 0.0, "frequency_penalty": 0.0, "mirostat": 0}
        )  # fmt: skip
        plain = SamplingOptions(**{**vars(small), "logit_bias": options.logit_bias})
        ids, found = Sampler(plain).distribution(logits, text, mask=only(allowed.tolist(), 5000))
        want_ids, want = Sampler(small).distribution(masked[allowed].astype(np.float32), [])
        np.testing.assert_array_equal(np.sort(ids), np.sort(allowed[want_ids]))
        np.testing.assert_allclose(found[np.argsort(ids)], want[np.argsort(want_ids)], rtol=1e-12)

"""What samplers are told, what they remember, and what they are asked without drawing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgeq import sampling
from edgeq.errors import UsageError
from edgeq.sampling import (
    Sampler,
    all_but,
    distribution,
    largest,
    log_sum_exp,
    only,
    order_of_letters,
    requests,
)
from edgeq.sampling.breakers import breakers
from edgeq.sampling.chain import DEFAULT_ORDER, LAST, STEPS
from edgeq.sampling.elementary import exp, log, power

SamplingOptions: Any = sampling.SamplingOptions  # which reads more than it holds: texts, mappings
PLAIN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
REMEMBERING: list[dict[str, Any]] = [
    {"mirostat": 1},
    {"mirostat": 2},
    {**PLAIN, "adaptive_target": 0.2},
    {**PLAIN, "xtc_probability": 0.5},
]


def row(seed: int = 0, vocab: int = 500) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 2, vocab).astype(np.float32)


# ---- the order ----
def test_the_default_order_is_llamacpps() -> None:
    names = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
    assert ";".join(SamplingOptions().samplers) == names
    assert SamplingOptions(samplers=names).samplers == order_of_letters("edskypmxt") == DEFAULT_ORDER
    assert SamplingOptions(samplers="top-k;TOPP".lower() + ";nucleus;temp;typ;adaptive-p").samplers == (
        "top_k", "top_p", "top_p", "temperature", "typ_p", LAST,
    )  # fmt: skip


def test_the_order_counts_and_who_is_not_named_does_nothing() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05])).astype(np.float32)
    cut = {"top_p": 0.75, "temperature": 3.0, "top_k": 0, "min_p": 0.0}
    cold = SamplingOptions(samplers="top_p;temperature", **cut)
    hot = SamplingOptions(samplers="temperature;top_p", **cut)
    assert len(distribution(logits, [], cold)[0]) == 2 and len(distribution(logits, [], hot)[0]) == 3
    nothing = SamplingOptions(samplers="", **cut)
    np.testing.assert_allclose(distribution(logits, [], nothing)[1], [0.5, 0.3, 0.15, 0.05], rtol=1e-6)
    assert not SamplingOptions(samplers="top_k", temperature=0).greedy


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"samplers": "top_k;nosuch"}, "samplers has 'nosuch', but the samplers are penalties, dry,"),
        ({"samplers": 3}, "samplers is 3, but must be names of samplers with ; between"),
        ({"logit_bias": "15043"}, "logit_bias has '15043', but must be ids of tokens"),
        ({"logit_bias": {3: math.inf}}, "logit_bias has"),
        ({"logit_bias": {3: math.nan}}, "logit_bias has"),
        ({"logit_bias": [(-1, 2.0)]}, "logit_bias has"),
        ({"logit_bias": 7}, "logit_bias is 7"),
        ({"dry_sequence_breakers": [""]}, "a DRY sequence breaker is '', but must be a text"),
        ({"dry_sequence_breakers": 1}, "dry_sequence_breakers are 1"),
        ({"mirostat": 3}, "mirostat is 3, but must be a whole number of at least 0 and at most 2"),
        ({"adaptive_decay": 1.0}, "adaptive_decay is 1.0"),
        ({"dry_base": 0.5}, "dry_base is 0.5"),
        ({"typical_p": math.nan}, "typical_p is nan"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        SamplingOptions(**given)
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


def test_letters_that_are_none() -> None:
    with pytest.raises(UsageError, match="'q', but the letters are e penalties, d dry"):
        order_of_letters("kq")


def test_logit_bias_in_every_spelling() -> None:
    wanted = ((5, 1.5), (9, -math.inf))
    for given in ("5+1.5,9-inf", {9: -math.inf, 5: 1.5}, [(5, 1.0), (9, -math.inf), (5, 0.5)]):
        assert SamplingOptions(logit_bias=given).logit_bias == wanted
    logits = np.zeros(10, np.float32)
    ids, found = distribution(logits, [], SamplingOptions(**PLAIN, logit_bias="5+1.5,9-inf,77+3"))
    assert 9 not in ids and found[ids == 5] / found[ids == 0] == pytest.approx(math.exp(1.5))
    with pytest.raises(UsageError, match="every token"):
        bans = dict.fromkeys(range(10), -math.inf)
        distribution(logits, [], SamplingOptions(logit_bias=bans))


# ---- greedy ----
def test_whose_likeliest_token_is_drawn_as_it_is() -> None:
    assert SamplingOptions(temperature=0).takes_likeliest
    assert SamplingOptions(temperature=0, top_k=3, min_p=0.5, top_n_sigma=1.0).takes_likeliest
    others: list[dict[str, Any]] = [
        {"repeat_penalty": 1.1},
        {"dry_multiplier": 1.0},
        {"logit_bias": {3: 1.0}},
        {"typical_p": 0.5},
        {"xtc_probability": 0.5},
        {"dynatemp_range": 0.5},
        {"temperature": 0.1},
    ]
    for other in others:
        assert not SamplingOptions(**{"temperature": 0.0, **other}).takes_likeliest


def test_greedy_with_typical_p_takes_the_best_of_what_that_leaves() -> None:
    logits = np.log(np.array([0.7, 0.1, 0.1, 0.1])).astype(np.float32)
    options = SamplingOptions(temperature=0, typical_p=0.2)
    ids, _ = distribution(logits, [], SamplingOptions(**{**PLAIN, "typical_p": 0.2}))
    assert Sampler(options)(logits, []) == min(ids.tolist(), key=lambda id: (-logits[id], id))


# ---- what they remember ----
@pytest.mark.parametrize("options", REMEMBERING)
def test_a_draw_can_be_undone(options: dict[str, Any]) -> None:
    sampler = Sampler(SamplingOptions(**options, seed=4))
    text: list[int] = []
    for n in range(10):
        state, other = sampler.state(), sampler.copy()
        drawn = sampler(row(n), text)
        ahead = [sampler(row(100 + m), [*text, drawn]) for m in range(3)]  # drafts that come to nothing
        assert other(row(n), text) == drawn
        sampler.restore(state)
        assert sampler(row(n), text) == drawn
        assert [other(row(100 + m), [*text, drawn]) for m in range(3)] == ahead
        text.append(drawn)


def test_mirostat_learns() -> None:
    """What is drawn surprises less than what the model would draw."""
    logits = row(vocab=2000)
    sampler = Sampler(SamplingOptions(mirostat=2, mirostat_tau=4.0, temperature=1.0, seed=1))
    surprises = -np.log2(np.exp(logits - log_sum_exp(logits)))
    drawn = [surprises[sampler(logits, [])] for _ in range(600)]
    unbound = (np.exp2(-surprises) * surprises).sum()
    assert np.mean(drawn[100:]) < unbound - 2


def test_a_distribution_asked_for_changes_nothing_and_mixes_xtcs_chances() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1])).astype(np.float32)
    sampler = Sampler(SamplingOptions(**PLAIN, xtc_probability=0.25, xtc_threshold=0.25, seed=6))
    state = sampler.state()
    ids, found = sampler.distribution(logits, [])
    assert sampler.state() == state and found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, [0.3, 0.225 + 0.125, 0.15 + 1 / 12, 0.075 + 1 / 24], rtol=1e-6)
    counts = np.bincount([sampler(logits, []) for _ in range(4000)], minlength=4)
    assert (np.abs(counts - 4000 * found) < 5 * np.sqrt(4000 * found)).all()


def test_history_that_grows_and_history_that_does_not() -> None:
    options = SamplingOptions(**PLAIN, presence_penalty=3.0, repeat_last_n=-1)
    sampler = Sampler(options)
    rng = np.random.default_rng(3)
    text = rng.integers(0, 500, 700).tolist()
    for known in (text[:300], text[:301], text, text[:10], text[:650], [*text[:649], 3], []):
        found, fresh = (each.distribution(row(), known) for each in (sampler, Sampler(options)))
        np.testing.assert_array_equal(found[1], fresh[1])
        gone = np.bincount(found[0][found[1] < 1e-4], minlength=500)
        assert gone.any() or not known


# ---- masks ----
def test_masks() -> None:
    assert all_but([], 40) is None and all_but([40, 99], 40) is None
    mask = all_but([0, 31, 32], 40)
    assert mask is not None and mask.tolist() == [2**32 - 2 - 2**31, 2**32 - 2]
    assert only([1, 33], 40).tolist() == [2, 2]
    with pytest.raises(UsageError, match="token 40 is allowed"):
        only([40], 40)
    wrongs: list[Any] = [np.zeros(1, np.uint32), np.zeros(2, np.int32), [1, 2]]
    for wrong in wrongs:
        with pytest.raises(UsageError, match="must be an array of 2 uint32"):
            Sampler()(np.zeros(40, np.float32), [], mask=wrong)
    for options in (SamplingOptions(temperature=0), SamplingOptions(seed=1), SamplingOptions(mirostat=1)):
        sampler = Sampler(options)
        assert {sampler(row(), [1], mask=only([7, 77, 499], 500)) for _ in range(100)} <= {7, 77, 499}


# ---- likelihoods ----
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e30])
@pytest.mark.parametrize("vocab", [1, 17, 5000])
def test_log_sum_exp(scale: float, vocab: int) -> None:
    logits = (scale * np.random.default_rng(vocab).normal(size=vocab)).astype(np.float32)
    assert log_sum_exp(logits) == pytest.approx(
        np.logaddexp.reduce(logits.astype(np.float64)), rel=1e-14, abs=2e-13
    )
    assert largest(logits, 1)[0] == logits.argmax()


def test_elementary_functions() -> None:
    rng = np.random.default_rng(0)
    for x in np.exp(rng.uniform(-700, 700, 2000)).tolist():
        assert log(x) == pytest.approx(math.log(x), rel=1e-15, abs=1e-15)
    for x in rng.uniform(-700, 700, 2000).tolist():
        assert exp(x) == pytest.approx(math.exp(x), rel=2e-15)
    assert log(0.0) == -math.inf and exp(800.0) == math.inf and log(1.0) == 0.0 and exp(0.0) == 1.0
    assert power(2.0, 10.0) == pytest.approx(1024, rel=1e-14) and power(0.0, 2.0) == 0.0 == log(
        power(5.0, 0.0)
    )


# ---- breakers ----
class Spelled:
    """A tokenizer of a few tokens."""

    WORDS = (b"a", b"b", b"\n", b" x\ny", b"<", b"<|", b"|end", b"nd")

    def token(self, id: int) -> bytes:
        return self.WORDS[id]

    def encode(self, text: str, *, add_bos: bool) -> list[int]:
        ids: list[int] = []
        while text:
            word = max((w for w in self.WORDS if text.encode().startswith(w)), key=len, default=b"")
            if not word:
                return ids
            ids.append(self.WORDS.index(word))
            text = text[len(word) :]
        return ids


def test_sequence_breakers_as_tokens() -> None:
    found = breakers(Spelled(), 8, ("\n", "<|end"))
    assert found == {2: [()], 3: [()], 4: [(6,)], 5: [()]}
    assert breakers(None, 8, ("\n",)) == {} == breakers(Spelled(), 8, ())


def test_no_repetition_goes_across_a_breaker() -> None:
    logits = np.zeros(8, np.float32)
    text = [0, 1, 0, 1, 2, 0, 1]  # "abab\nab"

    def penalized(sequence_breakers: Any) -> set[int]:
        options = SamplingOptions(
            **PLAIN, dry_multiplier=1.0, dry_allowed_length=2, dry_sequence_breakers=sequence_breakers
        )
        ids, found = Sampler(options, tokenizer=Spelled()).distribution(logits, text)
        return set(ids[found < found.max() - 1e-6].tolist())

    assert penalized("none") == {0, 2}  # "ab" has gone on with "a" and with a line end
    assert penalized("\n") == {0}
    assert penalized("b") == set()


def test_every_kernel_of_the_samplers_is_asked_for() -> None:
    names = {name for name, _ in requests("generic")}
    assert {"weigh", "descend", "collect", "repeats"} <= names and len(STEPS) == 9


def test_a_long_history_is_held_against_each_row() -> None:
    """Kernels have no bounds checks: neither a smaller vocabulary nor a history that was refused goes by."""
    sampler = Sampler(SamplingOptions(repeat_penalty=1.5, repeat_last_n=-1, seed=1))
    text = [7] * 299 + [90]
    sampler(np.zeros(100, np.float32), text)
    for logits, history, wrong in ((50, text, 90), (100, [5] * 1000 + [200], 200)):
        with pytest.raises(UsageError, match=f"the history holds token {wrong}, but"):
            sampler(np.zeros(logits, np.float32), history)
    ids, shares = sampler.distribution(np.ones(100, np.float32), text)
    assert np.allclose(shares[np.isin(ids, [7, 90])], np.exp(1 / 1.5 - 1) * shares[0])

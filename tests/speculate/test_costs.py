"""The running cost model: what passes cost, how often guesses come true, how many pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgeq.errors import UsageError
from edgeq.speculate import Acceptance, Drafting, Look, PassCosts, Speculator, lengths
from edgeq.speculate.costs import smoothed
from edgeq.speculate.lengths import Offer


def tiles(rows: int) -> float:
    """Seconds of a pass as measured on two cores: rows by the tile of four."""
    return {1: 1.0, 2: 1.3, 3: 1.45, 4: 1.5}.get(rows, 1.5 * -(-rows // 4) * 0.95)


def test_estimates_fall_faster_than_they_rise() -> None:
    assert smoothed(0.0, 3.0) == 3.0
    assert smoothed(1.0, 0.5) == 0.75 and smoothed(1.0, 1.5) == pytest.approx(1.05)
    assert smoothed(1.0, 1000.0) == pytest.approx(1.1)  # whatever else was at work


def test_rows_that_were_seen_cost_what_was_seen() -> None:
    costs = PassCosts()
    assert costs.seconds(4) == 0.0
    for _ in range(40):
        for rows in (1, 2, 4, 8):
            costs.passed(rows, tiles(rows))
    assert [costs.seconds(rows) for rows in (1, 2, 4, 8)] == pytest.approx([1.0, 1.3, 1.5, 2.85])


def test_rows_that_were_not_seen_are_hoped_to_cost_little() -> None:
    costs = PassCosts()
    costs.passed(1, 1.0)
    assert costs.seconds(1) == 1.0 < costs.seconds(2) < costs.seconds(9) < 0.5 * 9
    costs.passed(8, 7.0)
    assert costs.seconds(2) < 1.2  # not in proportion to 8, where a tile may have begun
    costs.passed(2, 50.0)  # a spike does not rule it out for good
    assert costs.seconds(2) <= 0.95 * 2


def test_the_best_number_of_guesses_is_found_behind_a_worse_one() -> None:
    seconds = {1: 1.0, 2: 1.9, 3: 1.95, 4: 2.0}
    assert lengths([Offer(0.9, 3)], seconds.__getitem__, 1, 3) == [3]
    assert lengths([Offer(0.9, 1)], seconds.__getitem__, 1, 3) == [0]  # 1.9 tokens in 1.9 s: no gain
    assert lengths([Offer(0.3, 3)], seconds.__getitem__, 1, 3) == [0]
    assert lengths([Offer(0.9, 3, seconds=0.9)], seconds.__getitem__, 1, 3) == [0]  # they cost too much
    assert lengths([], seconds.__getitem__, 1, 3) == []


@pytest.mark.parametrize("seed", range(20))
def test_lengths_are_the_best_of_all(seed: int) -> None:
    """Against every choice, for a few texts of any chances."""
    rng = np.random.default_rng(seed)
    offers = [Offer(float(rng.uniform(0, 1)), int(rng.integers(0, 4))) for _ in range(3)]
    times = np.cumsum(rng.uniform(0.01, 1, 20))
    found = lengths(offers, lambda rows: float(times[rows]), 3, 6)

    def rate(chosen: Sequence[int]) -> float:
        tokens = sum(
            offer.chance**place for offer, n in zip(offers, chosen, strict=True) for place in range(n + 1)
        )
        return float(tokens / times[3 + sum(chosen)])

    every = [
        (a, b, c)
        for a in range(offers[0].most + 1)
        for b in range(offers[1].most + 1)
        for c in range(offers[2].most + 1)
        if a + b + c <= 6
    ]
    assert sum(found) <= 6 and rate(found) == pytest.approx(max(map(rate, every)))


def test_acceptance_follows_what_came_true() -> None:
    acceptance, look = Acceptance(), Look(5, 0.5)
    assert acceptance.chance(look) == 0.5
    for _ in range(60):
        acceptance.judged(5, 4, missed=False)
    assert acceptance.chance(look) > 0.95
    for _ in range(60):
        acceptance.judged(5, 0, missed=True)
    assert acceptance.chance(look) < 0.15
    assert acceptance.chance(Look(2, 0.4)) == 0.4  # another kind


class Always:
    """Guesses as many as it is asked for, of which so many come true."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def look(self, history: Sequence[int]) -> Look:
        return Look(0, 0.5)

    def draft(self, history: Sequence[int], most: int, cancelled: Any = None) -> list[int]:
        return [0] * most

    def close(self) -> None:
        pass


def run(
    right: Callable[[int], float], steps: int, seed: int = 0, seconds: float = 0.0, noise: float = 0.0
) -> tuple[float, float]:
    """(tokens a second with guesses by those without, share of passes with guesses), of a text in which a
    guess at step i comes true with right(i), on a clock that tells what `tiles` says."""
    rng = np.random.default_rng(seed)
    costs, speculator = PassCosts(), Speculator(Always(seconds))
    tokens, clock, tried = 0, 0.0, 0
    for step in range(steps):
        drafted = len(speculator.alone([], 99, costs))
        true = 0
        while true < drafted and rng.random() < right(step):
            true += 1
        took = tiles(1 + drafted) * float(1 + noise * rng.exponential())
        costs.passed(1 + drafted, took)
        speculator.judged(true)
        tokens, clock, tried = tokens + 1 + true, clock + took + seconds * drafted, tried + (drafted > 0)
    return tokens / (clock / (1 + noise)), tried / steps


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_comes_true_pays(noise: float) -> None:
    assert run(lambda step: 0.95, 400, noise=noise)[0] > 2.2
    assert run(lambda step: 0.8, 400, noise=noise)[0] > 1.6


@pytest.mark.parametrize("right", [0.0, 0.05, 0.2])
def test_what_does_not_come_true_costs_little(right: float) -> None:
    rate, tried = run(lambda step: right, 600)
    assert rate > 0.97 and tried < 0.1


def test_guesses_that_cost_too_much_are_left_alone() -> None:
    assert run(lambda step: 0.9, 400, seconds=1.0)[0] > 0.97


def test_it_turns_on_again_when_the_text_begins_to_repeat() -> None:
    rate, tried = run(lambda step: 0.0 if step < 300 else 0.97, 1200)
    assert rate > 1.7 and 0.3 < tried < 0.9


def test_a_drafter_that_gives_up_is_one_that_errs() -> None:
    class Shy(Always):
        def draft(self, history: Sequence[int], most: int, cancelled: Any = None) -> list[int]:
            return []

    costs, speculator, asked = PassCosts(), Speculator(Shy(seconds=0.01)), 0
    for _ in range(200):
        assert speculator.alone([], 99, costs) == []
        asked += speculator._asked > 0
        costs.passed(1, 1.0)
        speculator.judged(0)
    assert asked < 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"most": 0}, "most is 0, but must be how many tokens are guessed, a whole number from 1 to 64"),
        ({"most": 65}, "most is 65"),
        ({"least": -1}, "least is -1"),
        ({"least": True}, "least is True"),
        ({"p_min": 1.5}, "p_min is 1.5, but must be a probability"),
        ({"p_min": float("nan")}, "p_min is nan"),
    ],
)
def test_wrong_limits(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Drafting("prompt", **options)

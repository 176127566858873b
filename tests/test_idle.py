"""Whether others are busy is told from counters, and waited for: with counters of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edgeq import idle
from edgeq.idle import Times


def counters(*taken: float) -> Callable[[], Times]:
    """Looks in pairs: between the two of pair i others take taken[i] processors, and this process one."""

    def looks() -> Iterator[Times]:
        clock = total = own = 0.0
        for each in taken:
            yield Times(clock, total, own)
            clock, total, own = clock + 2, total + 2 * (each + 1), own + 2
            yield Times(clock, total, own)

    return looks().__next__


def test_own_time_is_not_others() -> None:
    assert idle.others(Times(0, 0, 0), Times(2, 3, 2)) == pytest.approx(0.5)
    assert idle.others(Times(0, 0, 0), Times(2, 1.9, 2)) == 0  # the counters are not of one moment
    assert idle.others(Times(1, 5, 0), Times(1, 5, 0)) == 0


def test_an_idle_machine_is_not_waited_for() -> None:
    slept: list[float] = []
    told: list[float] = []
    assert idle.wait(told.append, counters(0.1), slept.append) == pytest.approx(0.1)
    assert slept == [idle.LOOK_S] and told == []


def test_others_are_waited_for_until_they_rest() -> None:
    told: list[float] = []
    assert idle.wait(told.append, counters(1.5, 0.7, 0.0), lambda _: None) == 0
    assert told == pytest.approx([1.5, 0.7])


def test_others_that_do_not_rest() -> None:
    told: list[float] = []
    assert idle.wait(told.append, counters(*[1.0] * idle.LOOKS), lambda _: None) == pytest.approx(1)
    assert len(told) == idle.LOOKS


def test_the_system_counts() -> None:
    """Time passes, and this process takes some of it."""
    before = idle.times()
    total = sum(range(10**6))
    after = idle.times()
    assert total and after.clock > before.clock and after.own >= before.own and after.all >= before.all > 0

"""What passes cost, learned while they run."""

from __future__ import annotations

from bisect import bisect_left, insort

FIRST_ROW = 0.12  # of a pass of one row: what a further row is hoped to cost until it was tried
FALL, RISE = 0.5, 0.1  # how fast an estimate follows a sample below it, and one above
SPIKE = 2.0  # a sample above so many times the estimate counts as this: something else was at work
SHARED = 0.95  # of the time of passes of their own, what rows together take at the most


def smoothed(estimate: float, sample: float) -> float:
    """The estimate after a further sample, seconds. What else runs on a machine only makes passes longer, so
    it falls faster than it rises. 0 is no estimate yet."""
    if estimate <= 0:
        return sample
    return estimate + (FALL if sample < estimate else RISE) * (min(sample, SPIKE * estimate) - estimate)


class PassCosts:
    """Seconds of a pass by its rows.

    A number of rows that was not tried yet is hoped to cost little more than the next smaller one that was,
    so each is tried once where it would pay; then it is known.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._rows: list[int] = []  # that were tried, rising

    def passed(self, rows: int, seconds: float) -> None:
        """A pass of so many rows took so long."""
        if rows not in self._seconds:
            insort(self._rows, rows)
        self._seconds[rows] = smoothed(self._seconds.get(rows, 0.0), seconds)

    def seconds(self, rows: int) -> float:
        """What a pass of so many rows will take; 0 where none was seen.

        Less than as many passes of the fewest rows seen, so that no row is ruled out for good by a few passes
        that something else made slow."""
        known = self._rows
        if not known:
            return 0.0
        at = bisect_left(known, rows)
        if at < len(known) and known[at] == rows:
            found = self._seconds[rows]
        elif at == 0:  # fewer than any: in proportion, at least half
            found = self._seconds[known[0]] * max(0.5, rows / known[0])
        else:
            low = known[at - 1]
            unit = self._seconds[known[0]] / known[0]
            found = self._seconds[low] + FIRST_ROW * unit * (rows - low)
            if at < len(known):
                high = known[at]
                step = (self._seconds[high] - self._seconds[low]) / (high - low)
                found = min(found, self._seconds[low] + max(0.0, step) * (rows - low))
        return min(found, self._seconds[known[0]] * SHARED * rows / known[0]) if at else found

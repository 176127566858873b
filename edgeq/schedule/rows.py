"""How the rows of a pass are shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

ROWS_LEAST = 32  # of a pass with prompts in it: enough for the full rate of a prompt


def share(budget: int, needs: Sequence[int]) -> list[int]:
    """Rows for each of those that need some, the oldest first: the same for all, none more than it needs, and
    what cannot be shared evenly goes to the oldest. The sum is the budget, or all that is needed.

    So a short prompt behind a long one waits for its own tokens, not for all of the other's.
    """
    given = [0] * len(needs)
    left = min(budget, sum(needs))
    while left:
        hungry = [n for n in range(len(needs)) if given[n] < needs[n]]
        each = max(1, left // len(hungry))
        for n in hungry:
            more = min(each, needs[n] - given[n], left)
            given[n] += more
            left -= more
    return given


def affordable(seconds: Callable[[int], float], limit_s: float, most: int, tile: int) -> int:
    """The most rows whose pass stays within a time, in whole tiles and at least a few of them: beyond that
    more rows at once do not make a prompt faster."""
    low, high = min(ROWS_LEAST, most), most
    while low < high:  # seconds(rows) rises
        middle = (low + high + 1) // 2
        if seconds(middle) <= limit_s:
            low = middle
        else:
            high = middle - 1
    return max(min(ROWS_LEAST, most), low // tile * tile)

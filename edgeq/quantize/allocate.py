"""A scheme for each matrix under a budget of bytes, so that the sum of what rounding costs is least.

By the price of a byte, bisected: at each price every matrix takes the scheme whose cost plus price is least
(Lagrange; Shoham and Gersho, 1988). What the last price leaves of the budget goes, one at a time, to the
change that lowers the cost most for its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.errors import UsageError

ROUNDS = 100

Costs = Mapping[str, Mapping[str, float]]  # of each matrix, of each scheme
Sizes = Mapping[str, Mapping[str, int]]  # bytes


def allocate(costs: Costs, sizes: Sizes, budget: int) -> dict[str, str]:
    """The scheme of each matrix; their sizes add up to at most `budget`. UsageError where none fit."""
    least = sum(min(row.values()) for row in sizes.values())
    if least > budget:
        raise UsageError(
            f"the smallest schemes take {least} bytes, more than the {max(0, budget)} that there are"
        )
    low, high = 0.0, 1.0
    while total(sizes, at_price(costs, sizes, high)) > budget:
        low, high = high, high * 16
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        if total(sizes, at_price(costs, sizes, middle)) > budget:
            low = middle
        else:
            high = middle
    return filled(costs, sizes, at_price(costs, sizes, high), budget)


def at_price(costs: Costs, sizes: Sizes, price: float) -> dict[str, str]:
    """The best scheme of each matrix at a price for a byte; of two alike the smaller."""
    return {
        name: min(
            row, key=lambda scheme: (row[scheme] + price * sizes[name][scheme], sizes[name][scheme], scheme)
        )
        for name, row in costs.items()
    }


def total(sizes: Sizes, chosen: Mapping[str, str]) -> int:
    """Bytes of all matrices."""
    return sum(sizes[name][scheme] for name, scheme in chosen.items())


def filled(costs: Costs, sizes: Sizes, chosen: Mapping[str, str], budget: int) -> dict[str, str]:
    """The choice with what else fits in the budget."""
    found, room = dict(chosen), budget - total(sizes, chosen)
    while True:
        changes = [
            ((costs[name][now] - costs[name][scheme]) / more, name, scheme, more)
            for name, now in found.items()
            for scheme in costs[name]
            if 0 < (more := sizes[name][scheme] - sizes[name][now]) <= room
            and costs[name][scheme] < costs[name][now]
        ]
        if not changes:
            return found
        _, name, scheme, more = max(changes)
        found[name] = scheme
        room -= more

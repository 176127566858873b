"""How many guesses pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Offer(NamedTuple):
    """What a text could guess: its i-th guess comes true with chance**i, and each costs `seconds` to make."""

    chance: float
    most: int
    seconds: float = 0.0


def lengths(offers: Sequence[Offer], seconds: Callable[[int], float], base: int, most: int) -> list[int]:
    """How many ids each text is to guess, so that the pass gives the most tokens in a second.

    The pass has `base` rows without guesses, one of which each text has; `most` is how many there may be
    beyond. seconds(rows) is what a pass takes. Guesses are rows in the order of how likely they come true,
    whosever they are; the number of them is the best of all, not the first that is better than its
    neighbours, since kernels take rows by the tile.
    """
    rows = sorted(
        (
            (offer.chance**place, text)
            for text, offer in enumerate(offers)
            for place in range(1, offer.most + 1)
        ),
        key=lambda row: (-row[0], row[1]),
    )[:most]
    tokens, making = float(max(1, len(offers))), 0.0
    best, count = tokens / max(seconds(base), 1e-12), 0
    for used, (gain, text) in enumerate(rows, 1):
        tokens += gain
        making += offers[text].seconds
        rate = tokens / max(seconds(base + used) + making, 1e-12)
        if rate > best:
            best, count = rate, used
    given = [0] * len(offers)
    for _, text in rows[:count]:
        given[text] += 1
    return given

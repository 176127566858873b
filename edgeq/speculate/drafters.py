"""What a drafter is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

Cancelled = Callable[[], bool]


class Look(NamedTuple):
    """A first look at what a drafter could guess."""

    kind: int  # guesses of one kind come true about equally often
    chance: float  # how often, before any of that kind was tried


class Drafter(Protocol):
    """Guesses what follows. It is asked about one text after another, each of which may go on where the last
    ended: `history` may only have grown where it is the same list."""

    @property
    def seconds(self) -> float:
        """What a guessed id costs."""

    def look(self, history: Sequence[int]) -> Look | None:
        """What it could guess of what follows `history`; None for nothing. Costs microseconds."""

    def draft(self, history: Sequence[int], most: int, cancelled: Cancelled | None = None) -> list[int]:
        """At most `most` ids that may follow `history`, the one `look` was last asked about."""

    def close(self) -> None:
        """Let go of what it holds."""

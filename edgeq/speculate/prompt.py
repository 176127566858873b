"""Guesses from the text itself: what followed the last time its last tokens stood there.

Prompt lookup: a longest suffix of the history that occurred before, among a few lengths, tells what followed
it there. A table for each length maps the n-grams of the history to where their latest occurrence ended, and
a token adds one entry to each, so a step costs microseconds however long the history is.
(Saxena, Prompt Lookup Decoding, 2023; here with several lengths and without a scan.)
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.speculate.drafters import Cancelled, Look

SIZES = (12, 8, 5, 3, 2)  # of the n-grams, the longest first
CHANCES = {12: 0.9, 8: 0.85, 5: 0.75, 3: 0.55, 2: 0.35}  # before any was tried


class PromptDrafter:
    """Guesses what followed the last occurrence of the history's longest known suffix."""

    seconds = 0.0

    def __init__(self) -> None:
        self._of: Sequence[int] | None = None
        self._begin()

    def _begin(self) -> None:
        self._ends: dict[int, dict[tuple[int, ...], int]] = {size: {} for size in SIZES}
        self._indexed = 0  # n-grams that end before this place are in the tables
        self._at = 0  # where what may follow stands

    def look(self, history: Sequence[int]) -> Look | None:
        """The longest n-gram that the history ends with and had before."""
        if history is not self._of:
            self._begin()
            self._of = history
        self._index(history)
        for size in SIZES:
            if len(history) <= size:
                continue
            at = self._ends[size].get(tuple(history[-size:]))
            if at is not None:
                self._at = at
                return Look(size, CHANCES[size])
        return None

    def draft(self, history: Sequence[int], most: int, cancelled: Cancelled | None = None) -> list[int]:
        """What followed there; where the history ends, the guesses themselves go on."""
        guesses = list(history[self._at : self._at + most])
        period = len(history) - self._at
        while len(guesses) < most:
            guesses.append(guesses[len(guesses) - period])
        return guesses

    def _index(self, history: Sequence[int]) -> None:
        """Enter the n-grams that end before the last token: what follows them is known."""
        for end in range(max(1, self._indexed), len(history)):
            for size in SIZES:
                if size <= end:
                    self._ends[size][tuple(history[end - size : end])] = end
        self._indexed = max(self._indexed, len(history))

    def close(self) -> None:
        self._of = None
        self._begin()

"""Guesses for one text, as many as pay."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.speculate.acceptance import Acceptance
from edgeq.speculate.costs import PassCosts
from edgeq.speculate.drafters import Cancelled, Drafter, Look
from edgeq.speculate.lengths import Offer, lengths

FIRST_WAIT, LAST_WAIT = 16, 512  # steps without guesses between two tries, where guesses do not pay
TRY = 3  # guesses of such a try


class Speculator:
    """Asks a drafter for guesses where they pay. Where they do not, none are made but for a try now and then:
    after 16 steps, then 32, up to 512, and from the beginning again once they pay.

    most: guesses of a pass. least: fewer are not worth a pass of their own.
    """

    def __init__(self, drafter: Drafter, *, most: int = 16, least: int = 0) -> None:
        self._drafter, self._most, self._least = drafter, most, least
        self._acceptance = Acceptance()
        self._look: Look | None = None
        self._wait, self._waited = FIRST_WAIT, 0
        self._tries = False
        self._asked = 0  # guesses for the pass under way

    def offer(self, history: Sequence[int], room: int) -> Offer:
        """What could be guessed of what follows `history`, at most `room` ids."""
        self._tries, self._asked = False, 0
        self._look = self._drafter.look(history) if room > 0 else None
        if self._look is None:
            return Offer(0.0, 0)
        most = min(self._most, room)
        if self._waited >= self._wait:
            self._tries = True
            return Offer(1.0, min(max(TRY, self._least), most))
        return Offer(self._acceptance.chance(self._look), most, self._drafter.seconds)

    def draft(self, history: Sequence[int], count: int, cancelled: Cancelled | None = None) -> list[int]:
        """So many guesses, or fewer, of what follows the history that was offered for."""
        if self._look is None:
            return []
        if count < max(1, self._least):
            self._waited += 1
            return []
        self._asked = count
        guesses = self._drafter.draft(history, count, cancelled)
        return guesses if len(guesses) >= self._least else []

    def judged(self, accepted: int) -> None:
        """What became of a pass, with guesses or without."""
        if self._look is None or not self._asked:
            return
        self._acceptance.judged(self._look.kind, accepted, accepted < self._asked)
        self._wait = min(2 * self._wait, LAST_WAIT) if self._tries else FIRST_WAIT
        self._waited = 0

    def alone(
        self, history: Sequence[int], room: int, costs: PassCosts, cancelled: Cancelled | None = None
    ) -> list[int]:
        """The guesses for a pass that no other text shares."""
        offer = self.offer(history, room)
        (count,) = lengths([offer], costs.seconds, 1, offer.most)
        return self.draft(history, count, cancelled)

"""How often guesses come true."""

from __future__ import annotations

from edgeq.speculate.drafters import Look

WEIGHT = 2.0  # guesses that the chance before any was tried is worth
MEMORY = 0.95  # what an earlier guess counts after one more
MOST = 0.98  # a chance that is never believed to be higher


class Acceptance:
    """For each kind of guess, the chance that one comes true where all before it did."""

    def __init__(self) -> None:
        self._kinds: dict[int, tuple[float, float]] = {}  # kind -> (came true, tried), of late

    def chance(self, look: Look) -> float:
        """The chance of a guess of that kind."""
        true, tried = self._kinds.get(look.kind, (0.0, 0.0))
        return min(MOST, (true + WEIGHT * look.chance) / (tried + WEIGHT))

    def judged(self, kind: int, accepted: int, missed: bool) -> None:
        """So many guesses of a draft came true; missed: the next one did not, or there was none."""
        true, tried = self._kinds.get(kind, (0.0, 0.0))
        for came_true in [True] * accepted + [False] * missed:
            true, tried = MEMORY * true + came_true, MEMORY * tried + 1
        self._kinds[kind] = true, tried

"""Strings before which a text ends, however it comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq import arguments
from edgeq.errors import UsageError, shown
from edgeq.generate.protocols import LanguageModel


class StopStrings:
    """Lets text through until one of the stop strings is complete.

    What was pushed and could still become a stop string is held back, so no part of one is ever let through.
    The string that is complete first counts (of two complete at once, the longer), so the result does not
    depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that may be shown now. After a stop string was found, always empty."""
        if self.found is not None:
            return ""
        held = self._held + text
        ends = [(start + len(stop), start, stop) for stop in self._stops if (start := held.find(stop)) >= 0]
        if ends:
            _, start, self.found = min(ends)
            self._held = ""
            return held[:start]
        keep = max((overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """The text held back, when no more will come."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


def check_stops(stop: str | Sequence[str], model: LanguageModel) -> StopStrings:
    """The stop strings, checked: each a text that is not empty, and a tokenizer to find them with."""
    if not isinstance(stop, str) and not arguments.is_sequence(stop):
        raise UsageError(f"stop is {shown(stop)}, but must be a text or a list of texts")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for each in stops:
        if not isinstance(each, str) or not each:
            raise UsageError(f"a stop string is {shown(each)}, but must be a text of at least one character")
    if stops and model.tokenizer is None:
        raise UsageError("the model file holds no tokenizer, so there is no text to find stop strings in")
    return StopStrings(stops)

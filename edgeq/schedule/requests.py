"""What is asked of the scheduler, texts that go on from one prompt; what they have in a pass, and of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from edgeq.schedule.engine import Course
from edgeq.speculate import Speculator


class Text:
    """One text under way. `owner` is whoever asked; the scheduler only hands it back.

    `cancelled` and `paused` may be set from any thread: a text that is paused keeps its place and has no
    rows, so that whoever reads it too slowly holds up nobody else. `error` is what ended it otherwise than
    its course, such as memory that the system does not give.
    """

    def __init__(self, course: Course, owner: Any = None, *, speculator: Speculator | None = None) -> None:
        self.course, self.owner, self.speculator = course, owner, speculator
        self.cancelled = self.paused = False
        self.error: BaseException | None = None
        self.sequence: Any = None  # while it runs; that of a prompt that is shared is the same for all
        self.known = 0  # ids that its sequence held when it began

    @property
    def pending(self) -> int:
        """Ids of its history that its sequence does not hold."""
        return len(self.course.history) - self.course.held

    @property
    def over(self) -> bool:
        """Whether it wants no pass any more."""
        return self.course.over or self.error is not None

    @property
    def scoring(self) -> bool:
        """Whether the logits of all rows of its prompt are wanted now."""
        return self.course.scores and not self.course.ids


class Request:
    """Texts that go on from one prompt: they share a sequence until it was read, and then each has a fork.

    sequence: goes on after what that holds, and is left open at the end; for a request of one text.
    """

    def __init__(self, texts: list[Text], *, sequence: Any = None) -> None:
        self.texts = texts
        self.given = sequence
        self.prompt_tokens = len(texts[0].course.history)
        self.promised = 0  # bytes
        self.parted = len(texts) == 1  # whether each text has a sequence of its own

    @property
    def alive(self) -> list[Text]:
        """The texts that are not over."""
        return [text for text in self.texts if not text.over]

    @property
    def active(self) -> list[Text]:
        """The texts that have rows of their own: of those that share the prompt, the first."""
        return self.alive if self.parted else self.alive[:1]

    def part(self) -> None:
        """Give each text a sequence of its own: the prompt was read."""
        if self.parted:
            return
        first, *others = self.alive
        for text in self.texts:
            text.sequence = first.sequence.fork() if text in others else None if text.over else first.sequence
        self.parted = True


class Event(NamedTuple):
    """What a step did for one text."""

    text: Text
    pieces: list[Any]  # that its course gave
    seconds: float = 0.0  # that the pass took; 0 where it was ended without one
    reads: bool = False  # whether the pass was over its prompt
    drawn: int = 0  # tokens
    drafted: int = 0  # guesses that were fed


class Rows(NamedTuple):
    """What one text has in the pass that is being built."""

    text: Text
    request: Request
    ids: list[int]
    wanted: int  # rows of logits
    drafted: int = 0
    draws: bool = True  # whether a token is drawn: the last of what the text's sequence lacks is among them

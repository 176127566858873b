"""An answer to messages, as it is generated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgeq.generate import Generation, Piece, Result, Timings, Usage
from edgeq.generate.asynchronous import in_threads
from edgeq.ownership import Unique


@dataclass(frozen=True)
class ChatResult(Result):
    """What came of an answer: the fields of `Result`, and as `Answer` has them:"""

    message: dict[str, Any]
    forgotten: int


class Answer(Unique, Iterator[Piece]):
    """An iterator over pieces of text, with `async for` too; also a context manager.

    `generation` has all there is to know of it. `forgotten` is how many of the conversation's oldest messages
    no longer fitted in the context. However the answer ends (its end, `close`, `cancel`, an exception),
    `message` and `result` are what there is of it.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        forgotten: int = 0,
        ended: Callable[[Answer], object] | None = None,
    ) -> None:
        self._begin()
        self.generation = generation
        self.forgotten = forgotten
        self._ended = ended

    @property
    def text(self) -> str:
        """What was answered so far."""
        return self.generation.text

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message of a conversation."""
        return {"role": "assistant", "content": self.text}

    @property
    def finish_reason(self) -> str | None:
        """As the generation's."""
        return self.generation.finish_reason

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self.generation.usage

    @property
    def timings(self) -> Timings:
        """Seconds so far."""
        return self.generation.timings

    @property
    def result(self) -> ChatResult:
        """What came of it so far."""
        facts: dict[str, Any] = self.generation.facts()
        return ChatResult(**facts, message=self.message, forgotten=self.forgotten)

    def read(self) -> ChatResult:
        """Go on to the end; what came of it."""
        for _ in self:
            pass
        return self.result

    def __iter__(self) -> Answer:
        return self

    def __aiter__(self) -> AsyncIterator[Piece]:
        return in_threads(self)

    def __next__(self) -> Piece:
        try:
            return next(self.generation)
        finally:
            self._look()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self) -> None:
        """End the answer soon; may come from any thread, and while a piece is made."""
        self.generation.cancel()

    def close(self) -> None:
        """End the answer; UsageError while a piece is made."""
        try:
            self.generation.close()
        finally:
            self._look()

    def __repr__(self) -> str:
        return self.generation.told("Answer")

    def _look(self) -> None:
        """Tell that the answer has ended, once it has."""
        if self._ended is not None and self.generation.over:
            ended, self._ended = self._ended, None
            ended(self)

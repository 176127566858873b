"""An answer to messages, as it is generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgeq.generate import Generation


class Answer(Iterator[str]):
    """An iterator over pieces of text; also a context manager. `generation` has all there is to know of it.

    forgotten: how many of the oldest messages no longer fitted in the context. However the answer ends (its
    end, `close`, `cancel`, an exception), `message` is what there is of it.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        forgotten: int = 0,
        ended: Callable[[Answer], object] | None = None,
    ) -> None:
        self.generation = generation
        self.forgotten = forgotten
        self._ended = ended

    @property
    def text(self) -> str:
        """What was answered so far."""
        return self.generation.text

    @property
    def message(self) -> dict[str, str]:
        """The answer as a message of a conversation."""
        return {"role": "assistant", "content": self.text}

    @property
    def finish_reason(self) -> str | None:
        """As the generation's."""
        return self.generation.finish_reason

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> str:
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

    def _look(self) -> None:
        """Tell that the answer has ended, once it has."""
        if self._ended is not None and self.generation.over:
            ended, self._ended = self._ended, None
            ended(self)

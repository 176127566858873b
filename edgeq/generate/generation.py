"""A generation under way: an iterator over pieces of text, that any thread can cancel."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import CancelledError, UsageError, shown
from edgeq.generate.asynchronous import in_threads
from edgeq.generate.logprobs import TokenLogprob
from edgeq.generate.protocols import LanguageModel, TokenSequence
from edgeq.generate.results import Piece, Result, Timings, Usage
from edgeq.ownership import Line, Turn, Unique
from edgeq.sampling import Sampler


class Generation(Unique, Iterator[Piece]):
    """An iterator over pieces of text, with `async for` too; also a context manager. One call at a time:
    another that comes meanwhile, from wherever, is refused with UsageError.

    `prompt_ids` went in; `ids` are the tokens that came out, without the end token; `text` is what was
    yielded so far, the decoded ids up to a stop string. `finish_reason` is "eos" (end token), "stop" (stop
    string), "length" (max_tokens or the context's end), "cancelled" (by `cancel`), or None while it runs and
    when it was broken off. `seed` draws the same tokens again; `logprobs` is a list beside `ids` where they
    are asked for. An exception, KeyboardInterrupt included, ends the iteration and leaves all of these as
    they were; `close` ends it early, `cancel` from any thread.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt_ids: list[int],
        sampler: Sampler,
        timings: Timings,
        *,
        cached_tokens: int = 0,
        logprobs: list[TokenLogprob] | None = None,
    ) -> None:
        self._begin()
        self._calls = Line()
        self.model = model
        self.prompt_ids = prompt_ids
        self.ids: list[int] = []
        self.finish_reason: str | None = None
        self.stop_string: str | None = None
        self.timings = timings
        self.logprobs = logprobs
        self.seed = sampler.seed
        self._sampler = sampler
        self._cached = cached_tokens
        self._pieces: list[str] = []
        self._cancelled = False
        self._run: Generator[Piece, None, None] = _nothing()

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(self._cached + len(self.prompt_ids), self._cached, len(self.ids))

    @property
    def result(self) -> Result:
        """What came of it so far."""
        return Result(**self.facts())

    def facts(self) -> dict[str, Any]:
        """The fields of `result`."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "timings": replace(self.timings),
            "seed": self.seed,
            "ids": tuple(self.ids),
            "logprobs": None if self.logprobs is None else tuple(self.logprobs),
        }

    def read(self) -> Result:
        """Go on to the end; what came of it."""
        for _ in self:
            pass
        return self.result

    @property
    def over(self) -> bool:
        """Whether no piece will come any more."""
        return inspect.getgeneratorstate(self._run) == inspect.GEN_CLOSED

    def __iter__(self) -> Generation:
        return self

    def __aiter__(self) -> AsyncIterator[Piece]:
        return in_threads(self)

    def __next__(self) -> Piece:
        turn = Turn("the generation is at work")
        try:
            self._calls.claim(turn, "go on")
            if self._vanished():
                raise UsageError(
                    "the generation was at work in a thread that this process, made by fork, does not have, "
                    "so it cannot go on here."
                )
            return next(self._run)
        finally:
            turn.over = True

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self) -> None:
        """Let the iteration end soon, within a pass under way too. May come from any thread, a callback or a
        signal's handler; when it has ended, there is nothing to cancel."""
        self._cancelled = True

    def close(self) -> None:
        """End the generation and free its cache, unless the sequence was the caller's."""
        turn = Turn("the generation is being closed")
        try:
            self._calls.claim(turn, "be closed")
            if self._vanished():
                self._run = _nothing()
            self._run.close()
        finally:
            turn.over = True

    def _step(
        self,
        sequence: TokenSequence,
        ids: Sequence[int],
        progress: Callable[..., Any] | None = None,
    ) -> tuple[NDArray[np.float32], int]:
        """The sequence's; CancelledError once `cancel` was called."""
        if self._cancelled:
            raise CancelledError("the generation was cancelled")
        fed = sequence.step(ids, progress=progress, cancelled=lambda: self._cancelled)
        return fed[0][-1], int(fed[1][-1])

    def __repr__(self) -> str:
        return self.told("Generation")

    def told(self, name: str) -> str:
        """What there is of it, in a line."""
        state = self.finish_reason or ("broken off" if self.over else "not at its end")
        return f"<edgeq.{name}: {len(self.ids)} tokens, {state}, {shown(self.text)}>"

    def _vanished(self) -> bool:
        """Whether, though nobody else has the turn, it is at work: its thread vanished in a `fork`."""
        return inspect.getgeneratorstate(self._run) == inspect.GEN_RUNNING


def _nothing() -> Generator[Piece, None, None]:
    yield from ()

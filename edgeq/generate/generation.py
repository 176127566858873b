"""A generation under way: an iterator over pieces of text, that any thread can cancel."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

from edgeq.errors import CancelledError, UsageError
from edgeq.generate.account import Account
from edgeq.generate.asynchronous import in_threads
from edgeq.generate.prepared import Prepared
from edgeq.generate.protocols import LanguageModel, TokenSequence
from edgeq.generate.results import Piece, Result, Timings
from edgeq.ownership import Line, Turn, Unique
from edgeq.passes import Fed, Feed


class Generation(Unique, Account, Iterator[Piece]):
    """An iterator over pieces of text, with `async for` too; also a context manager. One call at a time:
    another that comes meanwhile, from wherever, is refused with UsageError.

    `prompt_ids` went in; `ids` are the tokens that came out, without the end token; `text` is what was
    yielded so far, the decoded ids up to a stop string. `finish_reason` is "eos" (end token), "stop" (stop
    string), "length" (max_tokens or the context's end), "cancelled" (by `cancel`), or None while it runs and
    when it was broken off. `seed` draws the same tokens again; `logprobs` is a list beside `ids` where they
    are asked for. An exception, KeyboardInterrupt included, ends the iteration and leaves all of these as
    they were; `close` ends it early, `cancel` from any thread.
    """

    def __init__(self, model: LanguageModel, prepared: Prepared) -> None:
        self._begin()
        super().__init__(
            prepared.prompt_ids,
            prepared.sampler.seed,
            Timings(
                prompt_tokens=len(prepared.prompt_ids), load_seconds=getattr(model, "load_seconds", None)
            ),
            cached_tokens=prepared.cached_tokens,
            logprobs=prepared.logprobs,
        )
        self._calls = Line()
        self.model = model
        self._sampler = prepared.sampler
        self._drafts = prepared.drafts if prepared.own_drafts else None
        self._cancelled = False
        self._run: Generator[Piece, None, None] = _nothing()

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
            if self._drafts is not None:
                self._drafts.close()
        finally:
            turn.over = True

    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def _step(self, sequence: TokenSequence, feed: Feed, progress: Callable[..., Any] | None = None) -> Fed:
        """The sequence's; CancelledError once `cancel` was called."""
        if self._cancelled:
            raise CancelledError("the generation was cancelled")
        return sequence.step(feed.ids, wanted=feed.wanted, progress=progress, cancelled=self.is_cancelled)

    def __repr__(self) -> str:
        return self.told("Generation")

    def _vanished(self) -> bool:
        """Whether, though nobody else has the turn, it is at work: its thread vanished in a `fork`."""
        return inspect.getgeneratorstate(self._run) == inspect.GEN_RUNNING


def _nothing() -> Generator[Piece, None, None]:
    yield from ()

"""What is under way for one HTTP request, between the thread that steps and whoever reads the answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from edgeq.generate import BatchGeneration, Piece
from edgeq.serve.errors import ApiError
from edgeq.serve.news import News
from edgeq.serve.request import Event

PIECES_MAX = 256  # tokens, and others told beside them, that wait for a reader; then its texts pause


class Work:
    """The texts of one HTTP request; all but `count` is the event loop's.

    However `events` is left, `close` cancels what is not over. What a reader has not taken is counted where
    it comes to be, in the engine's thread: however far behind the loop is, the texts pause with the step that
    reaches PIECES_MAX.
    """

    def __init__(self, wake: Callable[[], object], places: int) -> None:
        """wake(): lets the thread that steps look again."""
        self._wake, self.places = wake, places
        self.generations: list[BatchGeneration] = []
        self.started = asyncio.Event()  # set with the first event
        self.first_step: float | None = None  # by the monotonic clock
        self.first_token: float | None = None
        self.cancelled = False
        self.over = 0  # texts
        self._news = News()
        self._events: dict[int, list[Piece]] = {}
        self._ended: set[int] = set()
        self._lock = threading.Lock()  # of the two below, and of `cancelled` beside them
        self._waiting = 0  # as PIECES_MAX has it, also what is on its way to the loop
        self._paused = False
        self._error: ApiError | None = None

    @property
    def done(self) -> bool:
        return self._error is not None or (bool(self.generations) and self.over == len(self.generations))

    async def events(
        self, until: Callable[[], float | None] = lambda: None
    ) -> AsyncGenerator[list[Event], None]:
        """Lists of events, each what came since the last, and an empty one where nothing came until a time of
        the loop's clock, which is asked for before each wait. ApiError for what ended the work."""
        try:
            while True:
                if not await self._news.wait(until()):
                    yield []
                    continue
                self._news.clear()
                events = [Event(n, pieces, n in self._ended) for n, pieces in self._events.items()]
                self._events, self._ended = {}, set()
                self._taken(sum(weight(event.pieces) for event in events))
                if events:
                    yield events
                if self._events:  # more came meanwhile
                    continue
                if self._error is not None:
                    raise self._error
                if self.done:
                    return
        finally:
            self._news.close()

    def feed(self, index: int, pieces: list[Piece], over: bool) -> None:
        """What a step gave one text."""
        if self.first_token is None:
            now = time.monotonic()
            self.first_step = self.first_step or now
            self.first_token = now if pieces else None
        self.started.set()
        self._events.setdefault(index, []).extend(pieces)
        if over:
            self.over += 1
            self._ended.add(index)
        self._news.set()

    def count(self, pieces: list[Piece]) -> None:
        """What a step gave one text, before it is on its way: the engine's thread."""
        with self._lock:
            self._waiting += weight(pieces)
            if self._waiting >= PIECES_MAX and not self._paused and not self.cancelled:
                self._pause(True)

    def _taken(self, count: int) -> None:
        with self._lock:
            self._waiting -= count
            if self._paused and self._waiting < PIECES_MAX:
                self._pause(False)

    def fail(self, error: ApiError) -> None:
        """Nothing more will come of it."""
        if not self.done:
            self._error = error
            self._news.set()
            self.close()

    def close(self) -> None:
        """Cancel what is not over."""
        with self._lock:
            self.cancelled = True
            for generation in self.generations:
                generation.cancel()
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        for generation in self.generations:
            generation.pause(paused)
        self._wake()


def weight(pieces: Sequence[Piece]) -> int:
    """Tokens, and others told beside them."""
    return sum(1 if piece.logprob is None else 1 + len(piece.logprob.top) for piece in pieces)

"""The thread that steps the model, and the door between it and the event loop.

The loop admits (`reserve`), a thread that prepares requests submits them, and after each step the events of
all texts come to the loop in one call. No lock is held across a pass.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from edgeq.generate import Batch, BatchGeneration, Piece
from edgeq.serve.errors import ApiError, api_error
from edgeq.serve.news import News
from edgeq.serve.request import Event, Request

PIECES_MAX = 256  # tokens, and others told beside them, that wait for a reader; then its texts pause
IDLE_S = 0.25  # between looks at texts that are all paused
STALLED_S = 30.0  # that a step may take in any case
STALLED_STEPS = 20  # times what steps take usually


class Work:
    """The texts of one HTTP request; all but `count` is the event loop's.

    However `events` is left, `close` cancels what is not over. What a reader has not taken is counted where
    it comes to be, in the engine's thread: however far behind the loop is, the texts pause with the step that
    reaches PIECES_MAX.
    """

    def __init__(self, worker: Worker, places: int) -> None:
        self._worker, self.places = worker, places
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
        self._worker.wake()


class Worker:
    """One model's texts, all of them stepped by one thread.

    parallel: texts that run at once; queue: that wait besides. crashed(error) is called in the loop when a
    step fails as a whole, which is a fault: nothing is computed after it.
    """

    def __init__(
        self,
        model: Any,
        loop: asyncio.AbstractEventLoop,
        *,
        parallel: int = 4,
        queue: int = 64,
        stall: float = 0.25,
        draft: object = None,
        crashed: Callable[[BaseException], object] = lambda error: None,
        observe: Callable[[float, int], object] = lambda seconds, rows: None,
    ) -> None:
        self.batch = Batch(model, parallel=parallel, stall=stall, draft=draft)
        self.parallel, self.places = parallel, parallel + queue
        self.taken = 0  # places
        self.works: set[Work] = set()
        self.step_seconds = 0.0  # of a step, lately
        self._loop, self._crashed, self._observe = loop, crashed, observe
        self._owners: dict[int, tuple[Work, int, BatchGeneration]] = {}
        self._lock = threading.Lock()  # of _owners, and of what is added beside them
        self._awake = threading.Event()
        self._stop = False
        self._step_began: float | None = None
        self._thread = threading.Thread(target=self._run, name="edgeq-serve-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._awake.set()

    def stop(self) -> None:
        """Cancel everything and wait for the thread."""
        self._stop = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
        self.batch.close()

    @property
    def stalled(self) -> bool:
        """Whether the step under way takes far longer than steps do."""
        began = self._step_began
        most = max(STALLED_S, STALLED_STEPS * self.step_seconds)
        return began is not None and time.monotonic() - began > most

    @property
    def thread_id(self) -> int | None:
        return self._thread.ident

    # admission: the loop's ---------------------------------------------------------------------------

    def reserve(self, places: int = 1) -> Work:
        """Places for so many texts. ApiError where the queue is full."""
        self._check(places)
        self.taken += places
        work = Work(self, places)
        self.works.add(work)
        return work

    def widen(self, work: Work, places: int) -> None:
        """Let a work that was not submitted yet have so many places. ApiError where there are not as many."""
        if places > self.places:
            raise ApiError(400, f"{places} texts are asked for, but {self.places} run and wait at the most")
        self._check(places - work.places)
        self.taken += places - work.places
        work.places = places

    def _check(self, places: int) -> None:
        if self.taken + places > self.places:
            wait = 1 + int(self.taken * self.step_seconds * 32)
            raise ApiError(
                429,
                f"{self.taken} texts run or wait and {self.places} places are all there are: "
                f"no room for {places} more just now",
                code="queue_full",
                retry_after=max(1, min(30, wait)),
            )

    def release(self, work: Work) -> None:
        """Give back the places of a work that was never submitted, or whose texts are all over."""
        if work in self.works:
            self.works.remove(work)
            self.taken -= work.places

    def fail_all(self, error: ApiError) -> None:
        """Let no work under way come to its end."""
        for work in list(self.works):
            work.fail(error)

    # any thread ----------------------------------------------------------------------------------------

    def submit(self, work: Work, requests: Sequence[Request]) -> None:
        """Let the engine begin with requests. UsageError, with nothing begun, for what it cannot do."""
        groups = [group for request in requests for group in made(self.batch, request, self.parallel)]
        generations = [generation for group in groups for generation in group]
        with self._lock:  # so that no event of theirs comes before it is known whose they are
            for index, generation in enumerate(generations):
                self._owners[id(generation)] = work, index, generation
            try:
                begin(self.batch, groups)
            except BaseException:
                for generation in generations:
                    self._owners.pop(id(generation))
                raise
            work.generations = generations
            if work.cancelled:
                for generation in generations:
                    generation.cancel()
        self.wake()

    # the engine's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop:
                if self.batch.idle:
                    self._awake.wait()
                self._awake.clear()
                if not self.batch.idle:
                    self._step()
        except BaseException as error:
            self._call(self._crashed, error)

    def _step(self) -> None:
        began = self._step_began = time.monotonic()
        events = self.batch.step()
        seconds, self._step_began = time.monotonic() - began, None
        if not events:  # all are paused, or memory is short: somebody has to move
            self._awake.wait(IDLE_S)
            return
        self.step_seconds += (seconds - self.step_seconds) / (8 if self.step_seconds else 1)
        told = []
        with self._lock:
            for generation, pieces in events:
                owner = self._owners.get(id(generation))
                if owner is not None:  # else it was taken back while it was being added
                    owner[0].count(pieces)
                    told.append((*owner, pieces, generation.over))
                    if generation.over:
                        del self._owners[id(generation)]
        self._call(self._deliver, told, seconds)

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has ended: nobody is there to hear of it
            self._stop = True

    def _deliver(
        self, told: list[tuple[Work, int, BatchGeneration, list[Piece], bool]], seconds: float
    ) -> None:
        """In the loop: hand each work what a step gave it."""
        self._observe(seconds, len(told))
        for work, index, generation, pieces, over in told:
            if over and generation.error is not None:
                work.fail(api_error(generation.error))
            work.feed(index, pieces, over)
            if over and work.over == len(work.generations):
                self.release(work)


def weight(pieces: Sequence[Piece]) -> int:
    """Tokens, and others told beside them."""
    return sum(1 if piece.logprob is None else 1 + len(piece.logprob.top) for piece in pieces)


def made(batch: Batch, request: Request, most: int) -> Iterator[list[BatchGeneration]]:
    """A request's texts, in groups of at most so many that begin together. UsageError for what a batch
    cannot do."""
    options: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "stop": request.stop,
        "logprobs": request.logprobs,
        "cache_prompt": request.cache,
        "cache_salt": request.salt,
        "score": request.score,
        "mask": request.mask,
    }
    for part in divided(request, most):
        yield batch.make(part.prompt, part.n, options=part.options, **options)


def begin(batch: Batch, groups: Sequence[list[BatchGeneration]]) -> None:
    """Begin with all of them, or with none: what one cannot do lets go of the others."""
    try:
        for group in groups:
            batch.begin(group)
    except BaseException:
        for generation in (each for group in groups for each in group):
            generation.cancel()
        raise


def divided(request: Request, most: int) -> Iterator[Request]:
    """Requests of at most so many texts each that together are the request."""
    for start in range(0, request.n, most):
        seed = request.options.seed
        options = request.options
        if start and seed is not None:
            options = replace(options, seed=(seed + start) % 2**64)
        yield replace(request, n=min(most, request.n - start), options=options)

"""One model's texts, and the door between the thread that steps it and the event loop.

The loop admits (`reserve`), a thread that prepares requests submits them, and after each step the events of
all texts come to the loop in one call. No lock is held across a pass.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from edgeq.generate import Batch, BatchGeneration, Piece
from edgeq.serve.errors import ApiError, api_error
from edgeq.serve.request import Request
from edgeq.serve.turns import Turns
from edgeq.serve.work import Work

STALLED_S = 30.0  # that a step may take in any case
STALLED_STEPS = 20  # times what steps take usually


class Step(NamedTuple):
    """What one step took: seconds, texts that had a part in it, rows of its pass, and seconds of drawing."""

    seconds: float
    texts: int
    rows: int
    draw_seconds: float


class Worker:
    """One model's texts, all of them stepped by the one thread of `turns`, others' too.

    parallel: texts that run at once; queue: that wait besides. observe is told of each step.
    """

    def __init__(
        self,
        model: Any,
        turns: Turns,
        *,
        parallel: int = 4,
        queue: int = 64,
        stall: float = 0.25,
        draft: object = None,
        observe: Callable[[Step], object] = lambda step: None,
    ) -> None:
        self.batch = Batch(model, parallel=parallel, stall=stall, draft=draft)
        self.parallel, self.places = parallel, parallel + queue
        self.taken = 0  # places
        self.works: set[Work] = set()
        self.step_seconds = 0.0  # of a step, lately
        self.used = 0.0  # seconds that steps took; `turns` adds those that others had meanwhile
        self._turns, self._observe = turns, observe
        self._owners: dict[int, tuple[Work, int, BatchGeneration]] = {}
        self._lock = threading.Lock()  # of _owners, and of what is added beside them
        self._step_began: float | None = None
        turns.join(self)

    def close(self) -> None:
        """Cancel everything, once `turns` has stopped."""
        self.batch.close()

    @property
    def stalled(self) -> bool:
        """Whether the step under way takes far longer than steps do."""
        began = self._step_began
        most = max(STALLED_S, STALLED_STEPS * self.step_seconds)
        return began is not None and time.monotonic() - began > most

    # admission: the loop's ---------------------------------------------------------------------------

    def reserve(self, places: int = 1) -> Work:
        """Places for so many texts. ApiError where the queue is full."""
        self._check(places)
        self.taken += places
        work = Work(self._turns.wake, places)
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
        self._turns.wake()

    # the engine's thread -------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether there is nothing to step."""
        return self.batch.idle

    def step(self) -> bool:
        """One step; False where nobody can move: all are paused, or memory is short."""
        began = self._step_began = time.monotonic()
        events = self.batch.step()
        seconds, self._step_began = time.monotonic() - began, None
        if not events:
            return False
        self.used += seconds
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
        self._turns.call(self._deliver, told, Step(seconds, len(told), *self.batch.last_step))
        return True

    def _deliver(self, told: list[tuple[Work, int, BatchGeneration, list[Piece], bool]], step: Step) -> None:
        """In the loop: hand each work what a step gave it."""
        self._observe(step)
        for work, index, generation, pieces, over in told:
            if over and generation.error is not None:
                work.fail(api_error(generation.error))
            work.feed(index, pieces, over)
            if over and work.over == len(work.generations):
                self.release(work)


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
        if part.mask is not None and part.n < request.n:
            options["mask"] = part.mask.copy()  # type: ignore[attr-defined]
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

"""The step: who may begin, what the pass has, and what came of it.

A pass has one row for each text that decodes, all of them and always; then rows of prompts, as many as keep
the step short while others decode, shared evenly by the few oldest that read one; then guesses, where they
pay. A text's logits do not depend on who shares its passes or how its prompt was cut, so neither does what it
says: the schedule decides when, never what.

Requests begin in the order in which they came, once the pages that they could come to need can be promised.
Should the system have less memory than the pool was told, the youngest gives its pages back and begins anew
later, from the ids it has: nobody can see it.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from edgeq.errors import OutOfMemoryError, UsageError
from edgeq.passes import Fed, Part
from edgeq.schedule.engine import Engine
from edgeq.schedule.memory import Promises
from edgeq.schedule.requests import Event, Request, Rows, Text
from edgeq.schedule.rows import ROWS_LEAST, affordable, share
from edgeq.speculate import PassCosts, lengths
from edgeq.speculate.lengths import Offer

PROMPTS = 4  # that are read at once


class Scheduler:
    """Steps the texts of many requests together. One caller at a time steps; `add` and `Text.cancelled` are
    anybody's, at any time.

    parallel: texts that run at once. stall: seconds that a pass may take while somebody decodes. tile: rows
    that kernels take together. opened(text) gives a sequence for a text's history, which may hold the
    beginning of it already; closed(sequence, text) is given it back. By default one is made and closed.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        parallel: int = 16,
        stall: float = 0.25,
        tile: int = 8,
        clock: Callable[[], float] = time.perf_counter,
        opened: Callable[[Text], Any] | None = None,
        closed: Callable[[Any, Text], object] | None = None,
    ) -> None:
        self.engine = engine
        self.parallel = max(1, min(parallel, engine.pass_tokens - 1, engine.pass_outputs))
        self.costs = PassCosts()
        self.preempted = 0  # requests that gave their pages back
        self.pass_rows = 0  # of the last step's pass
        self.draw_seconds = 0.0  # that drawing from its logits took
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # the oldest first
        self._added: deque[Request] = deque()  # by any thread
        self._promises = Promises(engine)
        self._failed: list[Text] = []  # in the step under way, before its pass
        self._is_short = False  # of memory: nobody begins before somebody has ended
        self._stall, self._tile, self._clock = stall, tile, clock
        self._opened = opened if opened is not None else lambda text: engine.sequence()
        self._closed = closed if closed is not None else lambda sequence, text: sequence.close()

    @property
    def idle(self) -> bool:
        """Whether nobody runs or waits."""
        return not (self._added or self.waiting or self.running)

    @property
    def counts(self) -> tuple[int, int]:
        """How many texts run, and how many wait."""
        running = sum(len(request.alive) for request in self.running)
        return running, sum(len(request.alive) for request in [*self.waiting, *self._added.copy()])

    def cancel_all(self) -> None:
        """Let everything end with the next step."""
        for request in [*self.running, *self.waiting, *self._added.copy()]:
            for text in request.texts:
                text.cancelled = True

    def add(self, request: Request) -> None:
        """Let a request wait for its turn. UsageError for one that could never have it: more texts than run
        at once, or more memory than there is."""
        if len(request.texts) > self.parallel:
            raise UsageError(
                f"{len(request.texts)} answers to one prompt are wanted, but {self.parallel} run at once"
            )
        self._promises.check(request)
        self._added.append(request)

    def step(self) -> list[Event]:
        """One pass, and what came of it, an event for each text that it had rows of or that was ended."""
        while self._added:
            self.waiting.append(self._added.popleft())
        events = self._cancel()
        self._admit()
        rows = self._rows()
        events += [Event(text, []) for text in self._failed]
        self._failed = []
        self.pass_rows, self.draw_seconds = sum(len(row.ids) for row in rows), 0.0
        if rows:
            start = self._clock()
            try:
                fed = list(
                    self.engine.advance([Part(row.text.sequence, row.ids, row.wanted) for row in rows])
                )
            except OutOfMemoryError as error:
                self._put_right(rows)
                events += self._without_memory(error)
            except BaseException:
                self._put_right(rows)
                raise
            else:
                seconds = self._clock() - start
                self.costs.passed(self.pass_rows, seconds)
                drawing = time.perf_counter()
                for row, given in zip(rows, fed, strict=True):
                    events += self._passed(row, given, seconds)
                self.draw_seconds = time.perf_counter() - drawing
        self._leave()
        return events

    # who runs -------------------------------------------------------------------------------------------

    def _cancel(self) -> list[Event]:
        """End those that were cancelled, wherever they are."""
        events = [
            Event(text, text.course.end("cancelled"))
            for request in [*self.running, *self.waiting]
            for text in request.alive
            if text.cancelled
        ]
        if events:
            self._leave()
            self.waiting = deque(request for request in self.waiting if request.alive)
        return events

    def _admit(self) -> None:
        """Let those begin who are next and for whom there is a place and memory."""
        places = self.parallel - sum(len(request.alive) for request in self.running)
        while self.waiting and not self._is_short:
            request = self.waiting[0]
            if len(request.alive) > places or not self._promises.make(request):
                return
            self.running.append(self.waiting.popleft())
            places -= len(request.alive)
            try:
                self._begin(request)
            except Exception as error:
                for text in request.alive:
                    self._fail(text, error)

    def _begin(self, request: Request) -> None:
        """Give a request's texts the sequences that they begin with."""
        for text in request.active:
            given = request.given
            text.sequence = given if given is not None else self._opened(text)
            text.course.held = text.known = len(text.sequence.ids)
        self._same(request)

    def _fail(self, text: Text, error: Exception) -> None:
        """End a text with an error; the others go on."""
        text.error = pageless(error)
        self._failed.append(text)

    def _same(self, request: Request) -> None:
        """Let the texts of a prompt that is still shared know the same of its sequence."""
        if not request.parted:
            first = request.active[0]
            for text in request.alive:
                text.sequence, text.course.held = first.sequence, first.course.held

    def _leave(self) -> None:
        """Let go of what those hold who are over."""
        for request in self.running:
            alive = request.alive
            if not request.parted and not alive:  # what all of them shared is let go of once
                shared = next((text.sequence for text in request.texts if text.sequence is not None), None)
                for text in request.texts:
                    text.sequence = shared if text is request.texts[0] else None
            for text in request.texts if request.parted or not alive else ():
                if text.over and text.sequence is not None:
                    sequence, text.sequence = text.sequence, None
                    if sequence is not request.given:
                        self._closed(sequence, text)
            if not alive:
                self._promises.end(request)
                self._is_short = False
        self.running = [request for request in self.running if request.alive]

    # the pass -------------------------------------------------------------------------------------------

    def _rows(self) -> list[Rows]:
        """What the pass has."""
        active = [(text, request) for request in self.running for text in request.active if not text.paused]
        decoding = [(text, request) for text, request in active if text.pending == 1]
        reading = [(text, request) for text, request in active if text.pending > 1][:PROMPTS]
        most = self.engine.pass_tokens
        if reading and decoding:
            most = affordable(self.costs.seconds, self._stall, most, self._tile)
            most = min(max(most, len(decoding) + ROWS_LEAST // 2), self.engine.pass_tokens)
        prompts: list[Rows] = []
        outputs = len(decoding)
        left = len(reading)  # who may want logits yet, a row each
        shares = share(most - len(decoding), [text.pending for text, _ in reading])
        for (text, request), count in zip(reading, shares, strict=True):
            left -= 1
            if text.scoring:
                count = min(count, max(0, self.engine.pass_outputs - outputs - left))
            if count:
                wanted = text.course.wanted()
                assert wanted is not None  # it is not over
                whole = count == len(wanted.ids)
                rows = count if text.scoring else wanted.wanted if whole else 0
                prompts.append(Rows(text, request, wanted.ids[:count], rows, draws=whole))
                outputs += rows
        return [*self._decode(decoding, sum(len(row.ids) for row in prompts), outputs), *prompts]

    def _decode(self, decoding: list[tuple[Text, Request]], others: int, outputs: int) -> list[Rows]:
        """The rows of those that decode, guesses among them, beside so many other rows."""
        base = len(decoding) + others
        spare = min(self.engine.pass_tokens - base, self.engine.pass_outputs - outputs)
        rows = []
        for (text, request), draft in zip(decoding, self._drafts(decoding, base, spare), strict=True):
            if text.error is None:
                feed = text.course.wanted(draft)
                assert feed is not None  # it is not over
                rows.append(Rows(text, request, feed.ids, feed.wanted, feed.wanted - 1))
        return rows

    def _drafts(self, decoding: list[tuple[Text, Request]], base: int, spare: int) -> list[list[int]]:
        """Guesses for each, as many as pay; an error of whatever guesses is that of the text."""
        drafts: list[list[int]] = [[] for _ in decoding]
        if not any(text.speculator for text, _ in decoding):
            return drafts
        offers = []
        for text, _ in decoding:
            course, guesses = text.course, text.speculator
            offers.append(guesses.offer(course.history, course.room) if guesses is not None else Offer(0, 0))
        counts = lengths(offers, self.costs.seconds, base, spare)
        for n, (text, _) in enumerate(decoding):
            if text.speculator is not None:
                try:
                    drafts[n] = text.speculator.draft(text.course.history, counts[n])
                except Exception as error:
                    self._fail(text, error)
        return drafts

    def _passed(self, row: Rows, fed: Fed, seconds: float) -> list[Event]:
        """What came of one text's rows; of the last of a shared prompt, for each that goes on from it."""
        request, first = row.request, row.text
        reads = not first.course.ids
        if first.scoring and row.wanted:
            fed = first.course.score(fed)
        if not row.draws:
            first.course.held += len(row.ids)
            self._same(request)
            return [Event(first, [], seconds, reads)]
        texts = [first] if request.parted else request.alive
        request.part()
        events = []
        for text in texts:
            try:
                accepted = text.course.accept(fed)
                if accepted.kept < len(row.ids):
                    text.course.held = text.sequence.truncate(text.course.held)
            except Exception as error:  # of a mask, or of a caller's own sampler
                text.error = error
                events.append(Event(text, [], seconds, reads))
                continue
            if text.speculator is not None and not reads:
                text.speculator.judged(max(0, accepted.drawn - 1))
            events.append(Event(text, accepted.pieces, seconds, reads, accepted.drawn, row.drafted))
        return events

    # what goes wrong ------------------------------------------------------------------------------------

    def _put_right(self, rows: list[Rows]) -> None:
        """After a pass that was broken off: a sequence may hold what it held before, or more of it."""
        for row in rows:
            course, sequence = row.text.course, row.text.sequence
            held = len(sequence.ids)
            course.held = sequence.truncate(course.held) if held > course.held else held
            self._same(row.request)

    def _without_memory(self, error: OutOfMemoryError) -> list[Event]:
        """The youngest that can gives its pages back and waits; one that is alone ends with the error."""
        free = [request for request in self.running if request.given is None]
        if len(self.running) == 1 or not free:
            for text in self.running[-1].alive:
                text.error = pageless(error)
            return [Event(text, []) for text in self.running[-1].texts if text.error is error]
        youngest = free[-1]
        for text in youngest.active:
            self._closed(text.sequence, text)
        for text in youngest.texts:
            text.sequence, text.course.held = None, 0
        self.preempted += 1
        self._promises.end(youngest)
        self.running.remove(youngest)
        self.waiting.appendleft(youngest)
        self._is_short = True
        return []


def pageless(error: Exception) -> Exception:
    """An error that may be kept for long, without what the calls that it came through held: pages."""
    traceback.clear_frames(error.__traceback__)
    return error

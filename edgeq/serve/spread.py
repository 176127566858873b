"""A file of requests, answered by servers on several machines: each takes the next when it is ready for it.

Nothing is dealt out beforehand, so that a fast machine does more and one that ends costs only what it had
under way, which others take over. Threads wait for servers; one alone, the caller's, writes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.errors import EdgeqError, UsageError
from edgeq.serve.batch import Output, lines_of
from edgeq.serve.remote import Address, Busy, Call, Failed, Unfit

PATIENCE_S = 300.0  # in which a server answers nothing but that it cannot; then it is left out
PAUSE_S, PAUSE_MAX_S = 0.5, 30.0  # after a failure, twice as long after each that follows
TRIES = 4  # of a request that servers end in the middle of: it may be what ends them

Progress = Callable[[int, int, int], object]


@dataclass
class Asked:
    """A request that is to be answered."""

    custom_id: str
    url: str
    body: dict[str, Any]
    failed_at: set[str] = field(default_factory=set)  # servers
    tries: int = 0


@dataclass
class Server:
    """What is known of a server while the file is answered."""

    address: Address
    not_before: float = 0.0  # by the monotonic clock, when it is asked again
    failing_since: float | None = None
    failures: int = 0  # one after the other
    left_out: str | None = None  # why

    def answered(self) -> None:
        self.failing_since, self.failures = None, 0

    def pause(self, now: float, seconds: float | None, patience: float, why: str) -> None:
        """It did not answer: ask it again after so many seconds, or after ever more of them."""
        if self.failing_since is None:
            self.failing_since = now
        elif now - self.failing_since > patience:
            self.left_out = why
        if now < self.not_before:  # others heard the same of it just now
            return
        if seconds is None:
            seconds = min(PAUSE_MAX_S, PAUSE_S * 2 ** min(self.failures, 16))
            self.failures += 1
        self.not_before = now + seconds


def run(
    addresses: Sequence[Address],
    source: Path,
    target: Path,
    *,
    parallel: int = 16,
    patience: float = PATIENCE_S,
    progress: Progress = lambda done, failed, known: None,
    note: Callable[[str], object] = lambda line: None,
) -> tuple[int, int, int]:
    """Answer the requests of a file, `parallel` at a time at each server: (answered, refused, answered
    before), which progress is told too. note(line): what a person should know of a server.

    UsageError for a file that is none, before anybody is asked; EdgeqError where no server is left, or where
    requests have no answer in the end: what there is is written, and the next run goes on from there.
    """
    for _ in lines_of(source):
        pass
    with ExitStack() as stack:
        output = Output(target)
        stack.callback(output.close)
        spread = _Spread(addresses, lines_of(source), output, patience, note)
        stack.callback(spread.stop)
        return spread.all(parallel, progress)


class _Spread:
    def __init__(
        self,
        addresses: Sequence[Address],
        lines: Iterator[tuple[str, str, dict[str, Any]]],
        output: Output,
        patience: float,
        note: Callable[[str], object],
    ) -> None:
        self.servers = [Server(address) for address in addresses]
        self.output, self.patience, self.note = output, patience, note
        self.known = 0
        self.lost: list[str] = []  # why requests have no answer
        self._lines = lines
        self._again: deque[Asked] = deque()
        self._under_way = 0
        self._calls: set[Call] = set()
        self._stopped = False
        self._moved = threading.Condition()  # of all above
        # (custom_id, status, body) that is to be written, a server's thread that is over, or what ended it
        self._told: queue.SimpleQueue[tuple[str, int, Any] | str | BaseException | None] = queue.SimpleQueue()

    def all(self, parallel: int, progress: Progress) -> tuple[int, int, int]:
        done = failed = 0
        threads = [
            threading.Thread(target=self._seat, args=(server,), name="edgeq-batch", daemon=True)
            for server in self.servers
            for _ in range(parallel)
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        while left:
            told = self._told.get()
            if told is None:
                left -= 1
            elif isinstance(told, BaseException):
                raise told
            elif isinstance(told, str):
                self.note(told)
            else:
                self.output.write(*told)
                done, failed = (done + 1, failed) if told[1] == 200 else (done, failed + 1)
                progress(done, failed, self.known)
        if self._again or self._is_left():
            reasons = "; ".join(f"{each.address.name}: {each.left_out}" for each in self.servers)
            raise EdgeqError(
                f"no worker is left ({reasons}): {done + failed} requests were answered, and the same line "
                "goes on from there"
            )
        if self.lost:
            raise EdgeqError(
                f"{len(self.lost)} requests have no answer, the last because a worker went away "
                f"({self.lost[-1]}); the same line tries them again"
            )
        return done, failed, self.known

    def stop(self) -> None:
        """Let go of what is under way."""
        with self._moved:
            self._stopped = True
            for call in self._calls:
                call.end()
            self._moved.notify_all()

    def _is_left(self) -> bool:
        """Whether a request has not been asked for yet: there is nobody to take it."""
        with self._moved:
            if (asked := self._following()) is not None:
                self._again.append(asked)
            return asked is not None

    # a server's threads ---------------------------------------------------------------------------------

    def _seat(self, server: Server) -> None:
        try:
            while (asked := self._next(server)) is not None:
                self._ask(server, asked)
        except BaseException as error:
            self._told.put(error)
        finally:
            self._told.put(None)

    def _next(self, server: Server) -> Asked | None:
        """The next request for a server, once it may be asked; None where there will be none."""
        with self._moved:
            while not self._stopped and server.left_out is None:
                wait = server.not_before - time.monotonic()
                if wait <= 0:
                    asked = self._returned(server) or self._following()
                    if asked is not None:
                        self._under_way += 1
                        return asked
                    if not self._under_way and not self._again:
                        self._moved.notify_all()
                        return None
                self._moved.wait(wait if wait > 0 else None)
            return None

    def _returned(self, server: Server) -> Asked | None:
        """A request that came back; where another server may do better, this one does not take it again."""
        others = {each.address.name for each in self.servers if each.left_out is None}
        for asked in self._again:
            if server.address.name not in asked.failed_at or others <= asked.failed_at:
                self._again.remove(asked)
                return asked
        return None

    def _following(self) -> Asked | None:
        """The file's next request that has no answer yet."""
        for custom_id, url, body in self._lines:
            if custom_id not in self.output.done:
                return Asked(custom_id, url, body)
            self.known += 1
        return None

    def _ask(self, server: Server, asked: Asked) -> None:
        call = Call(server.address)
        with self._moved:
            if self._stopped:
                return
            self._calls.add(call)
        found: tuple[int, Any] | None = None
        error: Exception | None = None
        try:
            found = call.ask(asked.url, asked.body)
        except (Busy, Failed, Unfit) as caught:
            error = caught
        with self._moved:
            self._calls.discard(call)
            self._under_way -= 1
            if found is not None:
                server.answered()
            elif error is not None and not self._stopped:
                found = self._unanswered(server, asked, error)
            if found is not None:
                self._told.put((asked.custom_id, *found))
            self._moved.notify_all()

    def _unanswered(self, server: Server, asked: Asked, error: Exception) -> tuple[int, Any] | None:
        """Let others have a request, and the server a pause. What is taken for its answer all the same."""
        now, before = time.monotonic(), server.left_out
        if isinstance(error, Unfit):
            server.left_out = str(error)
        else:
            is_busy = isinstance(error, Busy)
            server.pause(now, error.seconds if isinstance(error, Busy) else None, self.patience, str(error))
            if not is_busy:
                asked.failed_at.add(server.address.name)
        if server.left_out is not None and before is None:
            self._told.put(f"{server.address.name} is left out: {server.left_out}")
        if isinstance(error, Failed) and error.sent:
            asked.tries += 1
            if asked.tries >= TRIES:
                if error.answer is None:
                    self.lost.append(str(error))
                return error.answer
        self._again.append(asked)
        return None


def addresses(urls: Sequence[tuple[str, str | None]]) -> list[Address]:
    """Servers out of (URL, key). UsageError for none, and for one that is named twice."""
    from edgeq.serve.remote import address

    found = [address(url, key) for url, key in urls]
    seen = {(each.is_secure, each.host, each.port, each.path) for each in found}
    if not found:
        raise UsageError("--workers names no server: URL,URL is expected")
    if len(seen) < len(found):
        raise UsageError("--workers names a server twice: one is asked for several requests at a time anyway")
    return found

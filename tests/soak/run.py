"""Rounds of mixed requests, and what the server holds after each of them, when nothing runs any more."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.patience import until
from tests.serve.spawned import Spawned
from tests.soak.mixed import one

CONTEXT = 512
WORDS = ("-np", "4", "--queue", "16", "-c", str(CONTEXT), "--kv-memory", "6M")
CACHE = ("--prompt-cache-size", "4M")
FAULT = "a request failed"  # in the log: a fault of ours
BYTES_MAX = 1024  # of memory, that a request may leave behind
REQUESTS_MIN = 10_000
WARM = 0.25  # of the rounds: what the server makes once is made then


@dataclass(frozen=True)
class Held:
    """What a server holds at rest, after so many requests."""

    requests: int
    memory: int
    cache: int  # bytes of pages; those that are kept for prompts to come are among them
    descriptors: int
    threads: int


@dataclass
class Soak:
    """A server under load. wrong: what was not as it must be, one sentence each."""

    server: Spawned
    clients: int = 6
    tell: Callable[[str], object] = lambda line: None  # of what was wrong, when it is
    seed: int = 0
    requests: int = 0
    held: list[Held] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _whole: bytes | None = None  # what the text that takes all pages is answered

    def round(self, is_more: Callable[[int], bool]) -> Held:
        """Clients ask side by side while is_more(requests of this round); then what is held at rest."""
        before = self.requests

        def client(number: int) -> None:
            rng = random.Random(f"{self.seed} {before} {number}")
            while True:
                with self._lock:
                    if not is_more(self.requests - before):
                        return
                    self.requests += 1
                if problem := one(self.server, rng):
                    with self._lock:
                        self.wrong.append(problem)
                        self.tell(f"WRONG {problem}")

        threads = [threading.Thread(target=client, args=(n,)) for n in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._rest()
        self._fill()
        server = self.server
        pages = int(server.gauges()["edgeq_cache_bytes"])
        self.held.append(Held(self.requests, server.memory(), pages, server.descriptors(), server.threads()))
        return self.held[-1]

    def _rest(self) -> None:
        """Until nothing runs or waits and no client's connection is open but the one that asks."""

        def resting() -> bool:
            found = self.server.gauges()
            return found["edgeq_requests_running"] == found["edgeq_requests_waiting"] == 0

        until(resting, "the server's rest", pause=0.05)

    def _fill(self) -> None:
        """A text of the whole context, which takes every page there is: one that was lost is missed, and
        so is a byte of its answer."""
        sent = {
            "prompt": [1] + [5] * 99,
            "max_tokens": CONTEXT - 100,
            "temperature": 0,
            "logit_bias": {"2": -100},
        }
        status, data = self.server.post("/v1/completions", sent)
        answer = data.partition(b'"choices"')[2].partition(b'"usage"')[0]
        self._whole = self._whole or answer
        if status != 200 or answer != self._whole:
            self.wrong.append(f"a text of the whole context is answered with {status}: {data[:300]!r}")

    def faults(self, log: Path) -> list[str]:
        """Lines of the log that tell of faults of the server's."""
        return [line for line in log.read_text(errors="replace").splitlines() if FAULT in line]


def settled(held: Sequence[Held]) -> Sequence[Held]:
    """Those after the warm-up."""
    return held[int(WARM * len(held)) :]


def slope(held: Sequence[Held]) -> float:
    """Bytes of memory that each request left, by least squares."""
    count = len(held)
    mean_x = sum(each.requests for each in held) / count
    mean_y = sum(each.memory for each in held) / count
    square = sum((each.requests - mean_x) ** 2 for each in held)
    return sum((each.requests - mean_x) * (each.memory - mean_y) for each in held) / square if square else 0.0


def judged(held: Sequence[Held]) -> list[str]:
    """What of the bars does not hold, over rounds after the warm-up."""
    found = []
    if (bytes_each := slope(held)) >= BYTES_MAX:
        found.append(f"each request leaves {bytes_each:.0f} bytes of memory, more than {BYTES_MAX}")
    for name in ("descriptors", "threads"):
        values = [getattr(each, name) for each in held]
        if values[-1] > values[0] and min(values[len(values) // 2 :]) > values[0]:
            found.append(f"{name} grow: {values[0]} before, {values[-1]} in the end")
    if len({each.cache for each in held}) > 1 and held[-1].cache > max(each.cache for each in held[:-1]):
        found.append(f"pages grow: {held[0].cache} bytes before, {held[-1].cache} in the end")
    return found


def for_seconds(seconds: float, most: int) -> Callable[[int], bool]:
    """Whether a round goes on: so long, and so many requests at the most."""
    end = time.monotonic() + seconds
    return lambda done: time.monotonic() < end and done < most

"""A team of threads that run programs together. Worker 0 is the thread that calls `run`."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.beds import Beds
from edgeq.errors import UsageError
from edgeq.kernels.catalog import WIDTH, Crew
from edgeq.simd.store import kernels
from edgeq.simd.tag import Request, Tag

WORKERS_MAX = 256


class Team:
    """`workers` threads, the caller's included. Not for use from two threads at once: the engine holds a
    lock.
    """

    def __init__(self, workers: int, isa: str):
        if not 1 <= workers <= WORKERS_MAX:
            raise UsageError(f"threads is {workers}, but 1 to {WORKERS_MAX} are possible.")
        self.workers = workers
        tag = Tag(isa)
        addresses = kernels().load(self.requests(isa))
        word = ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(word, word, word, word)(addresses["run", tag])
        self._serve = ctypes.CFUNCTYPE(word, word, word)(addresses["serve", tag])
        self._words: Any = memory.zeros((Crew.BYTES + workers * Crew.WORKER_BYTES) // 8, np.int64)
        self._crew = int(self._words.ctypes.data)
        self._beds = Beds(workers)
        facts: tuple[tuple[int, int], ...] = (
            (Crew.GATE, Crew.SHUT),
            (Crew.WORKERS, workers),
            (Crew.YIELD, self._beds.give_way),
            (Crew.SLEEP, self._beds.sleep),
            (Crew.WAKE, self._beds.wake),
        )
        for at, value in facts:
            self._words[at // 8] = value
        for worker, handle in enumerate(self._beds.handles):
            self._words[(Crew.BED + worker * Crew.WORKER_BYTES) // 8] = handle
        self._threads = [
            threading.Thread(target=self._serve, args=(self._crew, n), daemon=True, name=f"edgeq-{n}")
            for n in range(1, workers)
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def requests(isa: str) -> list[Request]:
        """The kernels that a team calls."""
        return [(name, Tag(isa)) for name in ("run", "serve")]

    def run(self, code: np.ndarray) -> None:
        """Run the instructions (rows of int64) to their end, with the GIL released.

        One native call: where Ctrl-C comes before it, no pass has begun, and after it, none is under way.
        """
        assert code.flags.c_contiguous and code.shape[1] * 8 == WIDTH
        self._run(self._crew, code.ctypes.data, len(code))

    def close(self) -> None:
        """Send the threads home."""
        self._words[Crew.GATE // 8] = Crew.HOME
        self._beds.rouse()
        for thread in self._threads:
            thread.join(timeout=5)
        self._threads = []
        self._beds.close()

"""A team of threads that run programs together. Worker 0 is the thread that calls `run`."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any

import numpy as np

from edgeq.errors import UsageError
from edgeq.kernels.catalog import WIDTH, Crew
from edgeq.simd.store import Request, kernels
from edgeq.simd.tag import Tag

WORKERS_MAX = 256


def default_threads() -> int:
    """The physical cores that this process may use, by affinity and the container's quota."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or allowed, allowed)
    return max(1, min(cores, _cgroup_quota(cores), WORKERS_MAX))


def _cgroup_quota(otherwise: int) -> int:
    """Whole processors that the container's CPU quota allows, at least one (cgroup v2)."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()
        return otherwise if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return otherwise


def _yield_address() -> int:
    """The address of the system's function that lets other threads run."""
    if sys.platform == "win32":
        return ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p).value or 0
    return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0


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
        self._interpret = ctypes.CFUNCTYPE(word, word, word)(addresses["interpret", tag])
        self._serve = ctypes.CFUNCTYPE(word, word, word, word)(addresses["serve", tag])
        self._begin = ctypes.CFUNCTYPE(word, word, word, word)(addresses["begin", tag])
        memory = np.zeros((Crew.PARKED + workers * Crew.WORKER_BYTES) // 8 + 8, np.int64)
        self._keep = memory
        self._crew = -(-int(memory.ctypes.data) // 64) * 64
        skip = (self._crew - int(memory.ctypes.data)) // 8
        self._words: Any = memory[skip:]
        self._words[Crew.WORKERS // 8] = workers
        self._words[Crew.YIELD // 8] = _yield_address()
        self._parked = self._words[Crew.PARKED // 8 :][: workers * 8].reshape(workers, 8)
        self._beds = [threading.Semaphore(0) for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._live, args=(w,), daemon=True, name=f"edgeq-{w}")
            for w in range(1, workers)
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def requests(isa: str) -> list[Request]:
        """The kernels that a team calls."""
        return [(name, Tag(isa)) for name in ("interpret", "serve", "begin")]

    def _live(self, worker: int) -> None:
        last = 0
        while (last := self._serve(self._crew, worker, last)) >= 0:
            self._beds[worker].acquire()

    def run(self, code: np.ndarray) -> None:
        """Run the instructions (rows of int64) to their end, with the GIL released."""
        assert code.flags.c_contiguous and code.shape[1] * 8 == WIDTH
        self.settle()
        asleep = self._begin(self._crew, code.ctypes.data, len(code))
        if asleep:
            self._wake()
        self._interpret(self._crew, 0)

    def settle(self) -> None:
        """End a pass whose caller was interrupted before it took part: the others wait for it at a barrier.

        To be called before a program's state is written for another pass.
        """
        if self._words[Crew.PASS // 8] > self._words[Crew.DONE // 8]:
            self._wake()
            self._interpret(self._crew, 0)

    def _wake(self) -> None:
        for worker in np.flatnonzero(self._parked[:, 1]):
            self._beds[worker].release()  # first: interrupted between the two, a thread wakes once too often
            self._parked[worker, 1] = 0

    def close(self) -> None:
        """Send the threads home."""
        self.settle()
        self._words[Crew.PASS // 8] = -(2**62)
        for bed in self._beds[1:]:
            bed.release()
        for thread in self._threads:
            thread.join(timeout=5)
        self._threads = []

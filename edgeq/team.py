"""A team of workers that run programs together. Worker 0 is the thread that calls `run`; the others are
native threads.

Native threads run in memory and code that Python would free under them. So that memory is in the hands of
`_running` from before the first thread begins until after the last was waited for, whatever becomes of the
`Team` meanwhile: closed, dropped, bound anew, left to the end of the process, or cut short by an exception.
"""

from __future__ import annotations

import ctypes
import os
import warnings
import weakref
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.beds import Beds
from edgeq.errors import UsageError
from edgeq.kernels.catalog import WIDTH, Crew
from edgeq.ownership import Locked, Unique
from edgeq.simd.store import kernels
from edgeq.simd.tag import Request, Tag
from edgeq.threads import Threads

WORKERS_MAX = 256


class Team(Unique):
    """`workers` workers, the caller included; fewer, with a warning, where the system has no more threads.

    Calls from several threads queue. After `close`, which the end of the object or of the process does too,
    the caller works alone.
    """

    def __init__(self, workers: int, isa: str):
        if not 1 <= workers <= WORKERS_MAX:
            raise UsageError(f"threads is {workers}, but 1 to {WORKERS_MAX} are possible.")
        self._shared = _Shared(workers, isa)
        weakref.finalize(self, self._shared.close)
        self._shared.start()

    @staticmethod
    def requests(isa: str) -> list[Request]:
        """The kernels that a team calls."""
        return [(name, Tag(isa)) for name in ("run", "enter")]

    @property
    def workers(self) -> int:
        """How many there are."""
        return self._shared.workers

    def run(self, code: np.ndarray) -> None:
        """Run the instructions (rows of int64) to their end, with the GIL released.

        One native call: where Ctrl-C comes before it, no pass has begun, and after it, none is under way.
        """
        if code.dtype != np.int64 or code.strides != (WIDTH, 8) or code.shape[1] * 8 != WIDTH:
            raise UsageError(f"code must be rows of {WIDTH // 8} int64 without gaps.")
        self._shared.run(code)

    def close(self) -> None:
        """Send the threads home and wait for them."""
        self._shared.close()


class _Shared(Locked):
    """What the workers share: words and semaphores, the kernels' code, and the threads themselves."""

    def __init__(self, workers: int, isa: str):
        super().__init__()
        tag = Tag(isa)
        self._kernels = kernels()  # whose code the threads run
        addresses = self._kernels.load(Team.requests(isa))
        word = ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(word, word, word, word)(addresses["run", tag])
        self._enter = addresses["enter", tag]
        self._words: Any = memory.zeros((Crew.BYTES + workers * Crew.WORKER_BYTES) // 8, np.int64)
        self._crew = int(self._words.ctypes.data)
        self._beds = Beds(workers)
        self._wanted, self._closed = workers, False  # how many there should be
        self._set(Crew.GATE, Crew.SHUT)
        self._set(Crew.YIELD, self._beds.give_way)
        self._set(Crew.SLEEP, self._beds.sleep)
        self._set(Crew.WAKE, self._beds.wake)
        for worker, handle in enumerate(self._beds.handles):
            self._set(Crew.BED, handle, worker)
            self._set(Crew.CREW, self._crew, worker)
            self._set(Crew.WORKER, worker, worker)
        self._set(Crew.WORKERS, 1)
        self._threads = Threads(workers)
        self._kept = False

    def _set(self, at: int, value: int, worker: int = 0) -> None:
        self._words[(at + worker * Crew.WORKER_BYTES) // 8] = value

    @property
    def workers(self) -> int:
        return int(self._words[Crew.WORKERS // 8])

    def start(self) -> None:
        """Begin the threads that are wanted and not there."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        _running.add(self)
        if not self._kept:  # also by what the end of the interpreter, which clears modules, does not reach
            self._kept = True
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        while (worker := self.workers) < self._wanted:
            own = self._crew + worker * Crew.WORKER_BYTES
            # the thread is there before its number counts: interrupted between the two, it is waited for
            reason = self._threads.start(worker, self._enter, own)
            if reason:
                missing, self._wanted = self._wanted, worker
                warnings.warn(
                    f"{worker} of {missing} threads work: the system starts no more ({reason}).",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return
            self._set(Crew.WORKERS, worker + 1)
        if self._closed:  # by a signal's handler, meanwhile
            self.close()

    def run(self, code: np.ndarray) -> None:
        with self._lock:
            if self.workers < self._wanted:
                self._start()
            self._run(self._crew, code.ctypes.data, len(code))

    def close(self) -> None:
        """Send the threads home, wait for them, and only then let go of what they ran in."""
        with self._lock:
            self._closed, self._wanted = True, 1
            self._set(Crew.GATE, Crew.HOME)
            self._beds.rouse()
            self._threads.join()
            self._set(Crew.WORKERS, 1)
            self._beds.close()
            _running.discard(self)
            if self._kept:
                self._kept = False
                ctypes.pythonapi.Py_DecRef(ctypes.py_object(self))

    def forked(self) -> None:
        """In a process made by `fork` there are no threads. The next pass begins new ones."""
        self._threads.forget()
        self._set(Crew.WORKERS, 1)
        self._set(Crew.GATE, Crew.SHUT)  # whatever pass was under way is not
        for worker in range(self._wanted):
            self._set(Crew.ASLEEP, 0, worker)


_running: set[_Shared] = set()


def _forked() -> None:
    for shared in list(_running):
        shared.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

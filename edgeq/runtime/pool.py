"""A pool of workers that run programs together. Worker 0 is the thread that calls `run`; the others are
native threads.

Native threads run in memory and code that Python would free under them. So that memory is in the hands of
`_held` from before the first thread begins until the `Pool` is gone and the last thread was waited for,
whatever comes between: an exception or a signal's handler at any instruction, `fork`, the process's end.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import os
import signal
import warnings
import weakref
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.errors import UsageError, shown
from edgeq.kernels.catalog import WIDTH, PoolState
from edgeq.ownership import Locked, Unique
from edgeq.packs.store import kernels
from edgeq.runtime.semaphores import Semaphores
from edgeq.simd.tag import Request, Tag
from edgeq.threads import Threads

WORKERS_MAX = 256


def check_workers(workers: int) -> None:
    """UsageError for a number of workers that no pool has."""
    if not 1 <= workers <= WORKERS_MAX:
        raise UsageError(f"threads is {shown(workers)}, but 1 to {WORKERS_MAX} are possible.")


class Pool(Unique):
    """`workers` workers, the caller included; fewer, with a warning, where the system has no more threads.

    Calls from several threads queue. After `close`, which the end of the object or of the process does too,
    the caller works alone.
    """

    def __init__(self, workers: int, isa: str):
        check_workers(workers)
        _close_those_left()
        self._shared = _Shared(self, workers, isa)
        _held.add(self._shared)
        self._shared.start()

    @staticmethod
    def requests(isa: str) -> list[Request]:
        """The kernels that a pool calls."""
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
        """Send the threads home and wait for them. Ctrl-C meanwhile is raised when that is done."""
        self._shared.close()


class _Shared(Locked):
    """What the workers share: words and semaphores, the kernels' code, and the threads themselves.

    Whatever a method notes may be old when it is read, by a handler that ran the same or another method, or
    forked. So each looks again at the end, and all can be done twice.
    """

    def __init__(self, pool: Pool, workers: int, isa: str):
        super().__init__()
        tag = Tag(isa)
        self._kernels = kernels()  # whose code the threads run
        addresses = self._kernels.load(Pool.requests(isa))
        word = ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(word, word, word, word)(addresses["run", tag])
        self._enter = addresses["enter", tag]
        self._words: Any = memory.zeros((PoolState.BYTES + workers * PoolState.WORKER_BYTES) // 8, np.int64)
        self._state = int(self._words.ctypes.data)
        self._semaphores = Semaphores(workers)
        self._wanted, self._closed = workers, False  # how many there should be
        self._forks = 0  # that this process came from since
        self._set(PoolState.BARRIER, PoolState.SHUT)
        self._set(PoolState.YIELD, self._semaphores.yield_)
        self._set(PoolState.SLEEP, self._semaphores.sleep)
        self._set(PoolState.WAKE, self._semaphores.wake)
        for worker in range(workers):
            self._set(PoolState.POOL, self._state, worker)
            self._set(PoolState.WORKER, worker, worker)
        self._note_semaphores()
        self._set(PoolState.WORKERS, 1)
        self._threads = Threads(workers)
        self._pool = weakref.ref(pool, self._dropped)

    def _set(self, at: int, value: int, worker: int = 0) -> None:
        self._words[(at + worker * PoolState.WORKER_BYTES) // 8] = value

    def _note_semaphores(self) -> None:
        for worker, handle in enumerate(self._semaphores.handles):
            self._set(PoolState.SEMAPHORE, handle or 0, worker)

    @property
    def workers(self) -> int:
        return int(self._words[PoolState.WORKERS // 8])

    @property
    def left(self) -> bool:
        """Whether its pool is gone."""
        return self._pool() is None

    def start(self) -> None:
        """Begin the threads that are wanted and not there."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        forks, missing, reason = self._forks, 0, ""
        try:
            worker = 1
            while worker < self._wanted:
                own = self._state + worker * PoolState.WORKER_BYTES
                reason = self._threads.start(worker, self._enter, own)
                if reason:
                    missing, self._wanted = self._wanted, worker
                else:
                    worker += 1
            self._set(PoolState.WORKERS, worker)
        finally:
            if self._closed:  # by a signal's handler, meanwhile
                self.close()
            elif self._forks != forks:  # by one, too: those begun before are not there
                self._start()
        if missing and not self._closed:
            warnings.warn(
                f"{worker} of {missing} threads work: the system starts no more ({reason}).",
                RuntimeWarning,
                stacklevel=2,
            )

    def run(self, code: np.ndarray) -> None:
        with self._lock:
            if self.workers < self._wanted:
                self._start()
            self._run(self._state, code.ctypes.data, len(code))
            if self._closed:  # this may be a handler that came into `close`, and the pass opened the barrier
                self._go_home()

    def _go_home(self) -> None:
        self._set(PoolState.BARRIER, PoolState.HOME)
        self._semaphores.rouse()

    def close(self) -> None:
        """Send the threads home, wait for them, and only then let go of what they ran in.

        An exception, which only a signal's handler makes, is raised when that is done: the first of them.
        """
        try:
            with self._lock:
                self._closed, self._wanted = True, 1
                self._go_home()
                self._threads.join()
                self._set(PoolState.WORKERS, 1)
                self._semaphores.close()
                if self.left:
                    _held.discard(self)
        except BaseException as first:
            try:
                self.close()
            finally:
                raise first

    def forked(self) -> None:
        """In a process made by `fork` there are no threads. The next pass begins new ones."""
        self._forks += 1
        self._threads.forget()
        self._set(PoolState.WORKERS, 1)
        # whatever pass was under way is not
        self._set(PoolState.BARRIER, PoolState.HOME if self._closed else PoolState.SHUT)
        for worker in range(self._wanted):
            self._set(PoolState.ASLEEP, 0, worker)
        self._semaphores.forked()
        self._note_semaphores()

    def _dropped(self, pool: object) -> None:
        """Called when the pool is gone, anywhere in the program; what is raised here is told of and lost.

        So Ctrl-C that came here comes again behind it: the last instruction makes it, and between that and
        the program Python looks for no signal. What even so was broken off is left to the next pool.
        """
        try:
            self.close()
        except KeyboardInterrupt:
            (_,) = map(_thread.interrupt_main, (signal.SIGINT,))


_held: set[_Shared] = set()
# The end of the interpreter clears modules while threads may still run; nothing clears this.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_held))


def _close_those_left() -> None:
    """Close the pools that are gone and were not closed whole."""
    for shared in list(_held):
        if shared.left:
            shared.close()


@atexit.register
def _close_all() -> None:
    with contextlib.ExitStack() as each:  # all, whatever one raises
        for shared in list(_held):
            each.callback(shared.close)


def _forked() -> None:
    for shared in list(_held):
        shared.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

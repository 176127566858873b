"""Where threads sleep: a semaphore for each, and the system's functions as addresses that kernels call.

A worker that sleeps in native code and is woken from native code needs no lock of Python's, which another
thread of the program may hold for milliseconds. Each system has a semaphore whose functions can be called
as `sleep(semaphore, -1)` and `wake(semaphore, 1, 0)`: those that take fewer arguments do not see the others.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from itertools import repeat, starmap
from typing import Any

SEMAPHORE_BYTES = 64  # of memory for a semaphore, where the system puts it into its user's


class Semaphores:
    """`count` semaphores at zero. Addresses: `sleep`, `wake`; `yield_`, which lets other threads run.

    A sleeper may be woken for nothing and looks why, so counts that were left over do no harm.
    As in `edgeq.threads`, semaphores and the note of them come and go in one instruction of Python's.
    """

    def __init__(self, count: int):
        self._make, self._unmake, sleep, self._wake, yield_ = _functions()
        self._wake.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p]
        self._unmake.argtypes, self._unmake.restype = [ctypes.c_void_p], None
        self.sleep, self.wake, self.yield_ = map(_address, (sleep, self._wake, yield_))
        self._memory = (ctypes.c_char * (count * SEMAPHORE_BYTES))()
        start = ctypes.addressof(self._memory)
        self._places = range(start, start + count * SEMAPHORE_BYTES, SEMAPHORE_BYTES)
        self.handles: list[int | None] = []
        self.handles[:] = self._make(self._places)
        if None in self.handles:
            self.close()
            raise OSError("the system has no semaphore left for a pool of threads.")

    def rouse(self) -> None:
        """Wake all, or see to it that they do not fall asleep."""
        for _ in map(self._wake, self.handles, repeat(1), repeat(None)):
            pass

    def forked(self) -> None:
        """In a process made by `fork`: others, unless they were closed.

        macOS's cannot be used there, nor given back: the kernel's part of them stayed with the parent.
        Linux's would do, and are made anew where they were.
        """
        if self.handles:
            self.handles[:] = self._make(self._places)

    def close(self) -> None:
        """Give the semaphores back; nobody may sleep on one."""
        self.handles[:] = filter(None, map(self._unmake, filter(None, self.handles)))


Make = Callable[[range], Iterator[int | None]]


def _functions() -> tuple[Make, Any, Any, Any, Any]:
    """(what makes semaphores, one for each of some places in memory, there or elsewhere, while their handles
    are taken; unmake; sleep; wake; yield).
    """
    if sys.platform == "win32":
        k = ctypes.WinDLL("kernel32")
        k.CreateSemaphoreW.restype = ctypes.c_void_p
        return (
            lambda places: starmap(k.CreateSemaphoreW, repeat((None, 0, 2**31 - 1, None), len(places))),
            k.CloseHandle,
            k.WaitForSingleObject,
            k.ReleaseSemaphore,
            k.SwitchToThread,
        )
    c = ctypes.CDLL(None)
    if sys.platform == "darwin":  # it has POSIX's functions, but sem_init always fails
        c.dispatch_semaphore_create.restype = ctypes.c_void_p
        c.dispatch_semaphore_create.argtypes = [ctypes.c_long]
        return (
            lambda places: starmap(c.dispatch_semaphore_create, repeat((0,), len(places))),
            c.dispatch_release,
            c.dispatch_semaphore_wait,
            c.dispatch_semaphore_signal,
            c.sched_yield,
        )
    c.sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]

    def make(places: range) -> Iterator[int | None]:  # it takes nothing from the system but these places
        return (None if c.sem_init(place, 0, 0) else place for place in places)

    return make, c.sem_destroy, c.sem_wait, c.sem_post, c.sched_yield


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0

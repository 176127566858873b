"""Where threads sleep: a semaphore for each, and the system's functions as addresses that kernels call.

A worker that sleeps in native code and is woken from native code needs no lock of Python's, which another
thread of the program may hold for milliseconds. Each system has a semaphore whose functions can be called
as `sleep(bed, -1)` and `wake(bed, 1, 0)`: those that take fewer arguments do not see the others.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

BED_BYTES = 64  # of memory for a semaphore, where the system puts it into its user's


class Beds:
    """`count` semaphores at zero. Addresses: `sleep`, `wake`; `give_way`, which lets other threads run."""

    def __init__(self, count: int):
        make, self._unmake, sleep, self._wake, give_way = _functions()
        self.sleep, self.wake, self.give_way = map(_address, (sleep, self._wake, give_way))
        self._memory = (ctypes.c_char * (count * BED_BYTES))()
        start = ctypes.addressof(self._memory)
        self.handles = [handle for n in range(count) if (handle := make(start + n * BED_BYTES))]
        if len(self.handles) < count:
            raise OSError("the system has no semaphore left for a team of threads.")

    def rouse(self) -> None:
        """Wake all, or see to it that they do not fall asleep."""
        for handle in self.handles:
            self._wake(ctypes.c_void_p(handle), 1, None)

    def close(self) -> None:
        """Give the semaphores back; nobody may sleep on one."""
        while self.handles:
            self._unmake(ctypes.c_void_p(self.handles.pop()))


def _functions() -> tuple[Callable[[int], int | None], Any, Any, Any, Any]:
    """(a function of a place in memory that makes a semaphore there or elsewhere and returns its handle;
    unmake; sleep; wake; give way).
    """
    if sys.platform == "win32":
        k = ctypes.WinDLL("kernel32")
        k.CreateSemaphoreW.restype = ctypes.c_void_p
        return (
            lambda place: k.CreateSemaphoreW(None, 0, 2**31 - 1, None),
            k.CloseHandle,
            k.WaitForSingleObject,
            k.ReleaseSemaphore,
            k.SwitchToThread,
        )
    c = ctypes.CDLL(None)
    if sys.platform == "darwin":  # it has POSIX's functions, but sem_init always fails
        c.dispatch_semaphore_create.restype = ctypes.c_void_p
        return (
            lambda place: c.dispatch_semaphore_create(ctypes.c_long(0)),
            c.dispatch_release,
            c.dispatch_semaphore_wait,
            c.dispatch_semaphore_signal,
            c.sched_yield,
        )

    def make(place: int) -> int | None:
        return place if c.sem_init(ctypes.c_void_p(place), 0, 0) == 0 else None

    return make, c.sem_destroy, c.sem_wait, c.sem_post, c.sched_yield


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0

"""Threads that run native code alone.

Python knows nothing of them: they take none of its locks, run nothing of it, and can be waited for from
anywhere, a finalizer or the end of the process included.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

ADDRESS = ctypes.c_void_p
OWN_FAULTS = {  # signals that a thread gives itself; faulthandler tells of them
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
}


class Threads:
    """Up to `most` threads. Not for use from two threads at once."""

    def __init__(self, most: int):
        self._handles: Any = (ADDRESS * most)()  # the system writes them here; empty where there is no thread
        self._create, self._join = _windows() if sys.platform == "win32" else _posix()

    def start(self, n: int, entry: int, argument: int) -> str:
        """Begin thread n, unless it has begun, with entry(argument), a function int64 -> int64 at that
        address; "" or the system's reason why there is no thread.
        """
        if self._handles[n]:
            return ""
        reason = self._create(ctypes.byref(self._handles, n * ctypes.sizeof(ADDRESS)), entry, argument)
        if reason:
            self._handles[n] = None  # the system may have left anything there
        return str(reason)

    def join(self) -> None:
        """Wait until all have returned."""
        for n, handle in enumerate(self._handles):
            if handle:
                try:
                    self._join(handle)
                finally:  # interrupted or not, the system has waited for it
                    self._handles[n] = None

    def forget(self) -> None:
        """In a process made by `fork`: none of them is there."""
        for n in range(len(self._handles)):
            self._handles[n] = None


def _posix() -> tuple[Any, Any]:
    library = ctypes.CDLL(None)
    library.pthread_create.argtypes = [ADDRESS] * 4
    library.pthread_join.argtypes = [ADDRESS] * 2

    def create(handle: Any, entry: int, argument: int) -> str:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:  # a thread has its creator's mask: the program's signals are for the program's threads
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - OWN_FAULTS)
            error = library.pthread_create(handle, None, entry, argument)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return os.strerror(error) if error else ""

    return create, lambda handle: library.pthread_join(handle, None)


def _windows() -> tuple[Any, Any]:
    kernel32: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel32.CreateThread.argtypes = [ADDRESS, ctypes.c_size_t, ADDRESS, ADDRESS, ctypes.c_uint32, ADDRESS]
    kernel32.CreateThread.restype = ADDRESS
    kernel32.WaitForSingleObject.argtypes = [ADDRESS, ctypes.c_uint32]
    kernel32.CloseHandle.argtypes = [ADDRESS]

    def create(handle: Any, entry: int, argument: int) -> str:
        made = kernel32.CreateThread(None, 0, entry, argument, 0, None)
        ctypes.cast(handle, ctypes.POINTER(ADDRESS))[0] = made
        return "" if made else f"error {ctypes.get_last_error()}"  # type: ignore[attr-defined]

    def join(handle: int) -> None:
        kernel32.WaitForSingleObject(handle, 0xFFFFFFFF)
        kernel32.CloseHandle(handle)

    return create, join

"""Threads that run native code alone.

Python knows nothing of them: they take none of its locks, run nothing of it, and can be waited for from
anywhere, a finalizer or the end of the process included.

Ctrl-C and whatever else a signal's handler does comes between two of Python's instructions, so the look
whether a thread is there, what the system then does and the note of it are one instruction here: a slice of a
list takes what `map` and `compress` look up and call while it is taken.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, compress, repeat
from operator import call, eq, ne, not_, truth
from typing import Any

ADDRESS = ctypes.c_void_p
SIGNALS_BYTES = 128  # of a sigset_t, at the most
OWN_FAULTS = {  # signals that a thread gives itself; faulthandler tells of them
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
}


class _Posix:
    """Up to `most` threads. Calls may come from within each other, as handlers do, but from one thread."""

    def __init__(self, most: int):
        library = ctypes.CDLL(None)
        self._create, self._wait, self._mask = (
            library.pthread_create,
            library.pthread_join,
            library.pthread_sigmask,
        )
        self._create.argtypes = [ADDRESS] * 4
        self._wait.argtypes, self._wait.restype = [ADDRESS] * 2, None
        self._mask.argtypes = [ctypes.c_int, ADDRESS, ADDRESS]
        self._all = ctypes.create_string_buffer(SIGNALS_BYTES)
        library.sigfillset(self._all)
        for number in OWN_FAULTS:
            library.sigdelset(self._all, int(number))
        self._handles: Any = (ADDRESS * most)()  # the system writes them here, or where it fails anything
        self._errors: list[int | None] = [None] * most  # 0 while there is a thread

    def start(self, n: int, entry: int, argument: int) -> str:
        """Begin thread n, unless it has begun, with entry(argument), a function int64 -> int64 at that
        address; "" or the system's reason why there is no thread.
        """
        before = ctypes.create_string_buffer(SIGNALS_BYTES)
        place = ctypes.byref(self._handles, n * ctypes.sizeof(ADDRESS))
        # a thread has its creator's mask: the program's signals are for the program's threads
        steps = (
            partial(self._mask, signal.SIG_SETMASK, self._all, before),
            partial(self._create, place, None, entry, argument),
            partial(self._mask, signal.SIG_SETMASK, before, None),
        )
        begun = compress(map(call, compress(steps, self._look(ne, n, len(steps)))), (False, True, False))
        kept = map(self._errors.__getitem__, compress((n,), self._look(eq, n)))
        self._errors[n : n + 1] = chain(begun, kept)  # one of the two is empty
        code = self._errors[n]
        return os.strerror(code) if code else ""

    def join(self) -> None:
        """Wait until all have returned. Broken off by an exception, it has waited for some; call it again."""
        for n in range(len(self._errors)):
            handles = map(self._handles.__getitem__, compress((n,), self._look(eq, n)))
            waited = map(self._wait, handles, (None,))
            kept = map(self._errors.__getitem__, compress((n,), self._look(ne, n)))
            self._errors[n : n + 1] = chain(waited, kept)

    def _look(self, how: Callable[[int | None, int], bool], n: int, times: int = 1) -> Iterator[bool]:
        """Whether there is a thread n (`eq`) or none (`ne`), to be looked up when it is asked for."""
        return map(how, map(self._errors.__getitem__, repeat(n, times)), repeat(0))

    def forget(self) -> None:
        """In a process made by `fork`: none of them is there."""
        self._errors[:] = [None] * len(self._errors)


class _Windows:
    """The same."""

    def __init__(self, most: int):
        kernel32: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
        self._create, self._wait, self._close = (
            kernel32.CreateThread,
            kernel32.WaitForSingleObject,
            kernel32.CloseHandle,
        )
        self._create.argtypes = [ADDRESS, ctypes.c_size_t, ADDRESS, ADDRESS, ctypes.c_uint32, ADDRESS]
        self._create.restype = ADDRESS  # as Python has it: a number, or None for none
        self._wait.argtypes = [ADDRESS, ctypes.c_uint32]
        self._close.argtypes, self._close.restype = [ADDRESS], None
        self._handles: list[int | None] = [None] * most

    def start(self, n: int, entry: int, argument: int) -> str:
        create = partial(self._create, None, 0, entry, argument, 0, None)
        made = map(call, compress((create,), self._look(not_, n)))
        kept = map(self._handles.__getitem__, compress((n,), self._look(truth, n)))
        self._handles[n : n + 1] = chain(made, kept)
        return "" if self._handles[n] else f"error {ctypes.get_last_error()}"  # type: ignore[attr-defined]

    def join(self) -> None:
        for n in range(len(self._handles)):
            handle = self._handles[n]
            steps = (partial(self._wait, handle, 0xFFFFFFFF), partial(self._close, handle))
            waited = compress(map(call, compress(steps, self._look(truth, n, len(steps)))), (False, True))
            kept = map(self._handles.__getitem__, compress((n,), self._look(not_, n)))
            self._handles[n : n + 1] = chain(waited, kept)

    def _look(self, how: Callable[[object], bool], n: int, times: int = 1) -> Iterator[bool]:
        return map(how, map(self._handles.__getitem__, repeat(n, times)))

    def forget(self) -> None:
        raise NotImplementedError("there is no fork")


Threads: type[_Posix] | type[_Windows] = _Windows if sys.platform == "win32" else _Posix

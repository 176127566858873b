"""What objects that own native memory have in common: no copies, and a lock that survives `fork`."""

from __future__ import annotations

import _thread
import os
import threading
import weakref
from typing import Any, NoReturn

from edgeq.errors import UsageError


class Unique:
    """A mixin: copies and pickles are refused, since two objects cannot own the same memory."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise UsageError(
            f"a {type(self).__name__} can neither be copied nor pickled: it owns memory that is in use; make "
            "another."
        )


class Lock(_thread.RLock):  # type: ignore[misc]
    """Python's reentrant lock; no Ctrl-C comes between taking it and the block of its `with`.

    CPython looks for signals after a call of C code, at the start of a function and where a loop turns; an
    exception there is one of that instruction. Up to 3.13, `with` enters by an instruction that does not
    look; in 3.14 it is a call that does, before the block begins, and a lock taken in C would stay taken.
    A function in Python returns without a look, and so does the instruction here that takes the lock:
    unpacking makes the call. `__exit__` stays in C: it has given the lock back when the look comes.
    """

    def __enter__(self) -> bool:  # type: ignore[override]
        (taken,) = map(self.acquire, (True,))
        return taken


class Locked(Unique):
    """A mixin: `with self._lock` keeps other threads out, and lets the own one in again.

    In a process made by `fork` the lock is free, unless the thread that forked holds it: the other threads,
    and with them whatever they were doing, are not there.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        _locked.add(weakref.ref(self, _locked.discard))

    def _free_lock(self) -> None:
        if self._lock.acquire(blocking=False):  # free, or this thread's own
            self._lock.release()
        else:  # the same lock: a frame may be waiting for it
            self._lock._at_fork_reinit()  # type: ignore[attr-defined]


def here() -> tuple[int, int]:
    """This thread of this process. A thread's ident alone comes again, in a forked process above all."""
    return os.getpid(), threading.get_ident()


# Not a WeakSet: that runs code in Python when an object goes, and Ctrl-C that came then would be lost in it.
_locked: set[weakref.ref[Locked]] = set()


def _free_locks() -> None:
    for each in list(_locked):
        locked = each()
        if locked is not None:
            locked._free_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)

"""What objects that own native memory have in common: no copies, and a lock that survives `fork`."""

from __future__ import annotations

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


class Locked(Unique):
    """A mixin: `with self._lock` keeps other threads out, and lets the own one in again.

    The lock is Python's own, whose `with` no Ctrl-C can come into. In a process made by `fork` it is free,
    unless the thread that forked holds it: the other threads, and with them whatever they were doing, are
    not there.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locked.add(self)

    def _free_lock(self) -> None:
        if self._lock.acquire(blocking=False):  # free, or this thread's own
            self._lock.release()
        else:  # the same lock: a frame may be waiting for it
            self._lock._at_fork_reinit()  # type: ignore[attr-defined]


def here() -> tuple[int, int]:
    """This thread of this process. A thread's ident alone comes again, in a forked process above all."""
    return os.getpid(), threading.get_ident()


_locked: weakref.WeakSet[Locked] = weakref.WeakSet()


def _free_locks() -> None:
    for each in list(_locked):
        each._free_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)

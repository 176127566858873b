"""What objects that own native memory have in common: no copies, and calls that do not get into each other's
way, from several threads, from callbacks, from a signal's handler, and after `fork`.

A call takes a `Turn` at a `Line`. At one kind of line, another call that comes meanwhile is refused: it may
be one that is waited for by the call that it comes into. At the other kind it waits; nothing that a caller
wrote runs during such a turn except a signal's handler or a finalizer, and what these ask for is refused.
So nobody who has a turn waits for another one, and no order of calls makes them wait in a circle.
"""

from __future__ import annotations

import _thread
import itertools
import os
import sys
import threading
import weakref
from typing import Any, NoReturn

from edgeq.errors import UsageError

TICK_S = 0.05  # after which one who waits looks again, should nobody have told it


class Unique:
    """A mixin: copies and pickles are refused, since two objects cannot own the same memory."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise UsageError(
            f"a {type(self).__name__} can neither be copied nor pickled: it owns memory that is in use; make "
            "another."
        )

    def _begin(self) -> None:
        """UsageError where `__init__` is called once more: it would exchange what is in use."""
        mine = object()
        if self.__dict__.setdefault("_begun", mine) is not mine:
            raise UsageError(f"this {type(self).__name__} was made before: make another.")


class Turn:
    """One call's turn. It ends by what is written inline into the call, once the call has made its turn:

        try:
            ...  # come to a line, and work
        finally:
            turn.over = True
            turn.ring()  # where others wait

    Ctrl-C comes only where something is called or begins anew, so it cannot come before the assignment; what
    comes after it makes those who wait a moment late.
    """

    __slots__ = ("_bell", "_forks", "doing", "over", "thread")

    def __init__(self, doing: str):
        self.doing = doing  # a sentence on what the call does, without its point
        self.thread = here()
        self.over = False
        self._forks = len(_forkers)
        self._bell = threading.Lock()
        self._bell.acquire()

    @property
    def ended(self) -> bool:
        """Whether the call is over, or its thread vanished in a `fork`."""
        return self.over or (
            len(_forkers) > self._forks and any(thread != self.thread for thread in _forkers[self._forks :])
        )

    def ring(self) -> None:
        """Wake who waits for the end of this turn. Once."""
        self._bell.release()

    def listen(self) -> None:
        """Wait a moment, or until it rings."""
        self._bell.acquire(timeout=TICK_S)


class Line:
    """Turns in the order in which they came; the first that has not ended is at work.

    Coming is one step, which no other thread and no handler can come into: an `append`.
    """

    def __init__(self) -> None:
        self._turns: list[Turn] = []

    def come(self, turn: Turn) -> list[Turn]:
        """Come last; those before it that have not ended."""
        self._turns.append(turn)
        return self._before(turn)

    def claim(self, turn: Turn, what: str) -> None:
        """Have the turn at once; UsageError where another is at work, which says that it cannot `what`."""
        before = self.come(turn)
        if not before:
            return
        doing = before[0].doing
        if any(other.thread == turn.thread for other in before):
            raise UsageError(f"{doing}, so it cannot {what} from within that call.")
        raise UsageError(f"{doing} in another thread, so it cannot {what} meanwhile.")

    def wait(self, turn: Turn) -> None:
        """Have the turn when all before it have ended; UsageError within a turn that was waited for."""
        if waiting():
            raise UsageError(f"{_own.turn.doing}, so no pass can be run from within that.")
        _own.turn = turn
        before = self.come(turn)
        while before:
            if sys.is_finalizing():  # other threads do not go on
                raise UsageError(f"the process ends while {before[0].doing}.")
            before[-1].listen()
            before = self._before(turn)

    def at_work(self) -> list[Turn]:
        """All that have not ended."""
        return self._before(None)

    def _before(self, turn: Turn | None) -> list[Turn]:
        """Those before it, or all, that have not ended; the others are taken out."""
        before: list[Turn] = []
        for other in self._turns.copy():
            if other is turn:
                break
            if not other.ended:
                before.append(other)
                continue
            try:  # noqa: SIM105  (every token comes by here)
                self._turns.remove(other)
            except ValueError:  # somebody else did
                pass
        return before


def waiting() -> bool:
    """Whether this thread waits for a turn or has one that it waited for."""
    turn: Turn | None = getattr(_own, "turn", None)
    return turn is not None and not turn.over


def here() -> tuple[int, int]:
    """This thread: a number that no other has, and its ident. An ident alone comes again in later threads.

    In a process that the thread makes by `fork` it is the same.
    """
    found: tuple[int, int] | None = getattr(_own, "here", None)
    return found or _own.__dict__.setdefault("here", (next(_numbers), threading.get_ident()))


_own = threading.local()  # here; turn: the last that the thread waited for
_numbers = itertools.count()
_forkers: list[tuple[int, int]] = []  # the threads that made this process and its forebears, the oldest first


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
        _locks.add(weakref.ref(self._lock, _locks.discard))


def _free(lock: Any) -> None:
    """Free a lock in a process made by `fork`, unless this thread holds it.

    The thread may be waiting for it, when it forked in a signal's handler: it will go on waiting for the
    system's lock that it found. Until Python 3.13 `_at_fork_reinit` makes another one, and what frees that
    very one is `_release_save`, whoever holds it. From 3.14 on that asks for the holder, and
    `_at_fork_reinit` frees in place. Until 3.13 there is an instant in which a thread has the system's lock
    and Python does not know yet; a fork then leaves the wait without an end, which a `Line` does not.
    """
    if lock.acquire(blocking=False):  # free, or this thread's own
        lock.release()
        return
    try:
        lock._release_save()
    except RuntimeError:
        lock._at_fork_reinit()


# Not a WeakSet: that runs code in Python when an object goes, and Ctrl-C that came then would be lost in it.
_locks: set[weakref.ref[Any]] = set()


def _forked() -> None:
    _forkers.append(here())
    for reference in list(_locks):
        lock = reference()
        if lock is not None:
            _free(lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

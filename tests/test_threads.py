"""Threads of the system: begun once and waited for once, whatever comes between two instructions."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import pytest

from edgeq import threads
from tests.instructions import interfere

MOST = 3
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it counts the calls of POSIX")


class Counted:
    """Threads, with a count of those begun and not yet waited for."""

    def __init__(self) -> None:
        self.threads: Any = threads.Threads(MOST)
        self.begun = [0] * MOST
        handles: Any = self.threads._handles
        first, size = ctypes.addressof(handles), ctypes.sizeof(ctypes.c_void_p)
        soon_back = ctypes.CDLL(None).labs  # int64 -> int64
        self.entry = ctypes.cast(soon_back, ctypes.c_void_p).value
        create, wait = self.threads._create, self.threads._wait

        def counted_create(place: Any, *rest: Any) -> Any:
            n = (ctypes.cast(place, ctypes.c_void_p).value - first) // size  # type: ignore[operator]
            error = create(place, *rest)
            self.begun[n] += error == 0
            assert self.begun[n] <= 1, f"thread {n} was begun twice"
            return error

        def counted_wait(handle: int, _: None) -> None:
            n = list(handles).index(handle)
            self.begun[n] -= 1
            assert self.begun[n] == 0, f"thread {n} was waited for twice"
            wait(handle, None)

        self.threads._create, self.threads._wait = counted_create, counted_wait

    def start(self) -> None:
        for n in range(MOST):
            assert self.threads.start(n, self.entry, 0) == ""

    def join(self) -> None:
        self.threads.join()

    def live(self) -> None:
        self.start()
        self.start()  # of threads that are there: nothing
        self.join()
        self.join()


@pytest.mark.parametrize("come", [Counted.start, Counted.join])
def test_whatever_comes_between(come: Callable[[Counted], None]) -> None:
    def at(place: int) -> int:
        counted = Counted()
        seen = interfere(counted.live, {threads.__file__}, place, lambda: come(counted))
        counted.join()
        assert counted.begun == [0] * MOST
        return seen

    places = at(-1)
    assert places > 100
    for place in range(places):
        at(place)

"""How tests wait and what they take for too much, so that no outcome depends on how busy the machine is.

What should happen is waited for, and counts as stuck after STUCK_S. What must be cheap is measured in CPU
time of its own thread and may take ROOM times what is promised: the same work may cost that where others use
memory and caches; a loop that runs away takes far more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STUCK_S = 900  # seconds in which a process starts, compiles and ends also where ten others want the processor
ROOM = 5


@contextmanager
def cheap(seconds: float) -> Iterator[None]:
    """Fails where the block takes more than ROOM times so many seconds of this thread's CPU time."""
    start = time.thread_time()
    try:
        yield
    finally:
        check_cheap(time.thread_time() - start, seconds)


def check_cheap(took: float, seconds: float) -> None:
    assert took <= ROOM * seconds, (
        f"{took:.2f} s of CPU time, more than {ROOM} times the {seconds} s promised: no busy machine's doing"
    )


def until(happened: Callable[[], bool], what: str, pause: float = 0.01) -> None:
    """Wait until it has happened; AssertionError with `what` did not, when it counts as stuck."""
    end = time.monotonic() + STUCK_S
    while not happened():
        assert time.monotonic() < end, f"in {STUCK_S} s {what} did not happen"
        time.sleep(pause)

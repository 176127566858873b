"""Whether the machine is idle: how much of its processors others take, and so of what is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

BUSY = 0.2  # processors that others may take: a figure that is off by less changes no choice
LOOK_S = 1.0  # of one look
LOOKS = 10  # until others count as busy for longer than it is worth to wait
IDLE = ("idle", "iowait", "guest", "guest_nice")  # times that are no work, or are counted with others


@dataclass(frozen=True)
class Times:
    """Processor seconds at a moment, since whenever the system counts from."""

    clock: float  # seconds
    all: float  # of all programs, and of a hypervisor's other guests, on the processors that we may use
    own: float  # of this process and those it started


Look = Callable[[], Times]


def times() -> Times:
    """What the system says now."""
    import psutil

    each = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(each))
    counted = [cpu._asdict() for number, cpu in enumerate(each) if number in allowed]
    own = os.times()
    return Times(
        time.monotonic(),
        sum(seconds for cpu in counted for name, seconds in cpu.items() if name not in IDLE),
        own.user + own.system + own.children_user + own.children_system,
    )


def others(before: Times, after: Times) -> float:
    """Processors that others took between two moments."""
    passed = max(after.clock - before.clock, 1e-9)
    return max(0.0, (after.all - before.all) - (after.own - before.own)) / passed


def wait(
    tell: Callable[[float], object] = lambda taken: None,
    look: Look = times,
    sleep: Callable[[float], object] = time.sleep,
) -> float:
    """Wait until others take less than BUSY processors, LOOKS looks at the most; what they took in the last.

    tell(processors) is called after each look that found them busy.
    """
    taken = 0.0
    for _ in range(LOOKS):
        before = look()
        sleep(LOOK_S)
        taken = others(before, look())
        if taken < BUSY:
            break
        tell(taken)
    return taken

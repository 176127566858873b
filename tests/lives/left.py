"""What is left behind, and how to make it show."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from pathlib import Path


def children() -> list[int]:
    """The processes that this one has started and not waited for, as far as the system tells."""
    found = []
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += list(map(int, task.read_text().split()))
    return found


def resources() -> dict[str, int]:
    """Threads, descriptors, processes and mappings of this process, as far as the system tells."""
    gc.collect()
    there = {"processes": len(children())}
    for name, place in (("threads", "task"), ("descriptors", "fd")):
        with contextlib.suppress(OSError):
            there[name] = len(os.listdir(f"/proc/self/{place}"))
    with contextlib.suppress(OSError):
        there["mappings of the file"] = Path("/proc/self/maps").read_text().count(".edgeq\n")
    return there


def nothing_left(before: dict[str, int]) -> None:
    """Raise when there is more than before; the system takes a thread off its list a moment after its end."""
    for _ in range(1000):
        after = resources()
        if after == before:
            return
        time.sleep(0.01)
    raise AssertionError(f"left: {before} became {after}")


def junk() -> None:
    """Take and fill memory, so that whoever still reads what was freed reads something else."""
    for size in (64, 200, 500, 1000, 2000, 4000):
        for _ in range(50):
            bytearray(b"\x11" * size)

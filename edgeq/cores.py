"""How many workers by default: the physical cores that this process may use and that are worth using; and
how much memory is free for other processes that it starts.

Linux says it in files, so no package is needed that would ask for more. `root` is where they stand, for
tests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# A core below this part of the fastest one's speed is left out: at every barrier all would wait for the piece
# of work that it took last, and in decode the fast cores use up the memory's bandwidth without it. Two kinds
# of big cores (0.8 and more of each other) work together; the little ones of a phone or an Intel hybrid,
# 0.25 to 0.6, do not join in.
WORTH = 0.7


def default_threads(root: Path = Path("/")) -> int:
    """The physical cores that affinity and quota leave to this process, without much slower ones."""
    if sys.platform == "linux":
        allowed = os.sched_getaffinity(0)
        return max(1, min(physical(worth_using(allowed, root), root), whole_processors(root, len(allowed))))
    return _macos_cores() or _other_cores()


def allowed_cpus() -> int:
    """The CPUs that this process may use, threads of one core counted each."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worth_using(allowed: set[int], root: Path) -> set[int]:
    """The allowed CPUs without those of a much slower kind."""
    cpus = root / "sys/devices/system/cpu"
    if _read(cpus / f"cpu{min(allowed)}/cpu_capacity") is not None:  # ARM, and x86 from Linux 6.12 on
        capacity = {n: _number(_read(cpus / f"cpu{n}/cpu_capacity")) or 0 for n in allowed}
        return {n for n in allowed if capacity[n] >= WORTH * max(capacity.values())}
    fast = _numbers(
        _read(root / "sys/devices/cpu_core/cpus")
    )  # Intel's hybrids have this folder, others do not
    return allowed & fast or allowed


def physical(cpus: set[int], root: Path) -> int:
    """How many cores these CPUs are: the threads of one core count once."""
    topology = [root / f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list" for n in cpus]
    return len({_read(path) or str(path) for path in topology})


def whole_processors(root: Path, otherwise: int) -> int:
    """The time that the process's control groups grant, in processors, at least one.

    Half a processor more is worth one more worker: all of them rest for a part of each period, a quarter at
    the most. For less than that they would rest longer than the worker is worth.
    """
    granted = min(_quotas(root), default=float(otherwise))
    return max(1, int(granted + 0.5))


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that the system has left to give, where that is less those that the control groups leave."""
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_memory_left(root)]))


def _quotas(root: Path) -> Iterator[float]:
    """The processors that each control group grants."""
    for group in _groups(root, "cpu"):
        words = (_read(group / "cpu.max") or "").split() or [
            _read(group / "cpu.cfs_quota_us") or "",
            _read(group / "cpu.cfs_period_us") or "",
        ]
        quota, period = map(_number, words[:2]) if len(words) >= 2 else (None, None)
        if quota is not None and period and quota > 0:  # "max", and -1 in version 1, mean without end
            yield quota / period


def _memory_left(root: Path) -> Iterator[int]:
    """The bytes that each control group grants and does not count yet."""
    for group in _groups(root, "memory"):
        for most, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _number(_read(group / most))
            if limit is not None:
                yield limit - (_number(_read(group / used)) or 0)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the process's control group and all above it; version 1 or 2."""
    mounted = root / "sys/fs/cgroup"
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts = [mounted, mounted / "unified"]
        elif controller in controllers.split(","):
            mounts = [mounted / controllers, mounted / controller]
        else:
            continue
        above = [part for part in path.split("/") if part not in ("", ".", "..")]
        for mount in mounts:  # in a container the path may be the host's: then the mount itself is the group
            for depth in range(len(above) + 1):
                yield mount.joinpath(*above[:depth])


def _macos_cores() -> int:
    """The performance cores as macOS tells them; 0 elsewhere."""
    if sys.platform != "darwin":
        return 0
    import ctypes

    c = ctypes.CDLL(None)
    for name in (b"hw.perflevel0.physicalcpu", b"hw.physicalcpu"):
        value, size = ctypes.c_int32(0), ctypes.c_size_t(4)
        if c.sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0:
            return value.value
    return 0


def _other_cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


# ---- small files ----
def _read(path: Path) -> str | None:
    try:
        with open(path, encoding="ascii") as f:
            return f.read().strip()
    except (OSError, ValueError):
        return None


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _numbers(text: str | None) -> set[int]:
    """The whole numbers in a list such as "0-3,8"; empty where it is none."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        low, high = _number(first), _number(last or first)
        if low is not None and high is not None:
            found.update(range(low, high + 1))
    return found

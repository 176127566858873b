"""The default number of workers on other machines, each a folder of the files that Linux shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgeq import cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it in files")


class Machine:
    """A root of files."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.root, self.monkeypatch = root, monkeypatch

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text + "\n")

    def cpus(self, siblings: list[str], capacity: list[int] | None = None) -> None:
        """One CPU for each list of the threads of its core."""
        for n, threads in enumerate(siblings):
            self.write(f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list", threads)
            if capacity:
                self.write(f"sys/devices/system/cpu/cpu{n}/cpu_capacity", str(capacity[n]))
        self.allow(set(range(len(siblings))))

    def allow(self, cpus: set[int]) -> None:
        self.monkeypatch.setattr(os, "sched_getaffinity", lambda process: cpus)

    @property
    def threads(self) -> int:
        return cores.default_threads(self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_threads_of_a_core_count_once(machine: Machine) -> None:
    machine.cpus(["0,4", "1,5", "2,6", "3,7"] * 2)
    assert machine.threads == 4
    machine.allow({0, 4})  # one core's two
    assert machine.threads == 1
    machine.allow({0, 1, 6})
    assert machine.threads == 3


def test_without_files_every_allowed_cpu_is_a_core(machine: Machine) -> None:
    machine.allow({2, 3, 5})
    assert machine.threads == 3


def test_intel_hybrid(machine: Machine) -> None:
    """Two performance cores of two threads, four efficient cores."""
    machine.cpus(["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"])
    assert machine.threads == 6
    machine.write("sys/devices/cpu_core/cpus", "0-3")
    machine.write("sys/devices/cpu_atom/cpus", "4-7")
    assert machine.threads == 2
    machine.allow({3, 4, 5})
    assert machine.threads == 1
    machine.allow({4, 5, 7})  # only efficient ones are left to us
    assert machine.threads == 3


@pytest.mark.parametrize(
    ("capacity", "want"),
    [
        ([1024] * 4, 4),  # Raspberry Pi
        ([530] * 4 + [1024] * 4, 4),  # little and big
        ([250] * 4 + [870] * 3 + [1024], 4),  # little, big, one faster still
    ],
)
def test_capacities(capacity: list[int], want: int, machine: Machine) -> None:
    machine.cpus([str(n) for n in range(len(capacity))], capacity)
    assert machine.threads == want


def test_only_slow_cores_allowed(machine: Machine) -> None:
    machine.cpus([str(n) for n in range(8)], [530] * 4 + [1024] * 4)
    machine.allow({0, 1, 2})
    assert machine.threads == 3


@pytest.mark.parametrize(
    ("quota", "want"),
    [("max 100000", 8), ("400000 100000", 4), ("150000 100000", 2), ("140000 100000", 1), ("20000 100000", 1),
     ("2000 1000", 2), ("", 8), ("many", 8), ("100000", 8), ("100000 0", 8)],
)  # fmt: skip
def test_quota(quota: str, want: int, machine: Machine) -> None:
    machine.allow(set(range(8)))
    machine.write("proc/self/cgroup", "0::/")
    machine.write("sys/fs/cgroup/cpu.max", quota)
    assert machine.threads == want


def test_the_smallest_quota_above_counts(machine: Machine) -> None:
    machine.allow(set(range(8)))
    machine.write("proc/self/cgroup", "0::/a.slice/b.slice/c.scope")
    machine.write("sys/fs/cgroup/a.slice/cpu.max", "600000 100000")
    machine.write("sys/fs/cgroup/a.slice/b.slice/cpu.max", "300000 100000")
    machine.write("sys/fs/cgroup/a.slice/b.slice/c.scope/cpu.max", "max 100000")
    machine.write("sys/fs/cgroup/a.slice/other/cpu.max", "100000 100000")
    assert machine.threads == 3


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_version_1(controllers: str, machine: Machine) -> None:
    machine.allow(set(range(8)))
    machine.write("proc/self/cgroup", f"5:memory:/m\n4:{controllers}:/docker/abc\n1:name=systemd:/\n0::/")
    group = f"sys/fs/cgroup/{controllers}/docker/abc"
    machine.write(f"{group}/cpu.cfs_quota_us", "-1")
    machine.write(f"{group}/cpu.cfs_period_us", "100000")
    assert machine.threads == 8
    machine.write(f"{group}/cpu.cfs_quota_us", "250000")
    assert machine.threads == 3


def test_version_1_in_a_container(machine: Machine) -> None:
    """The path is the host's; what is mounted is the container's own group."""
    machine.allow(set(range(8)))
    machine.write("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc")
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000")
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert machine.threads == 2


def test_both_versions_mounted(machine: Machine) -> None:
    machine.allow(set(range(8)))
    machine.write("proc/self/cgroup", "1:cpu:/\n0::/user.slice")
    machine.write("sys/fs/cgroup/unified/user.slice/cpu.max", "200000 100000")
    assert machine.threads == 2


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/a/b", {"a/memory.max": 700, "a/memory.current": 300, "a/b/memory.max": "max"}),
        ("0::/a/b", {"a/memory.max": 9000, "a/b/memory.max": 500, "a/b/memory.current": 100}),
        ("3:memory:/a", {"memory/a/memory.limit_in_bytes": 700, "memory/a/memory.usage_in_bytes": 300}),
        ("3:memory:/of/the/host\n0::/", {"memory/memory.limit_in_bytes": 400}),
    ],
)
def test_memory_that_groups_leave(groups: str, files: dict[str, int | str], machine: Machine) -> None:
    machine.write("proc/self/cgroup", groups)
    assert cores.free_memory(machine.root) > 10**6
    for path, text in files.items():
        machine.write(f"sys/fs/cgroup/{path}", str(text))
    assert cores.free_memory(machine.root) == 400


def test_no_memory_left(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/")
    machine.write("sys/fs/cgroup/memory.max", "400")
    machine.write("sys/fs/cgroup/memory.current", "500")
    assert cores.free_memory(machine.root) == 0


def test_this_machine() -> None:
    assert cores.free_memory() > 0
    assert 1 <= cores.default_threads() <= len(os.sched_getaffinity(0))

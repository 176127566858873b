"""This machine's CPU: what it can, and the instruction set that is chosen for it. On Linux the system is
asked, and no compiler is imported.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

from edgeq.errors import EdgeqError, UsageError

from . import isa as table
from .isa import ISA
from .target import BASE, host_machine

# Linux's word in /proc/cpuinfo for a feature, where it is another than LLVM's
CPUINFO = {"avx512vnni": "avx512_vnni", "avxvnni": "avx_vnni"}

# ARM's features as bits of what the kernel tells each process (also under emulation, where /proc does not)
HWCAP, HWCAP2 = 16, 26
ARM_BITS = {"neon": (HWCAP, 1), "dotprod": (HWCAP, 20), "i8mm": (HWCAP2, 13)}


@cache
def host_features() -> frozenset[str]:
    """The features of this CPU that instruction sets ask for, as LLVM names them."""
    wanted = frozenset().union(*(row.needs for row in table.ISAS if row.machine == host_machine()))
    if sys.platform == "linux" and host_machine() == "x86_64":
        words = cpuinfo_flags()
        return frozenset(name for name in wanted if CPUINFO.get(name, name) in words)
    if sys.platform == "linux" and host_machine() == "aarch64":
        return frozenset(name for name in wanted if name in ARM_BITS and hwcap(*ARM_BITS[name]))
    import llvmlite.binding as llvm

    return wanted & {name for name, has in llvm.get_host_cpu_features().items() if has}


def cpuinfo_flags() -> frozenset[str]:
    """What the first processor can, in Linux's words: the kernel has looked at CPU and operating system."""
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                return frozenset(value.split())
    return frozenset()


def hwcap(which: int, bit: int) -> bool:
    """A bit of the words that Linux gives a process about its CPU."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(getauxval(which) >> bit & 1)


def usable() -> list[ISA]:
    """The instruction sets that this CPU can run, best first."""
    here = ("", host_machine())
    return [row for row in table.ISAS if row.machine in here and row.needs <= host_features()]


def reason(row: ISA) -> str:
    """Why this CPU cannot run the instruction set; "" when it can."""
    if row.machine not in ("", host_machine()):
        return f"it is for {row.machine}"
    missing = sorted(row.needs - host_features())
    return f"this processor lacks {', '.join(missing)}" if missing else ""


@cache
def host_isa() -> ISA:
    """The best instruction set of this CPU, or the one that EDGEQ_ISA names; UsageError when it cannot run
    here, EdgeqError on a machine that there are no kernels for.
    """
    if host_machine() not in BASE or sys.maxsize < 1 << 32:
        bits = "64" if sys.maxsize > 1 << 32 else "32"
        raise EdgeqError(
            f"edgeq has kernels for {' and '.join(BASE)} with a 64-bit Python; "
            f"this is {host_machine()} with a Python of {bits} bits."
        )
    forced = os.environ.get("EDGEQ_ISA", "")
    if not forced:
        return usable()[0]
    try:
        row = table.by_name(forced.lower())
    except KeyError as error:
        raise UsageError(f"EDGEQ_ISA: {error.args[0]}.") from None
    if reason(row):
        names = ", ".join(one.name for one in usable())
        raise UsageError(f"EDGEQ_ISA={forced} cannot run here: {reason(row)}; there are {names}.")
    return row

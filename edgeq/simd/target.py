"""What kernels are compiled for: a tier, which is an instruction set on a machine and never one CPU alone.

Code for a tier uses the features that its row in `isa` needs and no others, so it runs on every CPU that has
them, and it can be made on any machine. (With the timings of one CPU in LLVM's mind no kernel was faster: see
bench/LOG.md.)
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from .isa import ISA, by_name

BASE = {"x86_64": "x86-64", "aarch64": "generic"}  # LLVM's names of the plainest CPUs: what all others add to
LEFT_ALONE = {"aarch64": "reserve-x18"}  # a register that is the system's own on macOS and Windows
# Bytes that kernels align their stack to, where the system leaves it at less than a register: one that is put
# by would lie across two lines of the cache, or two pages, in some processes and not in others.
STACK = {"x86_64": 64}
ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}  # what other systems call the machines


def host_machine() -> str:
    """The kind of this machine's CPU, under one name on all systems."""
    name = platform.machine().lower()
    return ALIASES.get(name, name)


def host_system(machine: str) -> str:
    """ "windows" where C functions are called in another way than everywhere else, else ""."""
    return "windows" if sys.platform == "win32" and machine == "x86_64" else ""


@dataclass(frozen=True)
class Target:
    """A tier: an instruction set on a machine, and how the system calls functions there."""

    isa: str
    machine: str
    system: str = ""

    @classmethod
    def of(cls, isa: str) -> Target:
        """The tier of an instruction set, for systems like this one; GENERIC, which any machine has, is meant
        for this machine.
        """
        machine = by_name(isa).machine or host_machine()
        return cls(isa, machine, host_system(machine))

    @property
    def isa_row(self) -> ISA:
        return by_name(self.isa)

    @property
    def name(self) -> str:
        """For files and people."""
        return "-".join(filter(None, (self.machine, self.isa, self.system)))

    @property
    def triple(self) -> str:
        """As LLVM wants it: always with objects in ELF's form, which `link` reads."""
        if self.system == "windows":
            return f"{self.machine}-pc-windows-msvc-elf"
        return f"{self.machine}-unknown-linux-gnu"

    @property
    def cpu(self) -> str:
        return BASE[self.machine]

    @property
    def features(self) -> str:
        """As LLVM wants them."""
        names = [*sorted(self.isa_row.needs | self.isa_row.tuning), LEFT_ALONE.get(self.machine, "")]
        return ",".join(f"+{name}" for name in names if name)

    @property
    def stack(self) -> int:
        """Bytes that each function aligns its stack to; 0: it is left as the system has it."""
        return STACK.get(self.machine, 0)

    @property
    def fuses(self) -> bool:
        """Whether its CPUs multiply and add in one instruction; without, LLVM calls C's fmaf."""
        return self.machine != "x86_64" or "fma" in self.isa_row.needs

    def __str__(self) -> str:
        return self.name

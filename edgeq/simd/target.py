"""What kernels are compiled for: a tier, which is an instruction set on a machine and never one CPU alone.

Code for a tier uses the features that its row in `isa` needs and no others, so it runs on every CPU that has
them, and it can be made on any machine. (Timings of one CPU in LLVM's mind made no kernel faster: see
bench/LOG.md.)
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from .isa import ISA, by_name

BASE = {"x86_64": "x86-64", "aarch64": "generic"}  # LLVM's names of the plainest CPUs: what all others add to
ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}  # what other systems call the machines


def host_machine() -> str:
    """The kind of this machine's CPU, under one name on all systems."""
    name = platform.machine().lower()
    return ALIASES.get(name, name)


@dataclass(frozen=True)
class Target:
    """A tier: an instruction set on a machine."""

    isa: str
    machine: str

    @classmethod
    def of(cls, isa: str) -> Target:
        """The tier of an instruction set; GENERIC, which any machine has, is meant for this one."""
        return cls(isa, by_name(isa).machine or host_machine())

    @property
    def isa_row(self) -> ISA:
        return by_name(self.isa)

    @property
    def triple(self) -> str:
        return f"{self.machine}-unknown-linux-gnu"

    @property
    def cpu(self) -> str:
        return BASE[self.machine]

    @property
    def features(self) -> str:
        """As LLVM wants them."""
        return ",".join(f"+{name}" for name in sorted(self.isa_row.needs))

    @property
    def fuses(self) -> bool:
        """Whether its CPUs multiply and add in one instruction; without, LLVM calls C's fmaf."""
        return self.machine != "x86_64" or "fma" in self.isa_row.needs

    def __str__(self) -> str:
        return f"{self.isa} on {self.machine}"

"""The table of instruction sets: what each needs, and how many tokens a tile of the matrix product holds.

A row's spellings are written in the module that `family` names, in its mapping SPELLINGS, and are looked up
when a kernel is compiled: to choose a row, this file alone is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.formats.schemes import Scheme


@dataclass(frozen=True)
class ISA:
    """An instruction set: the CPU features it needs (LLVM's names), and the size of its tiles."""

    name: str
    machine: str  # platform.machine() of CPUs that can have it; "" for any
    needs: frozenset[str]
    tokens: int  # tokens in a tile of the matrix product: as many as stay in registers
    family: str  # the module of its spellings
    tuning: frozenset[str] = frozenset()  # what LLVM is told to like, in its own names
    unpacks_all: bool = True  # schemes once for many tiles of tokens; else those of which it is dear

    @property
    def lower(self) -> Mapping[str, Callable[..., Any]]:
        """How it spells what differs between instruction sets."""
        module = importlib.import_module(f"{__package__}.{self.family}")
        spellings: Mapping[str, Mapping[str, Callable[..., Any]]] = module.SPELLINGS
        return spellings[self.name]

    def unpacks_once(self, scheme: Scheme) -> bool:
        """Whether the first of many tiles of tokens leaves a scheme's codes, and what comes of its scales,
        unpacked for the others: a tenth to a fifth of the time. Boards with plain NEON have small caches, and
        do so where a code's bits are gathered from several planes, or looked up.
        """
        return self.unpacks_all or len(scheme.planes) > 1 or bool(scheme.table)


# vpdpwssd in one, where LLVM would make a multiplication and an addition of it
DOT_IN_ONE = frozenset({"fast-dpwssd"})

ISAS: tuple[ISA, ...] = (  # of each machine the best first
    ISA(
        "avx512vnni",
        "x86_64",
        frozenset({"avx512vnni", "avx512bw", "avx512vl", "avx512f", "avx2", "fma", "f16c"}),
        8,
        "x86",
        DOT_IN_ONE,
    ),
    ISA("avxvnni", "x86_64", frozenset({"avxvnni", "avx2", "fma", "f16c"}), 4, "x86", DOT_IN_ONE),
    ISA("avx2", "x86_64", frozenset({"avx2", "fma", "f16c"}), 4, "x86"),
    ISA("i8mm", "aarch64", frozenset({"i8mm", "dotprod", "neon"}), 4, "arm"),
    ISA("dotprod", "aarch64", frozenset({"dotprod", "neon"}), 4, "arm"),
    ISA("neon", "aarch64", frozenset({"neon"}), 2, "arm", unpacks_all=False),
    ISA("generic", "", frozenset(), 4, "generic", unpacks_all=False),
)


def by_name(name: str) -> ISA:
    """The row called `name`; KeyError names the known ones."""
    for isa in ISAS:
        if isa.name == name:
            return isa
    raise KeyError(f"no instruction set is called {name!r}; known are {', '.join(i.name for i in ISAS)}")

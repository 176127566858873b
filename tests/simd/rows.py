"""Which instruction sets can be tested here. Importing this imports no numba."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgeq.simd import host, isa
from edgeq.simd.isa.dots import Dots, SignedDots, dot4
from edgeq.simd.isa.vectors import by_parts
from edgeq.simd.target import host_machine
from tests import emulator


@dataclass(frozen=True)
class ByMeaning(isa.ISA):
    """A row of x86-64 with the meaning of its dot instruction, so that its tiles are tested on CPUs that lack
    it.
    """

    bits: int = 0  # of its registers

    @property
    def lower(self) -> Mapping[str, Callable[..., Any]]:
        def sliced(b: Any, *vectors: Any) -> Any:
            return by_parts(b, 512 // self.bits, partial(dot4, b), *vectors)

        real = isa.by_name("avx2").lower
        dots: dict[str, Callable[..., Any]] = {
            "dots": partial(Dots, lookup=real["entries"], dot4=sliced),
            "signed_dots": partial(SignedDots, sliced),
        }
        return {**real, **dots}


def by_meaning(name: str, bits: int) -> ByMeaning:
    row = isa.by_name(name)
    return ByMeaning(f"{name}-meaning", row.machine, isa.by_name("avx2").needs, row.tokens, "x86", bits)


STAND_INS = (by_meaning("avx512vnni", 512), by_meaning("avxvnni", 256))


def has(row: isa.ISA) -> bool:
    """Whether this CPU can run the row, or the one that is emulated."""
    features = emulator.HAS[emulator.CPU] if emulator.CPU else host.host_features()
    return row.needs <= features and row.machine in ("", "aarch64" if emulator.CPU else host_machine())


def runnable() -> list[isa.ISA]:
    """The rows that this CPU can run, best first, and before them the stand-ins for those that it cannot."""
    rows = [row for row in isa.ISAS if has(row)]
    names = {f"{row.name}-meaning" for row in rows}
    return [row for row in STAND_INS if has(row) and row.name not in names] + rows


EVERYWHERE = [row.name for row in runnable()]
HERE = next(name for name in EVERYWHERE if not name.endswith("-meaning"))  # the best that this CPU really has
SOME = ("q4", "q8", "k2", "k6", "e2")  # schemes that between them take every way of unpacking and adding up


def on_tiers(schemes: Iterable[str]) -> list[tuple[str, str]]:
    """(instruction set, scheme) to test: all schemes on the best that this CPU has, some on the others."""
    return [(name, scheme) for name in EVERYWHERE for scheme in schemes if name == HERE or scheme in SOME]

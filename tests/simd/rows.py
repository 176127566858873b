"""Which instruction sets can be tested here. Importing this imports no numba."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgeq.formats.schemes import ACT_GROUP, SCHEMES, Scheme
from edgeq.simd import host, isa
from edgeq.simd.isa.dots import Dots, dot4
from edgeq.simd.isa.vectors import by_parts
from edgeq.simd.isa.wide import WidePairs
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
            "wide": WidePairs,
        }
        return {**real, **dots}


def by_meaning(name: str, bits: int) -> ByMeaning:
    row = isa.by_name(name)
    needs = isa.by_name("avx2").needs
    new = f"{name}-meaning"
    return ByMeaning(new, row.machine, needs, row.tokens, "x86", unpacks_all=row.unpacks_all, bits=bits)


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
REAL = [name for name in EVERYWHERE if not name.endswith("-meaning")]  # what this CPU really has
HERE = REAL[0]  # the best of them
# schemes that between them take every way of unpacking and adding up
SOME = ("q4", "q8", "k2", "k6", "e2", "nv4")


def ways(row: Scheme) -> tuple[Any, Any]:
    """What the lowering of a group's integers asks of a scheme, and what that of its floats."""
    span = int(row.tables.max()) - row.offset
    most = next((n for n in (8, 4, 2, 1) if n * span * 2 * 127 < 1 << 15), 0)  # products that 16 bits hold
    zero = min(row.zero, 1) if row.zero != 128 else 128
    shared = [floats and (floats.number, floats.columns > ACT_GROUP) for floats in (row.scale, row.min)]
    integers = row.group, row.planes, len(row.table), len(row.tables), zero, most, row.sub, row.zeros != (0,)
    return integers, (*shared, row.row, row.unit != 1, bool(row.sub))


def lowered(rows: Iterable[Scheme]) -> list[str]:
    """The schemes of codes whose integers or whose floats are lowered as those of none before them: what
    there is to compile, where the table has more rows than ways.
    """
    integers, floats, found = set(), set(), []
    for row in (row for row in rows if row.planes):
        way, other = ways(row)
        if way not in integers or other not in floats or row.name in SOME:
            found.append(row.name)
        integers.add(way)
        floats.add(other)
    return found


CODES = lowered(SCHEMES.values())
FIRST = next(iter(emulator.HAS))


def on_tiers(schemes: Iterable[str] = CODES) -> list[tuple[str, str]]:
    """(instruction set, scheme) to test: each way on the best that this CPU has, some on the others."""
    return [(name, scheme) for name in EVERYWHERE for scheme in schemes if name == HERE or scheme in SOME]


def on_machines() -> list[tuple[str, str]]:
    """The same for kernels without integer products, lowered alike on all tiers of a machine: nothing stands
    in for tiers, and of the processors that are emulated one has each way.
    """
    schemes = CODES if emulator.CPU in ("", FIRST) else SOME
    return [(name, scheme) for name, scheme in on_tiers(schemes) if name in REAL]

"""Which rows of the table of schemes kernels compute. All instruction sets compute the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from edgeq.errors import UsageError
from edgeq.formats.schemes import ACT_GROUP, Scheme

FLOATS = ("f32", "f16", "bf16", "e8m0", "e4m3", "e5m2", "ue4m3")  # formats of floats that kernels read
TABLE = 32  # entries of a table of integers, which is two registers


@cache
def check(scheme: Scheme) -> None:
    """UsageError, a sentence that says why, for a scheme that no kernel is written for."""
    for wrong, why in _faults(scheme):
        if wrong:
            raise UsageError(f"scheme {scheme.name}: {why}.")


def _faults(s: Scheme) -> Iterator[tuple[bool, str]]:
    """(whether it is so, what would be right)"""
    numbers = {s.number} | {floats.number for floats in s.floats.values()}
    yield not numbers <= {"", *FLOATS}, f"kernels read floats in {', '.join(FLOATS)} only"
    if s.group < ACT_GROUP:
        yield 1 in s.planes, f"{s.group} columns, which share a scale, are no whole lines of one bit"
        yield bool(s.sub), f"a scale for {s.group} columns leaves none for sub-scales"
    yield len(s.table) > TABLE, f"kernels look up {TABLE} integers at the most, not {len(s.table)}"
    if s.sub_kind:
        shifted = max(abs(s.offset - zero) for zero in s.zeros)
        largest = max(-s.sub_kind.low, s.sub_kind.high) * shifted
        yield (
            largest >= 1 << 15,
            f"a sub-scale times the smallest integer is {largest}, more than 16 bits hold",
        )
    if s.planes:
        least, most = int(s.values.min()), int(s.values.max())
        yield not -128 <= least <= most <= 127, f"its integers are {least} to {most}, more than 8 bits hold"

"""Which instruction sets can be tested here. Importing this imports no numba."""

from __future__ import annotations

from edgeq.simd import isa, store

_VNNI = isa.by_name("avx512vnni")

# AVX-512 VNNI with the meaning of its dot instruction, so that its tiles are tested on CPUs that lack it.
STAND_IN = isa.ISA(
    "avx512vnni-meaning",
    _VNNI.machine,
    isa.by_name("avx2").needs,
    _VNNI.tokens,
    {**_VNNI.lower, "dots": isa.dots_generic, "dot4": isa.dot4_generic},
)


def runnable() -> list[isa.ISA]:
    """The rows that this CPU can run, best first, the stand-in among them where it has a use."""
    rows = [row for row in isa.ISAS if row.needs <= store.host_features()]
    if _VNNI not in rows and STAND_IN.needs <= store.host_features():
        rows.insert(0, STAND_IN)
    return rows


EVERYWHERE = [row.name for row in runnable()]
HERE = next(name for name in EVERYWHERE if name != STAND_IN.name)  # the best that this CPU really has

"""The table of schemes. Everything that stores, computes with or lists schemes walks it."""

from __future__ import annotations

from edgeq.errors import UnsupportedError, quote

from .scheme import Floats, Integers, Scheme

NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # ggml's IQ4_NL
FP4 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # E2M1, doubled

F16_32, F16_256 = Floats("f16", 32), Floats("f16", 256)

SCHEMES: dict[str, Scheme] = {
    row.name: row
    for row in (
        Scheme("f32", "f32"),
        Scheme("f16", "f16"),
        Scheme("bf16", "bf16"),
        Scheme("q8", planes=(8,), zero=128, scale=F16_32),
        Scheme("q4", planes=(4,), zero=8, scale=F16_32),
        # ggml's other types, number for number
        Scheme("q5", planes=(4, 1), zero=16, scale=F16_32),
        Scheme("q4m", planes=(4,), scale=F16_32, min=F16_32),
        Scheme("q5m", planes=(4, 1), scale=F16_32, min=F16_32),
        Scheme("k6", planes=(4, 2), zero=32, sub=Integers("i8", 16), scale=F16_256),
        Scheme("k5", planes=(4, 1), sub=Integers("u8+m", 32), scale=F16_256, min=F16_256),
        Scheme("k4", planes=(4,), sub=Integers("u8+m", 32), scale=F16_256, min=F16_256),
        Scheme("k3", planes=(2, 1), zero=4, sub=Integers("i8", 16), scale=F16_256),
        Scheme("k2", planes=(2,), sub=Integers("u4m4", 16), scale=F16_256, min=F16_256),
        Scheme("t4", planes=(4,), table=NL, scale=F16_32),
        Scheme("t4x", planes=(4,), table=NL, sub=Integers("i8", 32), scale=F16_256),
        Scheme("mx4", planes=(4,), table=FP4, scale=Floats("e8m0", 32), unit=0.5),
        Scheme("bytes"),
    )
}


def scheme_of(name: str | Scheme) -> Scheme:
    """The row of that name; UnsupportedError for a name this version does not know."""
    if isinstance(name, Scheme):
        return name
    if name not in SCHEMES:
        raise UnsupportedError(f"scheme {quote(name)} is not one of {', '.join(SCHEMES)}")
    return SCHEMES[name]

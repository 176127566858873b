"""The table of schemes. Everything that stores, computes with or lists schemes walks it."""

from __future__ import annotations

from collections.abc import Iterable

from edgeq.errors import UnsupportedError, quote

from .scheme import Floats, Integers, Scheme


def mirrored(magnitudes: Iterable[float]) -> tuple[int, ...]:
    """The table of the nearest integers, and behind them their negatives."""
    found = tuple(round(magnitude) for magnitude in magnitudes)
    return (*found, *(-v for v in found))


def powers_of_two(bits: int) -> tuple[int, ...]:
    """127 and what halving leaves of it, both signs, in so many bits (Miyashita, Lee and Murmann, 2016)."""
    return mirrored(127 / 2**k for k in reversed(range(1 << bits - 1)))


def power_law(bits: int, exponent: float) -> tuple[int, ...]:
    """127 times a power of equal steps from 0 to 1, both signs, in so many bits (Yvinec and others,
    PowerQuant, 2023).
    """
    last = (1 << bits - 1) - 1
    return mirrored(127 * (k / last) ** exponent for k in range(last + 1))


NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # ggml's IQ4_NL
FP4 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # E2M1, doubled
# ggml's IQ1 to IQ3: the upper bit of a code is a sign (IQ1: a shift of all to lower values), and of the three
# magnitudes of IQ1 and IQ2 the fourth is never used
IQ3_XXS = tuple(sign * v for sign in (1, -1) for v in (4, 12, 20, 28, 36, 44, 52, 62))
IQ3_S = tuple(sign * v for sign in (1, -1) for v in range(1, 16, 2))
IQ2 = (8, 25, 43, 0, -8, -25, -43, 0)
IQ1 = (-7, 1, 9, 0, -9, -1, 7, 0)
SIGN = (-1, 1)
# QLoRA's numbers, at equal shares of a normal distribution, in 127ths (Dettmers and others, 2023, appendix E)
NF4 = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)
LOG4, POW4 = powers_of_two(4), power_law(4, 1.4)  # what leaves the least of both samples of `edgeq schemes`
# edgeq's own: what is nearest to normally distributed weights, and what 32 columns may choose of
E5 = (
    -63, -56, -50, -45, -40, -35, -32, -27, -24, -20, -16, -13, -10, -7, -4, -1,
    1, 4, 7, 10, 13, 16, 20, 24, 27, 32, 35, 40, 45, 50, 56, 63,
)  # fmt: skip
# those below lie so near to each other that int16 holds four products
E4 = (-31, -23, -18, -14, -10, -7, -4, -1, 1, 4, 7, 10, 14, 18, 22, 27)
E3 = (-30, -18, -10, -3, 3, 10, 18, 29)
E2 = (-31, -11, 6, 28, -17, -3, 11, 29, -32, -12, 2, 17, -29, -7, 10, 30)  # four tables
Z3, Z4, Z5, Z6 = (-5, -2, 1, 4), (-3, -1, 1, 3), (-5, -2, 2, 5), (-3, -1, 0, 2)

F16_32, F16_64, F16_128, F16_256 = (Floats("f16", columns) for columns in (32, 64, 128, 256))
UE4M3_16 = Floats("ue4m3", 16)
SUB_16, SUB_32 = Integers("i8", 16), Integers("i8", 32)
ROW, CHOICE, SIGNED_CHOICE = Floats("f32", 0), Integers("u6c2", 32), Integers("s6c2", 32)

SCHEMES: dict[str, Scheme] = {
    row.name: row
    for row in (
        Scheme("f32", "f32"),
        Scheme("f16", "f16"),
        Scheme("bf16", "bf16"),
        # bytes that are floats, the largest of a row the largest of their format
        Scheme("fp8", "e4m3", row=ROW, shipped=False),
        Scheme("fp8e5", "e5m2", row=ROW, shipped=False),
        Scheme("q8", planes=(8,), zero=128, scale=F16_32),
        Scheme("q4", planes=(4,), zero=8, scale=F16_32),
        # ggml's other types, number for number
        Scheme("q5", planes=(4, 1), zero=16, scale=F16_32),
        Scheme("q4m", planes=(4,), scale=F16_32, min=F16_32, shipped=False),
        Scheme("q5m", planes=(4, 1), scale=F16_32, min=F16_32, shipped=False),
        Scheme("k6", planes=(4, 2), zero=32, sub=SUB_16, scale=F16_256),
        Scheme("k5", planes=(4, 1), sub=Integers("u8+m", 32), scale=F16_256, min=F16_256),
        Scheme("k4", planes=(4,), sub=Integers("u8+m", 32), scale=F16_256, min=F16_256),
        Scheme("k3", planes=(2, 1), zero=4, sub=SUB_16, scale=F16_256, shipped=False),
        Scheme("k2", planes=(2,), sub=Integers("u4m4", 16), scale=F16_256, min=F16_256, shipped=False),
        Scheme("t4", planes=(4,), table=NL, scale=F16_32, shipped=False),
        Scheme("t4x", planes=(4,), table=NL, sub=SUB_32, scale=F16_256, shipped=False),
        Scheme("mx4", planes=(4,), table=FP4, scale=Floats("e8m0", 32), unit=0.5, shipped=False),
        Scheme("nv4", planes=(4,), table=FP4, scale=UE4M3_16, row=ROW, unit=0.5, shipped=False),
        # types of ggml that no kernel runs as they are: the words of their grids, spelt out
        Scheme("iq3xxs", planes=(4,), table=IQ3_XXS, sub=SUB_32, scale=F16_256, unit=1 / 4, shipped=False),
        Scheme("iq3s", planes=(4,), table=IQ3_S, sub=SUB_32, scale=F16_256, shipped=False),
        Scheme("iq2xxs", planes=(2, 1), table=IQ2, sub=SUB_32, scale=F16_256, unit=1 / 8, shipped=False),
        Scheme("iq2s", planes=(2, 1), table=IQ2, sub=SUB_16, scale=F16_256, unit=1 / 8, shipped=False),
        Scheme("iq1s", planes=(2, 1), table=IQ1, sub=SUB_32, scale=F16_256, unit=1 / 8, shipped=False),
        Scheme("iq1m", planes=(2, 1), table=IQ1, sub=SUB_16, scale=F16_256, unit=1 / 8, shipped=False),
        # one or two bits
        Scheme("tq2", planes=(2,), zero=1, scale=F16_256, shipped=False),
        Scheme("q2g64", planes=(2,), zero=1, scale=F16_64, shipped=False),
        Scheme("q1g128", planes=(1,), table=SIGN, scale=F16_128, shipped=False),
        # edgeq's own: a float for each row, and a byte for each 32 columns
        Scheme("e8", planes=(8,), zero=128, sub=Integers("u8", 32), row=ROW),
        Scheme("e6", planes=(4, 2), zero=32, zeros=Z6, sub=CHOICE, row=ROW, shipped=False),
        Scheme("e5", planes=(4, 1), table=E5, zeros=Z5, sub=CHOICE, row=ROW, shipped=False),
        Scheme("e4", planes=(4,), table=E4, zeros=Z4, sub=SIGNED_CHOICE, row=ROW),
        Scheme("e3", planes=(2, 1), table=E3, zeros=Z3, sub=CHOICE, row=ROW, shipped=False),
        Scheme("e2", planes=(2,), table=E2, sub=CHOICE, row=ROW, shipped=False),
        Scheme("t2", planes=(2,), zero=1, row=ROW, shipped=False),
        Scheme("q2m", planes=(2,), scale=F16_32, min=F16_32, shipped=False),  # of caches
        # others' ways, to compare with
        Scheme("nf4", planes=(4,), table=NF4, scale=F16_64, shipped=False),
        Scheme("fp4", planes=(4,), table=FP4, scale=F16_32, shipped=False),
        Scheme("log4", planes=(4,), table=LOG4, scale=F16_32, shipped=False),
        Scheme("pow4", planes=(4,), table=POW4, scale=F16_32, shipped=False),
        Scheme("q4g64", planes=(4,), zero=8, scale=F16_64, shipped=False),
        Scheme("q4g128", planes=(4,), zero=8, scale=F16_128, shipped=False),
        Scheme("q8r", planes=(8,), zero=128, row=ROW, shipped=False),
        Scheme("q8t", planes=(8,), zero=128, row=ROW, tensor=True, shipped=False),
        Scheme("b1", planes=(1,), table=SIGN, row=ROW, shipped=False),
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

"""How each of ggml's types lays a block of numbers out, and its parts as a scheme of ours takes them.

A layout is a structured dtype, the block byte by byte. A function takes blocks of its layout, [n], and gives
arrays [n, entries of a block] by the names of the scheme's parts: "codes", "sub", "submin", "scale", "min".
Nothing is rounded: integers stay integers, and floats keep their bits.
"""

from __future__ import annotations

import numpy as np

from edgeq.errors import FormatError

from ..schemes.numbers import Array
from .grids import GRIDS

Parts = dict[str, Array]


def layout(*fields: tuple[str, str] | tuple[str, str, int]) -> np.dtype:
    """The dtype of a block of these fields, without gaps."""
    return np.dtype(list(fields))


def planes(raw: Array, bits: int) -> Array:
    """uint8 [..., bytes] -> [..., 8 // bits, bytes]: each byte's lowest bits, then the next of each, …"""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    split: Array = raw[..., None, :] >> shifts
    split &= np.uint8((1 << bits) - 1)
    return split


def fields(raw: Array, bits: int) -> Array:
    """uint8 [..., bytes] -> [..., bytes * (8 // bits)]: all fields of the first byte, then of the next, …"""
    split = planes(raw, bits).swapaxes(-1, -2)
    return split.reshape(*raw.shape[:-1], -1)


def runs(raw: Array, length: int) -> Array:
    """[n, bytes] -> [n, bytes // length, length]."""
    return raw.reshape(len(raw), -1, length)


def negative(floats: Array) -> Array:
    """float16 with the other sign; by its bit, so a zero has one, too."""
    return (floats.view("<u2") ^ np.uint16(0x8000)).view("<f2")


# ---- one number ----


def f64(block: Array) -> Parts:
    """As float32; FormatError where one would be rounded."""
    with np.errstate(over="ignore", invalid="ignore"):
        value = block.astype("<f4")
    lost = (value != block) & ~np.isnan(block)
    if lost.any():
        raise FormatError(f"{float(block[lost][0])!r} is an F64 that no float32 equals")
    return {"value": value}


# ---- 32 columns, one scale ----

Q4_0 = layout(("d", "<f2"), ("low", "u1", 16))
Q4_1 = layout(("d", "<f2"), ("m", "<f2"), ("low", "u1", 16))
Q5_0 = layout(("d", "<f2"), ("high", "u1", 4), ("low", "u1", 16))
Q5_1 = layout(("d", "<f2"), ("m", "<f2"), ("high", "u1", 4), ("low", "u1", 16))
Q8_0 = layout(("d", "<f2"), ("codes", "i1", 32))
MXFP4 = layout(("e", "u1"), ("low", "u1", 16))


def four_bits(block: Array) -> Parts:
    """Q4_0 and IQ4_NL: the low halves of all bytes, then the high ones."""
    return {"codes": planes(block["low"], 4), "scale": block["d"]}


def q4_1(block: Array) -> Parts:
    return {**four_bits(block), "min": block["m"]}


def q5_0(block: Array) -> Parts:
    low, high = planes(block["low"], 4), fields(block["high"], 1)
    return {"codes": low.reshape(-1, 32) | high << 4, "scale": block["d"]}


def q5_1(block: Array) -> Parts:
    return {**q5_0(block), "min": block["m"]}


def q8_0(block: Array) -> Parts:
    return {"codes": block["codes"].view(np.uint8) ^ np.uint8(128), "scale": block["d"]}


def mxfp4(block: Array) -> Parts:
    return {"codes": planes(block["low"], 4), "scale": block["e"]}


# ---- 64 columns, a scale for 16 ----

NVFP4 = layout(("scale", "u1", 4), ("low", "u1", 32))


def nvfp4(block: Array) -> Parts:
    """Each 16 columns as Q4_0 has 32. A scale of 127, no number, is 0."""
    scale = np.where(block["scale"] == 127, np.uint8(0), block["scale"])
    return {"codes": planes(runs(block["low"], 8), 4), "scale": scale}


# ---- 256 columns, an integer scale for 16 or 32 ----

Q2_K = layout(("sub", "u1", 16), ("low", "u1", 64), ("d", "<f2"), ("dmin", "<f2"))
Q3_K = layout(("high", "u1", 32), ("low", "u1", 64), ("sub", "u1", 12), ("d", "<f2"))
Q4_K = layout(("d", "<f2"), ("dmin", "<f2"), ("sub", "u1", 12), ("low", "u1", 128))
Q5_K = layout(("d", "<f2"), ("dmin", "<f2"), ("sub", "u1", 12), ("high", "u1", 32), ("low", "u1", 128))
Q6_K = layout(("low", "u1", 128), ("high", "u1", 64), ("sub", "i1", 16), ("d", "<f2"))
IQ4_XS = layout(("d", "<f2"), ("sub_high", "u1", 2), ("sub_low", "u1", 4), ("low", "u1", 128))


def q2_k(block: Array) -> Parts:
    """The sub-scale's byte is ours: scale below, min above."""
    codes = planes(runs(block["low"], 32), 2)
    return {"codes": codes, "sub": block["sub"], "scale": block["d"], "min": negative(block["dmin"])}


def q3_k(block: Array) -> Parts:
    low = planes(runs(block["low"], 32), 2).reshape(-1, 8, 32)
    high = planes(block["high"], 1)
    sub = planes(block["sub"][:, :8], 4).reshape(-1, 16) | planes(block["sub"][:, 8:], 2).reshape(-1, 16) << 4
    return {"codes": low | high << 2, "sub": sub.astype(np.int8) - np.int8(32), "scale": block["d"]}


def q4_k(block: Array) -> Parts:
    """Sub-scales and their mins have 6 bits each: of the first four of both the low 6 of bytes 0 to 7; of the
    last four the low 4 of both in bytes 8 to 11, the upper 2 where bytes 0 to 7 have them left."""
    first, last = runs(block["sub"][:, :8], 4), planes(block["sub"][:, 8:], 4)
    sub, submin = np.concatenate([first & 63, last | first >> 6 << 4], axis=2).swapaxes(0, 1)
    codes = planes(runs(block["low"], 32), 4)
    return {
        "codes": codes,
        "sub": sub,
        "submin": submin,
        "scale": block["d"],
        "min": negative(block["dmin"]),
    }


def q5_k(block: Array) -> Parts:
    parts = q4_k(block)
    codes = parts["codes"].reshape(-1, 8, 32) | planes(block["high"], 1) << 4
    return {**parts, "codes": codes}


def q6_k(block: Array) -> Parts:
    low = planes(runs(block["low"], 64), 4).reshape(-1, 2, 4, 32)
    high = planes(runs(block["high"], 32), 2)
    return {"codes": low | high << 4, "sub": block["sub"], "scale": block["d"]}


def iq4_xs(block: Array) -> Parts:
    sub = fields(block["sub_low"], 4) | fields(block["sub_high"], 2) << 4
    codes = planes(runs(block["low"], 16), 4)
    return {"codes": codes, "sub": sub.astype(np.int8) - np.int8(32), "scale": block["d"]}


# ---- one or two bits, one scale ----

Q1_0 = layout(("d", "<f2"), ("low", "u1", 16))
Q2_0 = layout(("d", "<f2"), ("low", "u1", 16))
TQ1_0 = layout(("five", "u1", 48), ("four", "u1", 4), ("d", "<f2"))
TQ2_0 = layout(("low", "u1", 64), ("d", "<f2"))


def q1_0(block: Array) -> Parts:
    return {"codes": fields(block["low"], 1), "scale": block["d"]}


def q2_0(block: Array) -> Parts:
    return {"codes": fields(block["low"], 2), "scale": block["d"]}


def tq1_0(block: Array) -> Parts:
    """A byte is a fraction of 256 whose first 5 (or 4) digits to the base 3 are the codes."""

    def digits(raw: Array, count: int) -> Array:
        shifted = raw[:, None, :] * np.array([1, 3, 9, 27, 81][:count], np.uint8)[:, None]  # modulo 256
        return (
            ((shifted.astype(np.uint16) * np.uint16(3)) >> np.uint16(8))
            .astype(np.uint8)
            .reshape(len(raw), -1)
        )

    five, four = block["five"], block["four"]
    codes = np.concatenate([digits(five[:, :32], 5), digits(five[:, 32:], 5), digits(four, 4)], axis=1)
    return {"codes": codes, "scale": block["d"]}


def tq2_0(block: Array) -> Parts:
    return {"codes": planes(runs(block["low"], 32), 2), "scale": block["d"]}


# ---- words of a grid ----

IQ1_S = layout(("d", "<f2"), ("index", "u1", 32), ("high", "<u2", 8))
IQ1_M = layout(("index", "u1", 32), ("high", "u1", 16), ("scales", "<u2", 4))
IQ2_XXS = np.dtype([("d", "<f2"), ("words", [("index", "u1", 4), ("rest", "<u4")], 8)])
IQ2_XS = layout(("d", "<f2"), ("words", "<u2", 32), ("sub", "u1", 8))
IQ2_S = layout(("d", "<f2"), ("index", "u1", 32), ("signs", "u1", 32), ("high", "u1", 8), ("sub", "u1", 8))
IQ3_XXS = layout(("d", "<f2"), ("index", "u1", 64), ("rest", "<u4", 8))
IQ3_S = layout(("d", "<f2"), ("index", "u1", 64), ("high", "u1", 8), ("signs", "u1", 32), ("sub", "u1", 4))

# Seven signs are kept of eight; an even number of values is negative.
EVEN_SIGNS = np.arange(128, dtype=np.uint8)
EVEN_SIGNS |= (np.bitwise_count(EVEN_SIGNS) & np.uint8(1)) << np.uint8(7)


def odd(sub: Array) -> Array:
    """int8: 2 sub + 1."""
    return (2 * sub + 1).astype(np.int8)


def bits_of(words: Array, width: int, count: int) -> Array:
    """Unsigned words [...] -> [..., count]: fields of so many bits, from the low end."""
    shifts = np.arange(count, dtype=words.dtype) * words.dtype.type(width)
    return (words[..., None] >> shifts) & words.dtype.type((1 << width) - 1)


def signed(digits: Array, signs: Array, bit: int) -> Array:
    """Digits uint8 [n, ...] of 256 columns, and a byte of signs for 8 of them, as codes whose `bit` is the
    sign."""
    return digits.reshape(-1, 256) | fields(signs.reshape(-1, 32), 1) << bit


def iq1_s(block: Array) -> Parts:
    """A word of `high`: upper bits of four indices, a sub-scale, and the shift of all 32 columns."""
    high = bits_of(block["high"], 3, 5)  # [n, 8, 5]
    digits = GRIDS["IQ1_S"][block["index"] | high[:, :, :4].reshape(-1, 32) << 8]
    shift = (block["high"] >> 15).astype(np.uint8)
    codes = digits.reshape(-1, 8, 32) | shift[:, :, None] << 2
    return {"codes": codes, "sub": odd(high[:, :, 4]), "scale": block["d"]}


def iq1_m(block: Array) -> Parts:
    """As IQ1_S, with a shift for 8 columns and a sub-scale for 16; the scale is spread over four words."""
    high = fields(block["high"], 4)  # [n, 32]
    digits = GRIDS["IQ1_S"][block["index"] | (high & 7).astype(np.uint16) << 8]
    scale = (block["scales"] >> 12) << np.array([0, 4, 8, 12], np.uint16)
    sub = bits_of(block["scales"], 3, 4)
    return {
        "codes": digits | (high >> 3 << 2)[:, :, None],
        "sub": odd(sub.reshape(-1, 16)),
        "scale": np.bitwise_or.reduce(scale, axis=1).view("<f2"),
    }


def iq2_xxs(block: Array) -> Parts:
    words = block["words"]
    digits = GRIDS["IQ2_XXS"][words["index"]]
    signs = EVEN_SIGNS[bits_of(words["rest"], 7, 4)]
    return {"codes": signed(digits, signs, 2), "sub": odd(words["rest"] >> 28), "scale": block["d"]}


def iq2_xs(block: Array) -> Parts:
    digits = GRIDS["IQ2_XS"][block["words"] & 511]
    codes = signed(digits, EVEN_SIGNS[block["words"] >> 9], 2)
    return {"codes": codes, "sub": odd(fields(block["sub"], 4)), "scale": block["d"]}


def iq2_s(block: Array) -> Parts:
    digits = GRIDS["IQ2_S"][block["index"] | fields(block["high"], 2).astype(np.uint16) << 8]
    codes = signed(digits, block["signs"], 2)
    return {"codes": codes, "sub": odd(fields(block["sub"], 4)), "scale": block["d"]}


def iq3_xxs(block: Array) -> Parts:
    digits = GRIDS["IQ3_XXS"][block["index"]]
    signs = EVEN_SIGNS[bits_of(block["rest"], 7, 4)]
    return {"codes": signed(digits, signs, 3), "sub": odd(block["rest"] >> 28), "scale": block["d"]}


def iq3_s(block: Array) -> Parts:
    digits = GRIDS["IQ3_S"][block["index"] | fields(block["high"], 1).astype(np.uint16) << 8]
    codes = signed(digits, block["signs"], 3)
    return {"codes": codes, "sub": odd(fields(block["sub"], 4)), "scale": block["d"]}

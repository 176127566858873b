"""Reading and writing memory: scalars, lines of codes, lines of floats in the formats of schemes."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from edgeq.formats.schemes import NUMBERS

from ..isa import vectors
from ..isa.vectors import (
    CODES,
    F16X16,
    F32,
    F32X16,
    F64,
    I8,
    I16,
    I32,
    I32X16,
    I64,
    LANES,
    at,
    call,
    const,
    put,
    splat,
)
from ..tag import Tag
from .registry import ADDRESS, DOUBLE, FLOAT, INT, codes, f32, i32, memory, verb

I8X16, I16X16 = ir.VectorType(I8, LANES), ir.VectorType(I16, LANES)


@verb(ADDRESS, (ADDRESS,), lambda b, p: at(b, p, I64))
def peek_i64(p: int) -> Any:
    return memory(p, np.int64, 1)[0]


@verb(INT, (ADDRESS,), lambda b, p: at(b, p, I32))
def peek_i32(p: int) -> Any:
    return memory(p, np.int32, 1)[0]


@verb(FLOAT, (ADDRESS,), lambda b, p: at(b, p, F32))
def peek_f32(p: int) -> Any:
    return memory(p, np.float32, 1)[0]


@verb(DOUBLE, (ADDRESS,), lambda b, p: at(b, p, F64))
def peek_f64(p: int) -> Any:
    return memory(p, np.float64, 1)[0]


@verb(INT, (ADDRESS,), lambda b, p: b.zext(at(b, p, I8), I32))
def peek_u8(p: int) -> Any:
    return np.int32(memory(p, np.uint8, 1)[0])


@verb(types.void, (ADDRESS, FLOAT), lambda b, p, x: put(b, p, x))
def poke_f32(p: int, x: Any) -> None:
    memory(p, np.float32, 1)[0] = x


@verb(types.void, (ADDRESS, DOUBLE), lambda b, p, x: put(b, p, x))
def poke_f64(p: int, x: Any) -> None:
    memory(p, np.float64, 1)[0] = x


@verb(types.void, (ADDRESS, INT), lambda b, p, x: put(b, p, x))
def poke_i32(p: int, x: Any) -> None:
    memory(p, np.int32, 1)[0] = x


@verb(types.void, (ADDRESS, INT), lambda b, p, x: put(b, p, b.trunc(x, I8)))
def poke_u8(p: int, x: Any) -> None:
    memory(p, np.uint8, 1)[0] = np.uint8(x & 255)


@verb(FLOAT, (ADDRESS,), lambda b, x: b.bitcast(b.trunc(x, I32), F32))
def float_bits(x: int) -> Any:
    """The float32 whose bits are the low half of x."""
    return np.uint32(x & 0xFFFFFFFF).view(np.float32)


def _eleven_bits(b: Any, x: Any) -> Any:
    def word(n: int) -> Any:
        return ir.Constant(I32, n)

    bits = b.bitcast(x, I32)
    odd = b.and_(b.lshr(bits, word(13)), word(1))
    return b.bitcast(b.and_(b.add(bits, b.add(odd, word(0xFFF))), word(0xFFFFE000)), F32)


@verb(FLOAT, (FLOAT,), _eleven_bits)
def eleven_bits(x: Any) -> Any:
    """x >= 0 rounded to the 11 significant bits of a float16, ties to even, with float32's range."""
    word = int(np.float32(x).view(np.uint32))
    return np.uint32((word + (word >> 13 & 1) + 0xFFF) & 0xFFFFE000).view(np.float32)


@verb(FLOAT, (FLOAT,), lambda b, x: call(b, "llvm.sqrt.f32", F32, x))
def root(x: Any) -> Any:
    """The square root, rounded once."""
    return np.sqrt(np.float32(x))


@verb(ADDRESS, (ADDRESS,), vectors.opaque)
def opaque(n: int) -> Any:
    """n, a constant that the optimizer may not see: a loop of that many turns stays a loop."""
    return n


def lower_prefetch(b: Any, p: Any) -> None:
    pointer = b.inttoptr(p, I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
    name = "llvm.prefetch.p0"
    f = b.module.globals.get(name) or ir.Function(b.module, kind, name)
    b.call(f, [pointer, *(ir.Constant(I32, n) for n in (0, 3, 1))])


@verb(types.void, (ADDRESS,), lower_prefetch)
def prefetch(p: int) -> None:
    """Ask for the cache line at p, which need not exist."""


@verb(f32, (ADDRESS,), lambda b, p: at(b, p, F32X16))
def load_f32(p: int) -> Any:
    return memory(p, np.float32, LANES).copy()


@verb(types.void, (ADDRESS, f32), lambda b, p, v: put(b, p, v))
def store_f32(p: int, v: Any) -> None:
    memory(p, np.float32, LANES)[:] = v


@verb(types.void, (ADDRESS, i32), lambda b, p, v: put(b, p, v))
def store_i32(p: int, v: Any) -> None:
    memory(p, np.int32, LANES)[:] = v


@verb(f32, (Tag, ADDRESS), lambda b, tag, p: tag.isa_row.lower["widen_f16"](b, at(b, p, F16X16)))
def load_f16(t: Any, p: int) -> Any:
    return memory(p, np.float16, LANES).astype(np.float32)


@verb(types.void, (Tag, ADDRESS, f32), lambda b, tag, p, v: put(b, p, tag.isa_row.lower["narrow_f16"](b, v)))
def store_f16(t: Any, p: int, v: Any) -> None:
    memory(p, np.float16, LANES)[:] = v.astype(np.float16)


def _e4m3(b: Any, bits: Any) -> Any:
    magnitude = b.and_(bits, const(I32X16, 0x7F))
    value = b.fmul(b.bitcast(b.shl(magnitude, const(I32X16, 20)), F32X16), const(F32X16, 2.0**120))  # exact
    nan = b.icmp_unsigned("==", magnitude, const(I32X16, 0x7F))
    value = b.select(nan, const(I32X16, 0x7FC00000), b.bitcast(value, I32X16))
    sign = b.shl(b.and_(bits, const(I32X16, 0x80)), const(I32X16, 24))
    return b.bitcast(b.or_(value, sign), F32X16)


def stored_floats(b: Any, tag: Tag, number: str, p: Any, unit: float = 1.0) -> Any:
    """Sixteen stored floats of a format (a name of NUMBERS), as float32 times the unit, a power of two. An
    e8m0 of 255 becomes infinite, a ue4m3 that is no number anything.
    """
    floats, missing = _widened(b, tag, number, p)
    factor = missing * unit
    return floats if factor == 1 else b.fmul(floats, const(F32X16, factor))


def _widened(b: Any, tag: Tag, number: str, p: Any) -> tuple[Any, float]:
    """float32, and the power of two that makes them the stored numbers."""
    if number == "f32":
        return at(b, p, F32X16), 1.0
    if number == "f16":
        return tag.isa_row.lower["widen_f16"](b, at(b, p, F16X16)), 1.0
    if number == "bf16":
        bits = b.zext(at(b, p, I16X16), I32X16)
        return b.bitcast(b.shl(bits, const(I32X16, 16)), F32X16), 1.0
    if number == "e8m0":
        bits = b.shl(b.zext(at(b, p, I8X16), I32X16), const(I32X16, 23))
        smallest = const(I32X16, 1 << 22)  # 2**-127, a subnormal
        return b.bitcast(b.select(b.icmp_signed(">", bits, smallest), bits, smallest), F32X16), 1.0
    if number == "e4m3":
        return _e4m3(b, b.zext(at(b, p, I8X16), I32X16)), 1.0
    if number == "e5m2":
        half = b.shl(b.zext(at(b, p, I8X16), I16X16), const(I16X16, 8))
        return tag.isa_row.lower["widen_f16"](b, b.bitcast(half, F16X16)), 1.0
    if number == "ue4m3":  # a float16 but for the bias; small ones as float32 would be subnormal, and slow
        bits = b.shl(b.zext(at(b, p, I8X16), I16X16), const(I16X16, 7))
        return tag.isa_row.lower["widen_f16"](b, b.bitcast(bits, F16X16)), 2.0**8
    raise TypeError(f"kernels read no floats in {number}")


@verb(f32, (Tag, ADDRESS), lambda b, tag, p: stored_floats(b, tag, tag.scheme_row.number, p))
def load_values(t: Any, p: int) -> Any:
    """Sixteen stored floats of the tag's scheme, as float32."""
    number = NUMBERS[t.scheme_row.number]
    return number.floats(memory(p, number.dtype, LANES))


def _poke_value(b: Any, tag: Tag, p: Any, x: Any) -> None:
    if tag.scheme == "f32":
        put(b, p, x)
    else:
        put(b, p, b.extract_element(tag.isa_row.lower["narrow_f16"](b, splat(b, x)), ir.Constant(I32, 0)))


@verb(types.void, (Tag, ADDRESS, FLOAT), _poke_value)
def poke_value(t: Any, p: int, x: Any) -> None:
    """One float in the tag's scheme (f32 or f16)."""
    dtype = {"f32": np.float32, "f16": np.float16}[t.scheme]
    memory(p, dtype, 1)[0] = dtype(x)


@verb(codes, (ADDRESS,), lambda b, p: at(b, p, CODES))
def load_codes(p: int) -> Any:
    """A line of bytes."""
    return memory(p, np.uint8, 4 * LANES).copy()


def _store_quads(b: Any, p: Any, *columns: Any) -> None:
    line = const(I32X16, 0)
    for n, column in enumerate(columns):
        byte = b.and_(column, const(I32X16, 0xFF))
        line = b.or_(line, b.shl(byte, const(I32X16, 8 * n)))
    put(b, p, line)


@verb(types.void, (ADDRESS, i32, i32, i32, i32), _store_quads)
def store_quads(p: int, v0: Any, v1: Any, v2: Any, v3: Any) -> None:
    """A line of four columns: byte 4 * r + j is the low byte of lane r of the j-th."""
    memory(p, np.uint8, 4 * LANES)[:] = (np.stack([v0, v1, v2, v3], -1) & 255).astype(np.uint8).reshape(-1)


@verb(types.void, (ADDRESS, i32), lambda b, p, v: put(b, p, b.trunc(v, I8X16)))
def store_i8(p: int, v: Any) -> None:
    """The low byte of each lane, 16 bytes in all."""
    memory(p, np.uint8, LANES)[:] = (v & 255).astype(np.uint8)

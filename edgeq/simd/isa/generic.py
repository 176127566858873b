"""Plain LLVM, right on every target: what the other instruction sets replace piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir

from .dots import LoopDots, entries
from .vectors import F16X16, F32X16, I16, I32X16, LANES, Builder, Value, const
from .wide import LoopPairs


def widen_f16(b: Builder, h: Value) -> Value:
    """float16 to float32 with integer operations: a baseline x86-64 has no instruction, and the libcall is
    not linked.
    """
    bits = b.zext(b.bitcast(h, ir.VectorType(I16, LANES)), I32X16)
    magnitude = b.shl(b.and_(bits, const(I32X16, 0x7FFF)), const(I32X16, 13))
    scaled = b.fmul(b.bitcast(magnitude, F32X16), const(F32X16, 2.0**112))  # exact, subnormals included
    special = b.icmp_unsigned(">=", magnitude, const(I32X16, 0x7C00 << 13))
    filled = b.or_(b.bitcast(scaled, I32X16), b.select(special, const(I32X16, 0x7F800000), const(I32X16, 0)))
    return b.bitcast(b.or_(filled, b.shl(b.and_(bits, const(I32X16, 0x8000)), const(I32X16, 16))), F32X16)


def narrow_f16(b: Builder, v: Value) -> Value:
    """float32 to float16, round to nearest even, with integer operations; overflow gives infinity, NaN stays
    NaN.
    """
    bits = b.bitcast(v, I32X16)
    sign = b.lshr(b.and_(bits, const(I32X16, 0x80000000)), const(I32X16, 16))
    a = b.and_(bits, const(I32X16, 0x7FFFFFFF))
    odd = b.and_(b.lshr(a, const(I32X16, 13)), const(I32X16, 1))
    normal = b.lshr(
        b.add(b.sub(a, const(I32X16, 112 << 23)), b.add(odd, const(I32X16, 0xFFF))), const(I32X16, 13)
    )
    # adding 0.5 to a subnormal result leaves its rounded bits in the low mantissa
    small = b.sub(
        b.bitcast(b.fadd(b.bitcast(a, F32X16), const(F32X16, 0.5)), I32X16), const(I32X16, 0x3F000000)
    )
    half = b.select(b.icmp_unsigned("<", a, const(I32X16, 113 << 23)), small, normal)
    half = b.select(b.icmp_unsigned(">=", a, const(I32X16, 0x47800000)), const(I32X16, 0x7C00), half)
    half = b.select(b.icmp_unsigned(">", a, const(I32X16, 0x7F800000)), const(I32X16, 0x7E00), half)
    return b.bitcast(b.trunc(b.or_(half, sign), ir.VectorType(I16, LANES)), F16X16)


def widen_f16_native(b: Builder, h: Value) -> Value:
    """For CPUs with an instruction for it."""
    return b.fpext(h, F32X16)


def narrow_f16_native(b: Builder, v: Value) -> Value:
    """For CPUs with an instruction for it."""
    return b.fptrunc(v, F16X16)


def no_pause(b: Builder) -> None:
    """Nothing: an instruction set without a hint for waiting."""


GENERIC: Mapping[str, Callable[..., Any]] = dict(
    dots=LoopDots,  # (scheme) -> the Dots of its codes and signed activations
    wide=LoopPairs,  # () -> the Wide of signed bytes and numbers of 16 bits
    entries=entries,
    widen_f16=widen_f16,
    narrow_f16=narrow_f16,
    pause=no_pause,
)
SPELLINGS = {"generic": GENERIC}

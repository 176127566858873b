"""One row per instruction set: what it needs, how many tokens a tile holds, how it spells what it does better
than GENERIC.

A lowering is a pure function (IRBuilder, *values) -> value. It knows nothing of numba, so it can be run
alone, tested alone and assembled for a CPU this machine does not have. Every vector is a *line*: 16 lanes
of 32 bits, or their 64 bytes; LLVM splits it into registers, and an instruction that LLVM cannot select by
itself is called on slices of its own width.

An integer dot product over one group of columns is a `Dots`: `start`, one `add` per four columns,
`finish`. Its meaning, for stored codes u, activations s (int8 in -127..127) and their sum, is sum((u -
zero) * s) exactly, whatever the spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()
LANES = 16
CODES = ir.VectorType(I8, 4 * LANES)
I16X32 = ir.VectorType(I16, 2 * LANES)
I32X16 = ir.VectorType(I32, LANES)
F16X16 = ir.VectorType(F16, LANES)
F32X16 = ir.VectorType(F32, LANES)

Builder = Any  # ir.IRBuilder: llvmlite carries no types
Value = Any


# ---- small tools ----
def const(t: Any, v: float) -> Value:
    return ir.Constant(t, [v] * t.count)


def call(b: Builder, name: str, out: Any, *args: Value) -> Value:
    """Call an LLVM intrinsic by its full name (llvmlite cannot mangle vector types itself)."""
    f = b.module.globals.get(name)
    if f is None:
        f = ir.Function(b.module, ir.FunctionType(out, [a.type for a in args]), name)
    return b.call(f, args)


def splat(b: Builder, s: Value, count: int = LANES) -> Value:
    t = ir.VectorType(s.type, count)
    u = ir.Constant(t, ir.Undefined)
    first = b.insert_element(u, s, ir.Constant(I32, 0))
    return b.shuffle_vector(first, u, ir.Constant(ir.VectorType(I32, count), [0] * count))


def pick(b: Builder, v: Value, lanes: list[int]) -> Value:
    """The given lanes of v, in order."""
    mask = ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
    return b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), mask)


def join(b: Builder, parts: list[Value]) -> Value:
    """Concatenate a power of two of equal vectors."""
    while len(parts) > 1:
        n = 2 * parts[0].type.count
        mask = ir.Constant(ir.VectorType(I32, n), list(range(n)))
        parts = [b.shuffle_vector(x, y, mask) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def by_parts(b: Builder, parts: int, f: Callable[..., Value], *vectors: Value) -> Value:
    """f on each of `parts` equal slices of the vectors, joined again."""

    def slices(v: Value) -> list[Value]:
        n = v.type.count // parts
        return [pick(b, v, list(range(i * n, i * n + n))) for i in range(parts)]

    return join(b, [f(*s) for s in zip(*map(slices, vectors), strict=True)]) if parts > 1 else f(*vectors)


# ---- generic: plain LLVM IR, right on every target ----
def dot4_generic(b: Builder, acc: Value, u: Value, s: Value) -> Value:
    """acc[i] + sum of u[4i+j] * s[4i+j] for j < 4; u unsigned, s signed bytes."""
    wide = ir.VectorType(I32, u.type.count)
    products = b.mul(b.zext(u, wide), b.sext(s, wide))
    for j in range(4):
        acc = b.add(acc, pick(b, products, list(range(j, u.type.count, 4))))
    return acc


def widen_f16_bits(b: Builder, h: Value) -> Value:
    """float16 to float32 with integer operations: a baseline x86-64 has no instruction, and the libcall is
    not linked.
    """
    bits = b.zext(b.bitcast(h, ir.VectorType(I16, LANES)), I32X16)
    magnitude = b.shl(b.and_(bits, const(I32X16, 0x7FFF)), const(I32X16, 13))
    scaled = b.fmul(b.bitcast(magnitude, F32X16), const(F32X16, 2.0**112))  # exact, subnormals included
    special = b.icmp_unsigned(">=", magnitude, const(I32X16, 0x7C00 << 13))
    filled = b.or_(b.bitcast(scaled, I32X16), b.select(special, const(I32X16, 0x7F800000), const(I32X16, 0)))
    return b.bitcast(b.or_(filled, b.shl(b.and_(bits, const(I32X16, 0x8000)), const(I32X16, 16))), F32X16)


def widen_f16_native(b: Builder, h: Value) -> Value:
    return b.fpext(h, F32X16)


def narrow_f16_native(b: Builder, v: Value) -> Value:
    return b.fptrunc(v, F16X16)


def narrow_f16_bits(b: Builder, v: Value) -> Value:
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


class Dots:
    """Sum of (code - zero) * activation over a group, accumulated in 32 bits from -zero * sum on: right for
    any `dot4`.
    """

    acc = I32X16

    def __init__(self, zero: int, dot4: Callable[..., Value] = dot4_generic):
        self.zero, self.dot4 = zero, dot4

    def start(self, b: Builder, total: Value) -> Value:
        """The accumulator before the first column; total is the line-wide sum of the activations."""
        return b.mul(total, const(I32X16, -self.zero))

    def add(self, b: Builder, acc: Value, codes: Value, x: Value) -> Value:
        """acc after four more columns: codes holds 16 rows by 4 columns, x the same 4 activations in every
        lane.
        """
        return self.dot4(b, acc, codes, x)

    def finish(self, b: Builder, acc: Value, total: Value) -> Value:
        """The exact sums, int32 in 16 lanes."""
        return acc


def no_pause(b: Builder) -> None:
    """Nothing: an instruction set without a hint for waiting."""


# ---- x86-64 ----
def dot4_vpdpbusd(b: Builder, acc: Value, u: Value, s: Value) -> Value:
    if llvm.llvm_version_info[0] < 22:  # LLVM 22 changed the operands from 32-bit lanes to bytes
        u, s = b.bitcast(u, acc.type), b.bitcast(s, acc.type)
    return call(b, "llvm.x86.avx512.vpdpbusd.512", acc.type, acc, u, s)


def maddubs(b: Builder, u: Value, s: Value) -> Value:
    """int16 sums of two neighbouring products, saturating: callers keep u <= 128 so that none does."""

    def narrow(u: Value, s: Value) -> Value:
        return call(b, "llvm.x86.avx2.pmadd.ub.sw", ir.VectorType(I16, 16), u, s)

    return by_parts(b, 2, narrow, u, s)


def pair_sums(b: Builder, v: Value) -> Value:
    """int32 sums of neighbouring int16."""
    ones = const(ir.VectorType(I16, 16), 1)

    def narrow(v: Value) -> Value:
        return call(b, "llvm.x86.avx2.pmadd.wd", ir.VectorType(I32, 8), v, ones)

    return by_parts(b, 2, narrow, v)


def dot4_maddubs(b: Builder, acc: Value, u: Value, s: Value) -> Value:
    """Exact for u <= 127: 2 * 127 * 128 < 2**15."""
    return b.add(acc, pair_sums(b, maddubs(b, u, s)))


class NibbleDots(Dots):
    """AVX2, codes up to 15: a whole group of 32 columns stays in int16 (8 steps * 2 * 15 * 127 = 30480 <
    2**15).
    """

    acc = I16X32

    def start(self, b: Builder, total: Value) -> Value:
        return const(I16X32, 0)

    def add(self, b: Builder, acc: Value, codes: Value, x: Value) -> Value:
        return b.add(acc, maddubs(b, codes, x))

    def finish(self, b: Builder, acc: Value, total: Value) -> Value:
        return b.add(pair_sums(b, acc), b.mul(total, const(I32X16, -self.zero)))


class SignDots(Dots):
    """AVX2, eight-bit codes (value + 128): |w| * sign(x, w) cannot saturate, as 2 * 128 * 127 < 2**15; no
    zero is left.
    """

    def start(self, b: Builder, total: Value) -> Value:
        return const(I32X16, 0)

    def add(self, b: Builder, acc: Value, codes: Value, x: Value) -> Value:
        w = b.xor(codes, const(CODES, -128))

        def signed(x: Value, w: Value) -> Value:
            return call(b, "llvm.x86.avx2.psign.b", w.type, x, w)

        magnitude = call(b, f"llvm.abs.v{CODES.count}i8", CODES, w, ir.Constant(I1, 0))
        return b.add(acc, pair_sums(b, maddubs(b, magnitude, by_parts(b, 2, signed, x, w))))


def pause_x86(b: Builder) -> None:
    call(b, "llvm.x86.sse2.pause", ir.VoidType())


def dots_vnni(bits: int, zero: int) -> Dots:
    return Dots(zero, dot4_vpdpbusd)


def dots_avx2(bits: int, zero: int) -> Dots:
    if bits <= 4:
        return NibbleDots(zero)
    return SignDots(zero) if bits == 8 else Dots(zero, dot4_maddubs)


def dots_generic(bits: int, zero: int) -> Dots:
    return Dots(zero)


# ---- the table ----
GENERIC: Mapping[str, Callable[..., Any]] = dict(
    dots=dots_generic,
    dot4=dot4_generic,
    widen_f16=widen_f16_bits,
    narrow_f16=narrow_f16_bits,
    pause=no_pause,
)
X86: Mapping[str, Callable[..., Any]] = {
    **GENERIC,
    "widen_f16": widen_f16_native,
    "narrow_f16": narrow_f16_native,
    "pause": pause_x86,
}


@dataclass(frozen=True)
class ISA:
    """An instruction set: the CPU features it needs (LLVM's names) and its differences from GENERIC."""

    name: str
    machine: str  # platform.machine() of CPUs that can have it; "" for any
    needs: frozenset[str]
    tokens: int  # tokens in a tile of the matrix product: as many as stay in registers
    lower: Mapping[str, Callable[..., Any]] = field(hash=False)


ISAS = (  # best first; ARM rows stand between the x86-64 rows and generic
    ISA(
        "avx512vnni",
        "x86_64",
        frozenset({"avx512vnni", "avx512bw", "avx512vl", "avx512f", "fma", "f16c"}),
        8,
        {**X86, "dots": dots_vnni, "dot4": dot4_vpdpbusd},
    ),
    ISA(
        "avx2",
        "x86_64",
        frozenset({"avx2", "fma", "f16c"}),
        4,
        {**X86, "dots": dots_avx2, "dot4": dot4_maddubs},
    ),
    ISA("generic", "", frozenset(), 4, GENERIC),
)


def by_name(name: str) -> ISA:
    """The row called `name`; KeyError names the known ones."""
    for isa in ISAS:
        if isa.name == name:
            return isa
    raise KeyError(f"no instruction set is called {name!r}; known are {', '.join(i.name for i in ISAS)}")

"""x86-64: the byte products of AVX2 and of both VNNI extensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir

from .dots import Dots, SignedDots, Tile
from .generic import GENERIC, narrow_f16_native, widen_f16_native
from .vectors import CODES, I1, I16, I16X32, I32, I32X16, Builder, Value, by_parts, call, const

I16X16, I32X8 = ir.VectorType(I16, 16), ir.VectorType(I32, 8)


# ---- VNNI: four products and their sum in one instruction ----
def vpdpbusd(bits: int, b: Builder, acc: Value, u: Value, s: Value) -> Value:
    """dot4 in registers of that many bits. Nothing in it saturates."""

    def narrow(acc: Value, u: Value, s: Value) -> Value:
        if llvm.llvm_version_info[0] < 22:  # LLVM 22 changed the operands from 32-bit lanes to bytes
            u, s = b.bitcast(u, acc.type), b.bitcast(s, acc.type)
        return call(b, f"llvm.x86.avx512.vpdpbusd.{bits}", acc.type, acc, u, s)

    return by_parts(b, 512 // bits, narrow, acc, u, s)


# ---- AVX2: pairs of products in 16 bits ----
def maddubs(b: Builder, u: Value, s: Value) -> Value:
    """int16 sums of two neighbouring products, saturating: callers keep u <= 128 so that none does."""

    def narrow(u: Value, s: Value) -> Value:
        return call(b, "llvm.x86.avx2.pmadd.ub.sw", I16X16, u, s)

    return by_parts(b, 2, narrow, u, s)


def pair_sums(b: Builder, v: Value) -> Value:
    """int32 sums of neighbouring int16."""
    ones = const(I16X16, 1)

    def narrow(v: Value) -> Value:
        return call(b, "llvm.x86.avx2.pmadd.wd", I32X8, v, ones)

    return by_parts(b, 2, narrow, v)


def dot4_maddubs(b: Builder, acc: Value, u: Value, s: Value) -> Value:
    """Exact for u <= 127: 2 * 127 * 128 < 2**15."""
    return b.add(acc, pair_sums(b, maddubs(b, u, s)))


class NibbleDots(Dots):
    """AVX2, codes up to 15: a whole group of 32 columns stays in int16 (8 steps * 2 * 15 * 127 = 30480 <
    2**15).
    """

    acc = I16X32

    def start(self, b: Builder, totals: Tile) -> Tile:
        return [const(I16X32, 0) for _ in totals]

    def four(self, b: Builder, acc: Value, codes: Value, x: Value) -> Value:
        return b.add(acc, maddubs(b, codes, x))

    def finish(self, b: Builder, accs: Tile, totals: Tile) -> Tile:
        sums = [pair_sums(b, acc) for acc in accs]
        return [b.add(sum_, self.folded(b, total)) for sum_, total in zip(sums, totals, strict=True)]


class SignDots(Dots):
    """AVX2, eight-bit codes (value + 128): |w| * sign(x, w) cannot saturate, as 2 * 128 * 127 < 2**15; no
    zero is left.
    """

    def start(self, b: Builder, totals: Tile) -> Tile:
        return [const(I32X16, 0) for _ in totals]

    def plane(self, b: Builder, v: Value, p: int) -> tuple[Value, Value]:
        """The codes' values and their magnitudes."""
        w = b.xor(v, const(CODES, -128))
        return w, call(b, f"llvm.abs.v{CODES.count}i8", CODES, w, ir.Constant(I1, 0))

    def four(self, b: Builder, acc: Value, codes: tuple[Value, Value], x: Value) -> Value:
        w, magnitude = codes

        def signed(x: Value, w: Value) -> Value:
            return call(b, "llvm.x86.avx2.psign.b", w.type, x, w)

        return b.add(acc, pair_sums(b, maddubs(b, magnitude, by_parts(b, 2, signed, x, w))))


def dots_avx2(bits: int, zero: int) -> Dots:
    if bits <= 4:
        return NibbleDots(bits, zero)
    return SignDots(bits, zero) if bits == 8 else Dots(bits, zero, dot4_maddubs)


def pause(b: Builder) -> None:
    call(b, "llvm.x86.sse2.pause", ir.VoidType())


def vnni(bits: int) -> Mapping[str, Callable[..., Any]]:
    """The products of VNNI in registers of that many bits."""
    dot4 = partial(vpdpbusd, bits)
    return {"dots": partial(Dots, dot4=dot4), "signed_dots": partial(SignedDots, dot4)}


X86 = {**GENERIC, "widen_f16": widen_f16_native, "narrow_f16": narrow_f16_native, "pause": pause}
SPELLINGS = {
    "avx512vnni": {**X86, **vnni(512)},
    "avxvnni": {**X86, **vnni(256)},
    "avx2": {**X86, "dots": dots_avx2, "signed_dots": partial(SignedDots, dot4_maddubs)},
}

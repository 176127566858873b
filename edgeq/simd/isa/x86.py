"""x86-64: the byte products of AVX2 and of both VNNI extensions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from llvmlite import binding as llvm
from llvmlite import ir

from edgeq.formats.schemes import ACT_GROUP, Scheme

from . import parts
from .dots import ACT_MAX, Dots, Tile
from .generic import GENERIC, narrow_f16_native, widen_f16_native
from .parts import Group
from .vectors import (
    CODES,
    F32X16,
    I1,
    I16,
    I16X32,
    I32,
    I32X16,
    I64,
    LANES,
    Builder,
    Value,
    by_parts,
    call,
    const,
    cut,
    fma,
    vector,
)
from .wide import WidePairs

I16X16, I32X8 = ir.VectorType(I16, 16), ir.VectorType(I32, 8)


def entries(b: Builder, codes: Value, table: Sequence[int]) -> Value:
    """The table's byte for each code below 16: one shuffle of bytes for each register."""
    name = "ssse3.pshuf.b.128" if codes.type.count == 16 else "avx2.pshuf.b"

    def narrow(v: Value) -> Value:
        row = [table[n % len(table)] for n in range(16)] * (v.type.count // 16)
        return call(b, f"llvm.x86.{name}", v.type, vector(v.type, row), v)

    return by_parts(b, max(1, codes.type.count // 32), narrow, codes)


def pair_products(b: Builder, v: Value, w: Value) -> Value:
    """int32 sums of the products of two neighbouring int16."""

    def narrow(v: Value, w: Value) -> Value:
        return call(b, "llvm.x86.avx2.pmadd.wd", I32X8, v, w)

    return by_parts(b, 2, narrow, v, w)


# ---- VNNI: four products and their sum in one instruction ----
def vpdpbusd(bits: int, b: Builder, acc: Value, u: Value, s: Value) -> Value:
    """dot4 in registers of that many bits. Nothing in it saturates."""

    def narrow(acc: Value, u: Value, s: Value) -> Value:
        if llvm.llvm_version_info[0] < 22:  # LLVM 22 changed the operands from 32-bit lanes to bytes
            u, s = b.bitcast(u, acc.type), b.bitcast(s, acc.type)
        return call(b, f"llvm.x86.avx512.vpdpbusd.{bits}", acc.type, acc, u, s)

    return by_parts(b, 512 // bits, narrow, acc, u, s)


class WideVnniDots(Dots):
    """In registers of 512 bits, of which there are enough to keep the factors of the sums of x in one.

    Sub-scales are multiplied as floats, which takes one instruction where integers take two slow ones.
    """

    by_pairs = True

    def __init__(self, row: Scheme):
        super().__init__(row, entries, partial(vpdpbusd, 512))
        if row.group == ACT_GROUP and self.floats_subs:
            self.sum = F32X16

    def pair_products(self, b: Builder, v: Value, w: Value) -> Value:
        return call(b, "llvm.x86.avx512.pmaddw.d.512", I32X16, v, w)

    def sums(self, b: Builder, group: Group, xs: Tile, totals: Tile) -> Tile:
        if self.sum is I32X16:
            return super().sums(b, group, xs, totals)
        found = [const(F32X16, 0.0)] * len(xs)  # added to it, no product is minus zero
        for half, run in self.runs():
            group, accs = self.add_run(b, self.begun(b, group, totals, half), group, xs, run)
            made = partial(self.float_subs, b, group, half)
            factor = parts.kept_line(b, group, f"sub{half}", F32X16, made)
            sums = [b.sitofp(acc, F32X16) for acc in accs]
            found = [fma(b, total, factor, before) for total, before in zip(sums, found, strict=True)]
        return found

    def begun(self, b: Builder, group: Group, totals: Tile, half: int) -> Tile:
        """What the smallest v, less the zero points, gives for the x of a half."""
        if not self.folds:
            return [const(I32X16, 0)] * len(totals)
        made = partial(self.offsets, b, group, [half])
        factors = parts.kept_line(b, group, f"zero{half}", I16X32, made)
        if parts.halves(self.row) > 1:
            factors = b.and_(factors, vector(I16X32, [[-1, 0], [0, -1]][half] * LANES))
        return self.times_totals(b, factors, totals)


# ---- AVX2: pairs of products in 16 bits ----
PAIR = 2 * ACT_MAX  # int8 activations at the most, in a lane of 16 bits that adds two products
MOST = (1 << 15) - 1  # of such a lane


def maddubs(b: Builder, u: Value, s: Value) -> Value:
    """int16 sums of two neighbouring products, saturating: callers keep u <= 128 so that none does."""

    def narrow(u: Value, s: Value) -> Value:
        return call(b, "llvm.x86.avx2.pmadd.ub.sw", I16X16, u, s)

    return by_parts(b, 2, narrow, u, s)


def after(b: Builder, address: Value, values: Sequence[Value]) -> Value:
    """The address, which the optimizer must believe to depend on the values. No instruction comes of it.

    LLVM would unpack all codes of a group before it multiplies the first, and spill them.
    """
    registers = [r for v in values for r in cut(b, v, v.type.count * v.type.element.width // 256)]
    kind = ir.FunctionType(I64, [I64, *(r.type for r in registers)])
    return b.asm(kind, "", "=r,0" + ",x" * len(registers), [address, *registers], False)


class Avx2Dots(Dots):
    """What both ways of AVX2 share: a sub-scale costs nothing, as it is a factor of the step from 16 to 32
    bits, which is needed anyway.
    """

    acc = I16X32

    def __init__(self, row: Scheme):
        super().__init__(row, entries)

    def pair_products(self, b: Builder, v: Value, w: Value) -> Value:
        return pair_products(b, v, w)

    def done(self, b: Builder, group: Group, out: Tile) -> Group:
        return group.moved(lambda address: after(b, address, out))

    def factor(self, b: Builder, group: Group, half: int) -> Value:
        """The sub-scale of each row, twice."""
        if not self.row.sub:
            return const(I16X32, 1)

        def made() -> Value:
            return parts.pairs(b, [parts.sub(b, group, half)])

        return parts.kept_line(b, group, f"sub{half}", I16X32, made)


class UnsignedDots(Avx2Dots):
    """Codes of up to 7 bits stay in int16 for as many quads as do not overflow it."""

    def __init__(self, row: Scheme):
        super().__init__(row)
        span = int(row.tables.max()) - row.offset
        self.most = next(n for n in (8, 4, 2, 1) if n * span * PAIR <= MOST)
        self.quads = self.most if self.most <= 2 else 1

    def runs(self) -> list[tuple[int, range]]:
        size = self.most
        return [
            (half, range(first, min(first + size, run.stop)))
            for half, run in super().runs()
            for first in range(run.start, run.stop, size)
        ]

    def add(self, b: Builder, accs: Tile, group: Group, xs: Tile, i: int) -> tuple[Group, Tile]:
        quads = range(i, i + self.quads)
        codes = [self.quad(b, group, n) for n in quads]
        added = []
        for acc, x in zip(accs, xs, strict=True):
            for n, u in zip(quads, codes, strict=True):
                acc = b.add(acc, maddubs(b, u, self.spread(b, x, n)))
            added.append(acc)
        return (self.done(b, group, added) if i % 2 else group), added

    def finish(self, b: Builder, accs: Tile, out: Tile, group: Group, half: int) -> Tile:
        factor = self.factor(b, group, half)
        return [
            b.add(total, self.pair_products(b, acc, factor)) for acc, total in zip(accs, out, strict=True)
        ]


class SignDots(Avx2Dots):
    """Signed bytes: |v| * sign(x, v) cannot saturate, as 2 * 128 * 127 < 2**15. No sums of x are needed."""

    acc = I32X16
    signed = True

    def start(self, b: Builder, count: int, out: Tile) -> Tile:
        return out

    def add(self, b: Builder, accs: Tile, group: Group, xs: Tile, i: int) -> tuple[Group, Tile]:
        v = self.quad(b, group, i)
        magnitude = call(b, f"llvm.abs.v{CODES.count}i8", CODES, v, ir.Constant(I1, 0))
        factor = self.factor(b, group, i // (parts.quads(self.row) // parts.halves(self.row)))

        def signed(x: Value, v: Value) -> Value:
            return call(b, "llvm.x86.avx2.psign.b", v.type, x, v)

        def four(acc: Value, x: Value) -> Value:
            products = maddubs(b, magnitude, by_parts(b, 2, signed, self.spread(b, x, i), v))
            return b.add(acc, self.pair_products(b, products, factor))

        accs = [four(acc, x) for acc, x in zip(accs, xs, strict=True)]
        return self.done(b, group, accs), accs

    def finish(self, b: Builder, accs: Tile, out: Tile, group: Group, half: int) -> Tile:
        return accs


def dots_avx2(row: Scheme) -> Dots:
    return UnsignedDots(row) if row.unsigned_fits else SignDots(row)


# ---- numbers of 16 bits ----
def vpdpwssd(bits: int, b: Builder, acc: Value, v: Value, w: Value) -> Value:
    """acc + the products of two neighbouring int16, in registers of that many bits."""

    def narrow(acc: Value, v: Value, w: Value) -> Value:
        if llvm.llvm_version_info[0] < 22:
            v, w = b.bitcast(v, acc.type), b.bitcast(w, acc.type)
        return call(b, f"llvm.x86.avx512.vpdpwssd.{bits}", acc.type, acc, v, w)

    return by_parts(b, 512 // bits, narrow, acc, v, w)


class Avx2Pairs(WidePairs):
    """By vpmaddwd. The bytes of a line become int16 when their turn has come: there is room for no more."""

    def pairs(self, b: Builder, acc: Value, v: Value, w: Value) -> Value:
        return b.add(acc, pair_products(b, v, w))

    def after(self, b: Builder, line: Value, accs: Tile) -> Value:
        return after(b, line, accs)


class VnniPairs(Avx2Pairs):
    """By vpdpwssd, which waits for what it adds to: for a product, and not for the sums so far."""

    def four(self, b: Builder, sums: Tile, words: Tile, numbers: Tile) -> Tile:
        first = pair_products(b, words[0], numbers[0])
        return [b.add(sums[0], vpdpwssd(256, b, first, words[1], numbers[1]))]


class WideVnniPairs(WidePairs):
    """By vpdpwssd in registers of 512 bits, of which there are enough for two sums of each token."""

    chains = 2

    def pairs(self, b: Builder, acc: Value, v: Value, w: Value) -> Value:
        return vpdpwssd(512, b, acc, v, w)


def pause(b: Builder) -> None:
    call(b, "llvm.x86.sse2.pause", ir.VoidType())


X86 = {
    **GENERIC,
    "entries": entries,
    "widen_f16": widen_f16_native,
    "narrow_f16": narrow_f16_native,
    "pause": pause,
}
SPELLINGS = {
    "avx512vnni": {**X86, "dots": WideVnniDots, "wide": WideVnniPairs},
    "avxvnni": {
        **X86,
        "dots": partial(Dots, lookup=entries, dot4=partial(vpdpbusd, 256)),
        "wide": VnniPairs,
    },
    "avx2": {**X86, "dots": dots_avx2, "wide": Avx2Pairs},
}

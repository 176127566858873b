"""aarch64: NEON as every CPU has it, its dot products (ARMv8.2), its matrix products (ARMv8.6).

A line is four registers of the 32. A step goes through its lines a register at a time, four rows, so that few
codes are held at once. Products are of signed bytes: codes of eight bits are flipped to the values that they
stand for, unless an instruction takes them unsigned.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir

from .dots import LINE, Dots, Tile
from .generic import GENERIC, narrow_f16_native, widen_f16_native
from .vectors import (
    I8,
    I16,
    I32,
    I64,
    LANES,
    Builder,
    Value,
    at,
    by_parts,
    call,
    const,
    cut,
    join,
    pick,
    plane,
    splat,
)

I8X16, I16X8, I32X4 = ir.VectorType(I8, 16), ir.VectorType(I16, 8), ir.VectorType(I32, 4)
I16X64, I32X32 = ir.VectorType(I16, 64), ir.VectorType(I32, 32)
REGISTER, QUARTERS = 16, 4  # bytes; registers of a line
Registers = list[Value]


def neon(b: Builder, name: str, out: ir.Type, *args: Value) -> Value:
    """The instruction of that name in LLVM; out is the register it yields."""
    return call(b, f"llvm.aarch64.neon.{name}", out, *args)


def register(b: Builder, line: Value, n: int, q: int, t: Any = I8X16) -> Value:
    """Quarter q of the n-th line from an address on."""
    return at(b, b.add(line, ir.Constant(I64, n * LINE + q * REGISTER)), t)


def by_quarters(
    b: Builder,
    accs: Tile,
    xs: Sequence[Registers],
    codes: Callable[[int], Registers],
    product: Callable[[Registers, Registers, Registers], Registers],
) -> Tile:
    """The accumulators after a step: those of quarter q by product(its registers, codes(q), x) for each x."""
    tile = [cut(b, acc, acc.type.count * acc.type.element.width // (8 * REGISTER)) for acc in accs]
    for q in range(QUARTERS):
        of_rows = codes(q)
        for registers, x in zip(tile, xs, strict=True):
            n = len(registers) // QUARTERS
            mine = slice(q * n, q * n + n)
            registers[mine] = product(registers[mine], of_rows, x)
    return [join(b, registers) for registers in tile]


class ArmDots(Dots):
    """A step by quarters. The codes are xor `flip`, and 0 or 128 less: with 128, those of eight bits are signed
    bytes.
    """

    def __init__(self, bits: int, zero: int, flip: int = 0):
        super().__init__(bits, zero - flip)
        self.flip = flip

    def add(self, b: Builder, accs: Tile, line: Value, xs: Tile) -> Tile:
        words = [self.words(b, x) for x in xs]
        return by_quarters(b, accs, words, lambda q: self.codes(b, line, q), partial(self.product, b))

    def codes(self, b: Builder, line: Value, q: int) -> Registers:
        """Four rows of a step, four columns to a register."""
        lines = [register(b, line, n, q) for n in range(self.lines)]
        return [self.plane(b, v, p) for v in lines for p in range(self.planes)]

    def plane(self, b: Builder, v: Value, p: int) -> Value:
        codes = plane(b, self.bits, v, ir.Constant(I64, p))
        return b.xor(codes, const(codes.type, self.flip)) if self.flip else codes

    @abstractmethod
    def words(self, b: Builder, x: Value) -> Registers:
        """A token's activations for a step, four of them in every lane of a register."""

    @abstractmethod
    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        """The registers of an accumulator for four rows after a step."""


# ---- dotprod: four products and their sum in one instruction ----
class DotDots(ArmDots):
    """`name` is sdot, or usdot, which takes the codes unsigned. A token's activations for a step of eight columns
    or more come in one load: the instruction takes four of them out of a register.
    """

    def __init__(self, bits: int, zero: int, name: str = "sdot", flip: int = 0):
        super().__init__(bits, zero, flip)
        self.name = name
        self.lines = max(1, 2 // self.planes)

    def loaded(self, b: Builder, x: Value) -> Value:
        """The activations of a step, four to a lane."""
        return at(b, x, ir.VectorType(I32, self.lines * self.planes))

    def words(self, b: Builder, x: Value) -> Registers:
        words = self.loaded(b, x)
        return [b.bitcast(pick(b, words, [n] * 4), I8X16) for n in range(words.type.count)]

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        (acc,) = accs
        for v, x in zip(codes, words, strict=True):
            acc = neon(b, f"{self.name}.v4i32.v16i8", I32X4, acc, v, x)
        return [acc]


def dots_dotprod(bits: int, zero: int) -> Dots:
    return DotDots(bits, zero, flip=128 if bits == 8 else 0)


# ---- i8mm: two rows by two tokens, eight columns, in one instruction ----
class MatrixDots(DotDots):
    """Tokens by twos, and one that is left over as in DotDots.

    The eight columns are four of one line and four of the next, brought side by side before the codes are
    unpacked. Two accumulators hold the sums of two tokens in blocks of 2 x 2.
    """

    def __init__(self, bits: int, zero: int, name: str, matrix_name: str):
        super().__init__(bits, zero, name)
        self.matrix_name = matrix_name
        self.lines = 2

    def start(self, b: Builder, totals: Tile) -> Tile:
        accs = super().start(b, totals)
        for m in range(0, len(accs) - 1, 2):
            accs[m] = accs[m + 1] = pick(b, accs[m], [0, LANES] * 8, accs[m + 1])
        return accs

    def add(self, b: Builder, accs: Tile, line: Value, xs: Tile) -> Tile:
        paired = len(accs) // 2 * 2
        twos = range(0, paired, 2)
        blocks = [join(b, accs[m : m + 2]) for m in twos]
        tokens = [self.together(b, *xs[m : m + 2]) for m in twos]
        blocks = by_quarters(b, blocks, tokens, lambda q: self.zipped(b, line, q), partial(self.blocks, b))
        halves = [half for block in blocks for half in cut(b, block, 2)]
        return halves + super().add(b, accs[paired:], line, xs[paired:])

    def finish(self, b: Builder, accs: Tile, totals: Tile) -> Tile:
        for m in range(0, len(accs) - 1, 2):
            both = accs[m : m + 2]
            accs[m : m + 2] = [pick(b, both[0], range(n, 2 * LANES, 2), both[1]) for n in range(2)]
        return accs

    def together(self, b: Builder, x: Value, y: Value) -> Registers:
        """The activations of two tokens for a step, eight of each in a register for each plane."""
        x, y = self.loaded(b, x), self.loaded(b, y)
        lanes = [[p + n * self.planes for n in range(4)] for p in range(self.planes)]
        return [b.bitcast(pick(b, x, four, y), I8X16) for four in lanes]

    def zipped(self, b: Builder, line: Value, q: int) -> Registers:
        """Two rows and two more of a step, eight columns of a row side by side, of each plane."""
        first, second = (register(b, line, n, q, I32X4) for n in range(2))
        rows = [b.bitcast(pick(b, first, lanes, second), I8X16) for lanes in ([0, 4, 1, 5], [2, 6, 3, 7])]
        return [self.plane(b, v, p) for p in range(self.planes) for v in rows]

    def blocks(self, b: Builder, accs: Registers, codes: Registers, tokens: Registers) -> Registers:
        """`product` for two tokens: the two blocks of four rows."""
        for n, v in enumerate(codes):
            both = v, tokens[n // 2]
            accs[n % 2] = neon(b, f"{self.matrix_name}.v4i32.v16i8", I32X4, accs[n % 2], *both)
        return accs


# ---- every CPU: products of 16 bits ----
def smull(b: Builder, v: Value, w: Value) -> Value:
    """int16 products of eight signed bytes."""
    return neon(b, "smull.v8i16", I16X8, v, w)


def pair_sums(b: Builder, v: Value) -> Value:
    """int32 sums of neighbouring int16."""
    return neon(b, "saddlp.v4i32.v8i16", I32X4, v)


class LongDots(ArmDots):
    """Two registers of an accumulator for four rows, as a product is wider than its bytes; the zero point's share
    comes at the end.
    """

    def start(self, b: Builder, totals: Tile) -> Tile:
        return [const(self.acc, 0) for _ in totals]

    def words(self, b: Builder, x: Value) -> Registers:
        """Unlike in ArmDots the optimizer may not see that all lanes are the same: it would take x's low half for
        its high half, and the codes' high half down beside it by an instruction more.
        """
        hide = ir.FunctionType(I8X16, [I8X16])
        addresses = [b.add(x, ir.Constant(I64, 4 * n)) for n in range(self.lines * self.planes)]
        words = [b.bitcast(splat(b, at(b, p, I32), 4), I8X16) for p in addresses]
        return [b.asm(hide, "", "=w,0", [word], False) for word in words]

    def finish(self, b: Builder, accs: Tile, totals: Tile) -> Tile:
        return [
            b.add(self.rows(b, acc), self.folded(b, total)) for acc, total in zip(accs, totals, strict=True)
        ]

    @abstractmethod
    def rows(self, b: Builder, acc: Value) -> Value:
        """An accumulator's sums of rows."""


class NibbleDots(LongDots):
    """Codes up to 15: a group of 32 columns stays in int16, in a lane for each of four columns (8 steps * 15 *
    127 * 2 = 30480 < 2**15, with the sum of two lanes at the end).
    """

    acc = I16X64

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        for v, x in zip(codes, words, strict=True):
            halves = zip(accs, cut(b, v, 2), cut(b, x, 2), strict=True)
            accs = [b.add(acc, smull(b, *both)) for acc, *both in halves]
        return accs

    def rows(self, b: Builder, acc: Value) -> Value:
        pairs = by_parts(b, 4, lambda a: neon(b, "addp.v8i16", I16X8, *cut(b, a, 2)), acc)
        return by_parts(b, 4, partial(pair_sums, b), pairs)


class PairDots(LongDots):
    """Signed bytes: two products of 16 bits are added (2 * 128 * 127 < 2**15), then neighbours in 32."""

    acc = I32X32
    lines = 2

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        v, w, x, y = (cut(b, register, 2) for register in (*codes, *words))
        sums = [b.add(smull(b, v[n], x[n]), smull(b, w[n], y[n])) for n in range(2)]
        return [b.add(acc, pair_sums(b, sum_)) for acc, sum_ in zip(accs, sums, strict=True)]

    def rows(self, b: Builder, acc: Value) -> Value:
        return by_parts(b, 4, lambda a: neon(b, "addp.v4i32", I32X4, *cut(b, a, 2)), acc)


def dots_neon(bits: int, zero: int) -> Dots:
    return NibbleDots(bits, zero) if bits <= 4 else PairDots(bits, zero, 128 if bits == 8 else 0)


def pause(b: Builder) -> None:
    """isb: yield does nothing on cores of one thread, and the loop would hammer the line that it reads; to empty
    the pipeline takes some tens of cycles, about as long as x86's pause.
    """
    call(b, "llvm.aarch64.isb", ir.VoidType(), ir.Constant(I32, 15))


ARM = {**GENERIC, "widen_f16": widen_f16_native, "narrow_f16": narrow_f16_native, "pause": pause}
SPELLINGS = {
    "i8mm": {
        **ARM,
        "dots": partial(MatrixDots, name="usdot", matrix_name="usmmla"),
        "signed_dots": partial(MatrixDots, 8, 0, "sdot", "smmla"),
    },
    "dotprod": {**ARM, "dots": dots_dotprod, "signed_dots": partial(DotDots, 8, 0)},
    "neon": {**ARM, "dots": dots_neon, "signed_dots": partial(PairDots, 8, 0)},
}

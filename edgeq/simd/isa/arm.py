"""aarch64: NEON as every CPU has it, its dot products (ARMv8.2), its matrix products (ARMv8.6).

A line is four registers of the 32. A step goes through its lines by quarters: a register of each, four rows.
Products are of signed bytes: codes of eight bits are flipped to the values that they stand for, unless an
instruction takes them unsigned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
AT_ONCE = 2  # quarters in flight: enough to hide latency, few enough to stay in registers
Registers = list[Value]


def neon(b: Builder, name: str, out: ir.Type, *args: Value) -> Value:
    """The instruction of that name in LLVM; out is the register it yields."""
    return call(b, f"llvm.aarch64.neon.{name}", out, *args)


def quarter(b: Builder, line: Value, n: int, q: int, t: Any = I8X16) -> Value:
    """Quarter q of the n-th line from an address on."""
    return at(b, b.add(line, ir.Constant(I64, n * LINE + q * REGISTER)), t)


def after(b: Builder, address: Value, values: Registers) -> Value:
    """The address, which the optimizer must believe to depend on the values. No instruction comes of it."""
    kind = ir.FunctionType(I64, [I64, *(v.type for v in values)])
    return b.asm(kind, "", "=r,0" + ",w" * len(values), [address, *values], False)


def by_quarters(
    b: Builder,
    accs: Tile,
    line: Value,
    xs: Sequence[Registers],
    codes: Callable[[Value, int], Registers],
    product: Callable[[Registers, Registers, Registers], Registers],
) -> Tile:
    """The accumulators after a step. Quarter q has the codes(line, q), and a token's registers of it become
    product(the registers, the codes, the token's x).

    LLVM would begin all quarters before it ends one, and spill; so the third is read after the first is done.
    """
    tile = [quarters(b, acc) for acc in accs]
    for q in range(QUARTERS):
        if q >= AT_ONCE:
            line = after(b, line, [value for token in tile for value in token[q - AT_ONCE]])
        four_rows = codes(line, q)
        for token, x in zip(tile, xs, strict=True):
            token[q] = product(token[q], four_rows, x)
    return [join(b, [value for registers in token for value in registers]) for token in tile]


def quarters(b: Builder, acc: Value) -> list[Registers]:
    """An accumulator's registers for each four rows."""
    n = acc.type.count * acc.type.element.width // (8 * REGISTER * QUARTERS)
    return [cut(b, part, n) for part in cut(b, acc, QUARTERS)]


class ArmDots(Dots, ABC):
    """A step by quarters. Codes are xor `flip` and as much less: with 128, eight bits become signed bytes."""

    def __init__(self, bits: int, zero: int, flip: int = 0):
        super().__init__(bits, zero - flip)
        self.flip = flip

    def add(self, b: Builder, accs: Tile, line: Value, xs: Tile) -> Tile:
        words = [self.words(b, x) for x in xs]
        return by_quarters(b, accs, line, words, partial(self.codes, b), partial(self.product, b))

    def codes(self, b: Builder, line: Value, q: int) -> Registers:
        """Four rows of a step, four columns to a register."""
        lines = [quarter(b, line, n, q) for n in range(self.lines)]
        return [self.plane(b, v, p) for v in lines for p in range(self.planes)]

    def plane(self, b: Builder, v: Value, p: int) -> Value:
        codes = plane(b, self.bits, v, ir.Constant(I64, p))
        return b.xor(codes, const(codes.type, self.flip)) if self.flip else codes

    @abstractmethod
    def words(self, b: Builder, x: Value) -> Registers:
        """A token's activations for a step, four of them in every lane of a register."""

    @abstractmethod
    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        """A token's registers for four rows after a step."""


# ---- dotprod: four products and their sum in one instruction ----
class DotDots(ArmDots):
    """By sdot, or by usdot, which takes the codes unsigned. A token's activations for a step of eight columns
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

    Eight columns of a row are four of one line and four of the next, brought side by side before codes are
    unpacked. Two accumulators hold the sums of two tokens in blocks of two rows by two tokens.
    """

    def __init__(self, bits: int, zero: int, name: str, matrix_name: str):
        super().__init__(bits, zero, name)
        self.matrix_name = matrix_name
        self.lines = 2

    def start(self, b: Builder, totals: Tile) -> Tile:
        accs = super().start(b, totals)
        for m in range(0, len(accs) - 1, 2):
            accs[m] = accs[m + 1] = pick(b, accs[m], [0, LANES] * (LANES // 2), accs[m + 1])
        return accs

    def add(self, b: Builder, accs: Tile, line: Value, xs: Tile) -> Tile:
        paired = len(accs) // 2 * 2
        twos = [slice(m, m + 2) for m in range(0, paired, 2)]
        blocks = [join(b, accs[two]) for two in twos]
        tokens = [self.together(b, *xs[two]) for two in twos]
        blocks = by_quarters(b, blocks, line, tokens, partial(self.zipped, b), partial(self.multiplied, b))
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
        """Four rows of a step, two rows of eight columns to a register, plane by plane."""
        first, second = (quarter(b, line, n, q, I32X4) for n in range(2))
        rows = [b.bitcast(pick(b, first, lanes, second), I8X16) for lanes in ([0, 4, 1, 5], [2, 6, 3, 7])]
        return [self.plane(b, v, p) for p in range(self.planes) for v in rows]

    def multiplied(self, b: Builder, blocks: Registers, codes: Registers, tokens: Registers) -> Registers:
        """The two blocks of four rows after a step."""
        for n, v in enumerate(codes):
            pair = blocks[n % 2], v, tokens[n // 2]
            blocks[n % 2] = neon(b, f"{self.matrix_name}.v4i32.v16i8", I32X4, *pair)
        return blocks


# ---- every CPU: products of 16 bits ----
def smull(b: Builder, v: Value, w: Value) -> Value:
    """int16 products of eight signed bytes."""
    return neon(b, "smull.v8i16", I16X8, v, w)


def pair_sums(b: Builder, v: Value) -> Value:
    """int32 sums of neighbouring int16."""
    return neon(b, "saddlp.v4i32.v8i16", I32X4, v)


class LongDots(ArmDots):
    """Two registers to four rows, as products are wider than bytes; the zero point's share comes last."""

    def start(self, b: Builder, totals: Tile) -> Tile:
        return [const(self.acc, 0) for _ in totals]

    def words(self, b: Builder, x: Value) -> Registers:
        """That all lanes are alike is hidden from the optimizer: it would take x's low half for the high one
        too, and bring the codes' high half down to it by an instruction more.
        """
        hidden = ir.FunctionType(I8X16, [I8X16])
        addresses = [b.add(x, ir.Constant(I64, 4 * n)) for n in range(self.lines * self.planes)]
        words = [b.bitcast(splat(b, at(b, p, I32), 4), I8X16) for p in addresses]
        return [b.asm(hidden, "", "=w,0", [word], False) for word in words]

    def finish(self, b: Builder, accs: Tile, totals: Tile) -> Tile:
        sums = [self.rows(b, acc) for acc in accs]
        return [b.add(rows, self.folded(b, total)) for rows, total in zip(sums, totals, strict=True)]

    @abstractmethod
    def rows(self, b: Builder, acc: Value) -> Value:
        """The sums of an accumulator's rows."""


class NibbleDots(LongDots):
    """Codes up to 15: a group of 32 columns stays in int16, a lane for each of four columns (8 steps * 15 *
    127 * 2 = 30480 < 2**15, with the sum of two lanes at the end).
    """

    acc = I16X64

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        for v, x in zip(codes, words, strict=True):
            halves = zip(accs, cut(b, v, 2), cut(b, x, 2), strict=True)
            accs = [b.add(acc, smull(b, *both)) for acc, *both in halves]
        return accs

    def rows(self, b: Builder, acc: Value) -> Value:
        pairs = by_parts(b, QUARTERS, lambda a: neon(b, "addp.v8i16", I16X8, *cut(b, a, 2)), acc)
        return by_parts(b, QUARTERS, partial(pair_sums, b), pairs)


class PairDots(LongDots):
    """Signed bytes: the products of two columns are added in int16 (2 * 128 * 127 < 2**15), those of four in
    int32.
    """

    acc = I32X32
    lines = 2

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        v, w, x, y = (cut(b, register, 2) for register in (*codes, *words))
        sums = [b.add(smull(b, v[n], x[n]), smull(b, w[n], y[n])) for n in range(2)]
        return [b.add(acc, pair_sums(b, both)) for acc, both in zip(accs, sums, strict=True)]

    def rows(self, b: Builder, acc: Value) -> Value:
        return by_parts(b, QUARTERS, lambda a: neon(b, "addp.v4i32", I32X4, *cut(b, a, 2)), acc)


def dots_neon(bits: int, zero: int) -> Dots:
    return NibbleDots(bits, zero) if bits <= 4 else PairDots(bits, zero, 128 if bits == 8 else 0)


def pause(b: Builder) -> None:
    """isb: `yield` does nothing on cores of one thread, and a waiting loop would hammer the line it reads. To
    refill the pipeline takes some tens of cycles, about as long as x86's pause.
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

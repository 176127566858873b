"""aarch64: NEON as every CPU has it, its dot products (ARMv8.2), its matrix products (ARMv8.6).

Products are of signed bytes: what codes stand for, or the codes themselves, and the sums of activations give
back the zero point; only i8mm takes codes of eight bits unsigned.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial

from llvmlite import ir

from edgeq.formats.schemes import Scheme

from . import parts
from .dots import Activations, Dots, Floated, Tile
from .generic import GENERIC, narrow_f16_native, widen_f16_native
from .parts import Group
from .quarters import (
    I8X16,
    I16X8,
    I32X4,
    REGISTER,
    ArmDots,
    QuarterDots,
    Registers,
    by_quarters,
    entries,
    filled,
    hidden,
    neon,
    pair_sums,
    quarters,
    smull,
)
from .vectors import (
    I16,
    I32,
    I64,
    LANES,
    Builder,
    Strided,
    Value,
    at,
    call,
    cut,
    join,
    pick,
    splat,
)
from .wide_arm import DotOctets, LongNumbers, MatrixOctets

I16X64, I32X32 = ir.VectorType(I16, 64), ir.VectorType(I32, 32)
MOST_AT_ONCE = 4  # quads whose codes stay in registers beside four tokens' sums


def two_words(b: Builder, words: Sequence[Value]) -> Value:
    """Two words of 32 bits as one of 64."""
    low, high = (b.zext(word, I64) for word in words)
    return b.or_(low, b.shl(high, ir.Constant(I64, 32)))


# ---- dotprod: four products and their sum in one instruction ----
class DotDots(QuarterDots):
    """By sdot, or by usdot, which takes the codes unsigned. A token's activations for a step come in one
    load: the instruction takes four of them out of a register.
    """

    quads = 2

    def __init__(self, row: Scheme, name: str = "sdot"):
        super().__init__(row)
        self.name = name
        self.signed = self.signed and name == "sdot"
        self.at_once = min(MOST_AT_ONCE, parts.quads(row) // parts.halves(row))

    def of_kept_codes(self) -> Dots:
        """They lie as the signed bytes that they stand for: once made, nothing has to give back the zero."""
        self.name, self.signed = "sdot", True
        return self

    def quarter_run(
        self, b: Builder, group: Group, x: Strided, starts: Sequence[Value], run: range, q: int
    ) -> tuple[Group, Strided, Tile]:
        accs = [filled(b, word) for word in starts]
        for i in range(run.start, run.stop, self.at_once):
            codes = [self.quad(b, group, i + n, I8X16, q * REGISTER) for n in range(self.at_once)]
            places = x.near(b, len(accs))
            accs = [self.multiplied_by(b, *each, codes) for each in zip(accs, places, strict=True)]
            group, x = self.next_step(b, group, x, accs)
        return group, x, accs

    def multiplied_by(self, b: Builder, acc: Value, x: Value, codes: Registers) -> Value:
        """A token's accumulator of four rows after some quads, whose activations are at x."""
        loaded = at(b, x, ir.VectorType(I32, len(codes)))
        (acc,) = self.product(b, [acc], codes, self.each_word(b, loaded))
        return acc

    def loaded(self, b: Builder, x: Value, i: int) -> Value:
        """The activations of a step, four to a lane."""
        return at(b, b.add(x, ir.Constant(I64, 4 * i)), ir.VectorType(I32, self.quads))

    def words(self, b: Builder, x: Value, i: int) -> Registers:
        return self.each_word(b, self.loaded(b, x, i))

    def each_word(self, b: Builder, words: Value) -> Registers:
        """Four activations in every lane of a register, for each four that were loaded."""
        return [b.bitcast(pick(b, words, [n] * 4), I8X16) for n in range(words.type.count)]

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        (acc,) = accs
        for v, x in zip(codes, words, strict=True):
            acc = neon(b, f"{self.name}.v4i32.v16i8", I32X4, acc, v, x)
        return [acc]


# ---- i8mm: two rows by two tokens, eight columns, in one instruction ----
class MatrixDots(DotDots):
    """Tokens by twos, and one that is left over as in DotDots.

    Eight columns of a row are four of one line and four of the next, brought side by side before codes are
    unpacked. Two accumulators hold the sums of two tokens in blocks of two rows by two tokens.
    """

    def __init__(self, row: Scheme, name: str, matrix_name: str):
        super().__init__(row, name)
        self.matrix_name = matrix_name
        fields = 8 // row.planes[0]
        self.quads = self.at_once = min(2 * fields, parts.quads(row) // parts.halves(row))

    def carries(self, tokens: int) -> bool:
        """The sums of two tokens come out of their blocks first."""
        return tokens == 1 and super().carries(tokens)

    def of_kept_codes(self) -> Dots:
        self.matrix_name = "smmla"
        self.quads = self.at_once = min(MOST_AT_ONCE, self.quads)
        return super().of_kept_codes()

    def added(self, b: Builder, accs: Tile, group: Group, x: Activations, floats: Floated) -> Tile:
        """Where a step is long, its codes leave no room for what QuarterDots keeps."""
        way = super().added if self.quads <= MOST_AT_ONCE else partial(Dots.added, self)
        return way(b, accs, group, x, floats)

    def starts(self, b: Builder, each: Sequence[Value]) -> list[Value]:
        """Two tokens' in a word, and that for two blocks."""
        twos = [two_words(b, each[m : m + 2]) for m in range(0, len(each) - 1, 2)]
        return [*(word for word in twos for _ in range(2)), *each[2 * len(twos) :]]

    def quarter_run(
        self, b: Builder, group: Group, x: Strided, starts: Sequence[Value], run: range, q: int
    ) -> tuple[Group, Strided, Tile]:
        twos = len(starts) // 2
        each = [filled(b, word) for word in starts]
        blocks, last = [each[m : m + 2] for m in range(0, 2 * twos, 2)], each[2 * twos :]
        for i in range(run.start, run.stop, self.quads):
            codes = self.zipped(b, i, group, q)
            places = x.near(b, len(starts))
            for m in range(twos):
                together = self.together(b, 0, *places[2 * m : 2 * m + 2])
                blocks[m] = self.multiplied(b, blocks[m], codes, together)
            if last:
                words = self.words(b, places[-1], 0)
                last = self.product(b, last, self.rows_of(b, codes), words)
            group, x = self.next_step(b, group, x, [v for pair in blocks for v in pair] + last)
        tokens = [pick(b, v, range(n, 8, 2), w) for v, w in blocks for n in range(2)]
        return group, x, tokens + last

    def add(self, b: Builder, accs: Tile, group: Group, xs: Tile, i: int) -> tuple[Group, Tile]:
        paired = len(accs) // 2 * 2
        twos = [slice(m, m + 2) for m in range(0, paired, 2)]
        blocks = [join(b, accs[two]) for two in twos]
        tokens = [self.together(b, i, *xs[two]) for two in twos]
        zipped, multiplied = partial(self.zipped, b, i), partial(self.multiplied, b)
        after, blocks = by_quarters(b, blocks, group, tokens, zipped, multiplied) if twos else (group, [])
        halves = [half for block in blocks for half in cut(b, block, 2)]
        if paired == len(accs):
            return after, halves
        after, last = super().add(b, accs[paired:], after, xs[paired:], i)
        return after, halves + last

    def rows(self, b: Builder, accs: Tile) -> Tile:
        for m in range(0, len(accs) - 1, 2):
            both = accs[m : m + 2]
            accs[m : m + 2] = [pick(b, both[0], range(n, 2 * LANES, 2), both[1]) for n in range(2)]
        return accs

    def together(self, b: Builder, i: int, x: Value, y: Value) -> Registers:
        """The activations of two tokens for a step, eight columns of each in a register."""
        x, y = self.loaded(b, x, i), self.loaded(b, y, i)
        half = self.quads // 2
        lanes = [[p, p + half, p + self.quads, p + half + self.quads] for p in range(half)]
        return [b.bitcast(pick(b, x, four, y), I8X16) for four in lanes]

    def zipped(self, b: Builder, i: int, group: Group, q: int) -> Registers:
        """Four rows of a step, two rows of eight columns to a register, in the order of `together`."""
        half = self.quads // 2

        def made() -> Registers:
            pairs = (parts.two_quads(b, group, i + p, i + half + p, q * REGISTER) for p in range(half))
            return [self.codes(b, codes) for both in pairs for codes in both]

        places = [parts.place(self.row, i + n, I8X16, q * REGISTER) for n in range(self.quads)]
        return parts.kept(b, group, I8X16, places, made)

    def four_rows(self, b: Builder, i: int, group: Group, q: int) -> Registers:
        """For a token that is left over. Codes that are kept lie as `zipped` has them."""
        if group.room is None:
            return super().four_rows(b, i, group, q)
        return self.rows_of(b, self.zipped(b, i, group, q))

    def rows_of(self, b: Builder, codes: Registers) -> Registers:
        """Four columns to a register, of what `zipped` brought together."""
        rows = [b.bitcast(v, I32X4) for v in codes]
        twos = list(zip(rows[::2], rows[1::2], strict=True))
        return [b.bitcast(pick(b, v, range(n, 8, 2), w), I8X16) for n in range(2) for v, w in twos]

    def multiplied(self, b: Builder, blocks: Registers, codes: Registers, tokens: Registers) -> Registers:
        """The two blocks of four rows after a step."""
        for n, v in enumerate(codes):
            pair = blocks[n % 2], v, tokens[n // 2]
            blocks[n % 2] = neon(b, f"{self.matrix_name}.v4i32.v16i8", I32X4, *pair)
        return blocks


# ---- every CPU: products of 16 bits ----
class LongDots(ArmDots):
    """Two registers to four rows, as products are wider than bytes."""

    def words(self, b: Builder, x: Value, i: int) -> Registers:
        addresses = [b.add(x, ir.Constant(I64, 4 * (i + n))) for n in range(self.quads)]
        return [hidden(b, b.bitcast(splat(b, at(b, p, I32), 4), I8X16)) for p in addresses]

    def rows(self, b: Builder, accs: Tile) -> Tile:
        return [join(b, [self.widened(b, q) for q in quarters(b, acc)]) for acc in accs]

    @abstractmethod
    def widened(self, b: Builder, acc: Registers) -> Value:
        """The sums of four rows."""


class NarrowDots(LongDots):
    """A run stays in int16, a lane for each of four columns and the sum of two lanes at the end: 8 quads of
    codes up to 15 (8 * 15 * 127 * 2 = 30480 < 2**15), or 4 of codes up to 31.
    """

    acc = I16X64
    quads = 2

    @classmethod
    def fits(cls, row: Scheme) -> bool:
        quads = parts.quads(row) // parts.halves(row)
        return not row.table and quads * (2**row.bits - 1) * 2 * 127 < 1 << 15

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        for v, x in zip(codes, words, strict=True):
            halves = zip(accs, cut(b, v, 2), cut(b, x, 2), strict=True)
            accs = [b.add(acc, smull(b, *both)) for acc, *both in halves]
        return accs

    def widened(self, b: Builder, acc: Registers) -> Value:
        return pair_sums(b, neon(b, "addp.v8i16", I16X8, *acc))


class PairDots(LongDots):
    """Signed bytes: the products of two columns are added in int16 (2 * 128 * 127 < 2**15), those of four in
    int32.
    """

    acc = I32X32
    quads = 2

    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        v, w, x, y = (cut(b, register, 2) for register in (*codes, *words))
        sums = [b.add(smull(b, v[n], x[n]), smull(b, w[n], y[n])) for n in range(2)]
        return [b.add(acc, pair_sums(b, both)) for acc, both in zip(accs, sums, strict=True)]

    def widened(self, b: Builder, acc: Registers) -> Value:
        return neon(b, "addp.v4i32", I32X4, *acc)


def dots_neon(row: Scheme) -> Dots:
    return NarrowDots(row) if NarrowDots.fits(row) else PairDots(row)


def pause(b: Builder) -> None:
    """isb: `yield` does nothing on cores of one thread, and a waiting loop would hammer the line it reads. To
    refill the pipeline takes some tens of cycles, about as long as x86's pause.
    """
    call(b, "llvm.aarch64.isb", ir.VoidType(), ir.Constant(I32, 15))


ARM = {
    **GENERIC,
    "entries": entries,
    "widen_f16": widen_f16_native,
    "narrow_f16": narrow_f16_native,
    "pause": pause,
}
SPELLINGS = {
    "i8mm": {
        **ARM,
        "dots": partial(MatrixDots, name="usdot", matrix_name="usmmla"),
        "wide": MatrixOctets,
    },
    "dotprod": {**ARM, "dots": DotDots, "wide": DotOctets},
    "neon": {**ARM, "dots": dots_neon, "wide": LongNumbers},
}

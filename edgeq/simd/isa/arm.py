"""aarch64: NEON as every CPU has it, its dot products (ARMv8.2), its matrix products (ARMv8.6).

A line is four registers of the 32. A step goes through its quads by quarters: four rows of each, in a
register. Products are of signed bytes: what codes stand for, or the codes themselves, and the sums of
activations give back the zero point; only i8mm takes codes of eight bits unsigned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from llvmlite import ir

from edgeq.formats.schemes import Scheme

from . import parts
from .dots import BYTES, Activations, Dots, Floated, Tile
from .generic import GENERIC, narrow_f16_native, widen_f16_native
from .parts import Group
from .vectors import (
    F32,
    I8,
    I16,
    I32,
    I64,
    LANES,
    Builder,
    Strided,
    Value,
    at,
    by_parts,
    call,
    const,
    cut,
    fma,
    join,
    pick,
    splat,
    vector,
)

I8X16, I16X8, I32X4 = ir.VectorType(I8, 16), ir.VectorType(I16, 8), ir.VectorType(I32, 4)
F32X4 = ir.VectorType(F32, 4)
I16X64, I32X32 = ir.VectorType(I16, 64), ir.VectorType(I32, 32)
MAGIC = float(3 << 22)  # whose last bit is worth 1: an integer added to its bits is added to it
MAGIC_BITS = 0x4B400000
REGISTER, QUARTERS = 16, 4  # bytes; registers of a line
MOST_AT_ONCE = 4  # quads whose codes stay in registers beside four tokens' sums
AT_ONCE = 2  # quarters in flight: enough to hide latency, few enough to stay in registers
Registers = list[Value]


def neon(b: Builder, name: str, out: ir.Type, *args: Value) -> Value:
    """The instruction of that name in LLVM; out is the register it yields."""
    return call(b, f"llvm.aarch64.neon.{name}", out, *args)


def entries(b: Builder, codes: Value, table: Sequence[int]) -> Value:
    """The table's byte for each code below 16: one instruction for each register."""
    row = vector(I8X16, [table[n % len(table)] for n in range(16)])

    def narrow(v: Value) -> Value:
        return neon(b, "tbl1.v16i8", I8X16, row, v)

    return by_parts(b, codes.type.count // REGISTER, narrow, codes)


def after(b: Builder, address: Value, values: Registers) -> Value:
    """The address, which the optimizer must believe to depend on the values. No instruction comes of it."""
    kind = ir.FunctionType(I64, [I64, *(v.type for v in values)])
    return b.asm(kind, "", "=r,0" + ",w" * len(values), [address, *values], False)


def tied(b: Builder, x: Strided, values: Registers) -> Strided:
    """As `after`, of what lies for each token."""
    return Strided(after(b, x.address, values), x.stride)


def filled(b: Builder, word: Value, n: int, values: Registers) -> Value:
    """The word of 32 or 64 bits again and again, after the values. To LLVM it is another for each n: it would
    fill one register and copy it, which takes a unit that multiplies.
    """
    kind = ir.FunctionType(word.type, [word.type, I32, *(v.type for v in values)])
    operands = [word, ir.Constant(I32, n), *values]
    hidden = b.asm(kind, "", "=r,0,i" + ",w" * len(values), operands, False)
    return b.bitcast(splat(b, hidden, 8 * REGISTER // word.type.width), I32X4)


def two_words(b: Builder, words: Sequence[Value]) -> Value:
    """Two words of 32 bits as one of 64."""
    low, high = (b.zext(word, I64) for word in words)
    return b.or_(low, b.shl(high, ir.Constant(I64, 32)))


def in_lanes(b: Builder, words: Sequence[Value]) -> Registers:
    """Scalars, four in a register."""
    found = []
    for first in range(0, len(words), 4):
        register = vector(I32X4, [0] * 4)
        for n, word in enumerate(words[first : first + 4]):
            register = b.insert_element(register, word, ir.Constant(I32, n))
        found.append(register)
    return found


def lane(b: Builder, registers: Registers, n: int) -> Value:
    """The n-th of the scalars, in every lane."""
    return pick(b, registers[n // 4], [n % 4] * 4)


class Columns(NamedTuple):
    """What the sums of activations give to a group, of each part of it with a sub-scale."""

    starts: list[list[Value]]  # of each token: what its integers begin with, MAGIC_BITS in it
    totals: list[Registers]  # the sums as floats, four tokens in a register; none where nobody asks


def by_quarters(
    b: Builder,
    accs: Tile,
    group: Group,
    xs: Sequence[Registers],
    codes: Callable[[Group, int], Registers],
    product: Callable[[Registers, Registers, Registers], Registers],
) -> tuple[Group, Tile]:
    """The accumulators after a step. Quarter q has the codes(group, q), and a token's registers of it become
    product(the registers, the codes, the token's x).

    LLVM would begin all quarters before it ends one, and spill; so the third is read after the first is done,
    and the next step's first and second after this one's last two.
    """
    tile = [quarters(b, acc) for acc in accs]

    def done(q: int) -> Group:
        values = [value for token in tile for value in token[q]]
        return group.moved(lambda address: after(b, address, values))

    for q in range(QUARTERS):
        if q >= AT_ONCE:
            group = done(q - AT_ONCE)
        four_rows = codes(group, q)
        for token, x in zip(tile, xs, strict=True):
            token[q] = product(token[q], four_rows, x)
    group = done(QUARTERS - AT_ONCE)
    return group, [join(b, [value for registers in token for value in registers]) for token in tile]


def quarters(b: Builder, acc: Value) -> list[Registers]:
    """An accumulator's registers for each four rows."""
    n = acc.type.count * acc.type.element.width // (8 * REGISTER * QUARTERS)
    return [cut(b, part, n) for part in cut(b, acc, QUARTERS)]


class ArmDots(Dots, ABC):
    """A step by quarters. Codes that are signed bytes as they stand are multiplied so."""

    def __init__(self, row: Scheme):
        super().__init__(row, entries)
        self.signed = bool(row.table) or row.bits == 8

    def add(self, b: Builder, accs: Tile, group: Group, xs: Tile, i: int) -> tuple[Group, Tile]:
        words = [self.words(b, x, i) for x in xs]
        return by_quarters(b, accs, group, words, partial(self.four_rows, b, i), partial(self.product, b))

    def four_rows(self, b: Builder, i: int, group: Group, q: int) -> Registers:
        """Quarter q of a step that begins with quad i, four columns to a register."""
        return [self.quad(b, group, i + n, I8X16, q * REGISTER) for n in range(self.quads)]

    @abstractmethod
    def words(self, b: Builder, x: Value, i: int) -> Registers:
        """A token's activations for a step, four of them in every lane of a register."""

    @abstractmethod
    def product(self, b: Builder, accs: Registers, codes: Registers, words: Registers) -> Registers:
        """A token's registers for four rows after a step."""


# ---- many tokens by quarters ----
class QuarterDots(ArmDots):
    """Many tokens by quarters of a group: four rows go through all of it and are scaled at once, so that the
    integers of four rows are alive and not of sixteen.
    """

    at_once: int  # quads of a step

    def added(self, b: Builder, accs: Tile, group: Group, x: Activations, floats: Floated) -> Tile:
        if len(accs) == 1 or (self.row.sub and not self.floats_subs):
            return super().added(b, accs, group, x, floats)
        tile, count = [cut(b, acc, QUARTERS) for acc in accs], len(accs)
        columns = self.columns(b, x.sums.near(b, count))
        done: Tile = []
        for q in range(QUARTERS):
            group = group.everywhere(partial(after, b, values=done))
            x = Activations(*(tied(b, each, done) for each in x))
            sums = self.quarter_sums(b, group, x.codes, columns, done, q)
            scales = [splat(b, at(b, p, F32), 4) for p in x.scales.near(b, count)]
            own = cut(b, floats(group, "scale"), QUARTERS)[q]
            done = [
                fma(b, total, b.fmul(own, scale), rows[q])
                for total, scale, rows in zip(sums, scales, tile, strict=True)
            ]
            if self.row.min:
                own = cut(b, floats(group, "min"), QUARTERS)[q]
                mins = self.quarter_mins(b, group, columns, q)
                done = [
                    fma(b, total, b.fmul(own, scale), acc)
                    for total, scale, acc in zip(mins, scales, done, strict=True)
                ]
            for rows, acc in zip(tile, done, strict=True):
                rows[q] = acc
        return [join(b, rows) for rows in tile]

    def columns(self, b: Builder, totals: Tile) -> Columns:
        """What the sums of each token's activations give to those of all rows."""
        row = self.row
        count = parts.halves(row)
        each = [self.sixteens(b, p) for p in totals] if count > 1 else [[self.total(b, p)] for p in totals]
        halves = list(zip(*each, strict=True))
        first, offset = ir.Constant(I32, MAGIC_BITS), ir.Constant(I32, row.offset)
        folds = row.offset != 0 and not self.signed
        starts = [[b.add(b.mul(v, offset), first) if folds else first for v in half] for half in halves]
        if row.zeros == (0,) and not row.min:
            return Columns(starts, [])
        return Columns(starts, [[b.sitofp(v, F32X4) for v in in_lanes(b, half)] for half in halves])

    def quarter_sums(
        self, b: Builder, group: Group, x: Strided, columns: Columns, done: Tile, q: int
    ) -> Tile:
        """Quarter q of the group's sums, float32 in four lanes for each token, after what is done. Those of a
        run are below 2**22, and become floats by their bits.
        """
        found: Tile = []
        for half, run in self.runs():
            group, x, sums = self.quarter_run(b, group, x, columns.starts[half], run, q, found or done)
            sums = [b.fsub(b.bitcast(v, F32X4), const(F32X4, MAGIC)) for v in sums]
            if self.row.zeros != (0,):
                zeros = cut(b, parts.zero_points(b, group, self.lookup, half).words(b), QUARTERS)[q]
                taken = b.sitofp(b.neg(zeros), F32X4)
                sums = [fma(b, taken, lane(b, columns.totals[half], n), v) for n, v in enumerate(sums)]
            if not self.row.sub:
                return sums
            factor = b.sitofp(cut(b, parts.sub(b, group, half).words(b), QUARTERS)[q], F32X4)
            found = found or self.nothing(b, len(sums), sums)
            found = [fma(b, total, factor, before) for total, before in zip(sums, found, strict=True)]
        return found

    def quarter_mins(self, b: Builder, group: Group, columns: Columns, q: int) -> Tile:
        """Quarter q of the sums of submin * x, float32 for each token."""
        count = len(columns.starts[0])
        if not self.row.sub:
            return [lane(b, columns.totals[0], n) for n in range(count)]
        found: Tile = []
        for half, totals in enumerate(columns.totals):
            factor = b.sitofp(cut(b, parts.submin(b, group, half).words(b), QUARTERS)[q], F32X4)
            found = found or self.nothing(b, count, [factor])
            found = [fma(b, factor, lane(b, totals, n), before) for n, before in enumerate(found)]
        return found

    def nothing(self, b: Builder, count: int, values: Tile) -> Tile:
        """Zeros, to which products of integers are added: none is minus zero."""
        zero = ir.Constant(I32, 0)
        return [b.bitcast(filled(b, zero, n, values), F32X4) for n in range(count)]

    def next_step(self, b: Builder, group: Group, x: Strided, values: Registers) -> tuple[Group, Strided]:
        """What is read after the step that gave the values."""
        further = x.moved(b, ir.Constant(I64, 4 * self.at_once))
        return group.moved(partial(after, b, values=values)), tied(b, further, values)

    @abstractmethod
    def quarter_run(
        self, b: Builder, group: Group, x: Strided, starts: Sequence[Value], run: range, q: int, done: Tile
    ) -> tuple[Group, Strided, Tile]:
        """Quarter q of a run, int32 in four lanes for each token, which begin with its start; what is done
        comes before. x is where the run's activations lie, or the next one's.
        """


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

    def quarter_run(
        self, b: Builder, group: Group, x: Strided, starts: Sequence[Value], run: range, q: int, done: Tile
    ) -> tuple[Group, Strided, Tile]:
        accs = [filled(b, start, n, done) for n, start in enumerate(starts)]
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

    carries = False  # the sums of a run come out of their blocks first

    def __init__(self, row: Scheme, name: str, matrix_name: str):
        super().__init__(row, name)
        self.matrix_name = matrix_name
        fields = 8 // row.planes[0]
        self.quads = self.at_once = min(2 * fields, parts.quads(row) // parts.halves(row))

    def added(self, b: Builder, accs: Tile, group: Group, x: Activations, floats: Floated) -> Tile:
        """Where a step is long, its codes leave no room for what QuarterDots keeps."""
        way = super().added if self.quads <= MOST_AT_ONCE else partial(Dots.added, self)
        return way(b, accs, group, x, floats)

    def quarter_run(
        self, b: Builder, group: Group, x: Strided, starts: Sequence[Value], run: range, q: int, done: Tile
    ) -> tuple[Group, Strided, Tile]:
        twos = len(starts) // 2
        pairs = [two_words(b, starts[m : m + 2]) for m in range(0, 2 * twos, 2)]
        blocks = [[filled(b, pair, 2 * m + n, done) for n in range(2)] for m, pair in enumerate(pairs)]
        last = [filled(b, start, n, done) for n, start in enumerate(starts[2 * twos :])]
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

        places = [ir.Constant(I64, (i + n) * parts.LINE + q * REGISTER) for n in range(self.quads)]
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
def smull(b: Builder, v: Value, w: Value) -> Value:
    """int16 products of eight signed bytes."""
    return neon(b, "smull.v8i16", I16X8, v, w)


def pair_sums(b: Builder, v: Value) -> Value:
    """int32 sums of neighbouring int16."""
    return neon(b, "saddlp.v4i32.v8i16", I32X4, v)


class LongDots(ArmDots):
    """Two registers to four rows, as products are wider than bytes."""

    def words(self, b: Builder, x: Value, i: int) -> Registers:
        """That all lanes are alike is hidden from the optimizer: it would take x's low half for the high one
        too, and bring the codes' high half down to it by an instruction more.
        """
        hidden = ir.FunctionType(I8X16, [I8X16])
        addresses = [b.add(x, ir.Constant(I64, 4 * (i + n))) for n in range(self.quads)]
        words = [b.bitcast(splat(b, at(b, p, I32), 4), I8X16) for p in addresses]
        return [b.asm(hidden, "", "=w,0", [word], False) for word in words]

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
        "signed_dots": partial(MatrixDots, BYTES, "sdot", "smmla"),
    },
    "dotprod": {**ARM, "dots": DotDots, "signed_dots": partial(DotDots, BYTES)},
    "neon": {**ARM, "dots": dots_neon, "signed_dots": partial(PairDots, BYTES)},
}

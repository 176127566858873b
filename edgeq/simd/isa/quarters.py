"""aarch64's way through a tile: by quarters of a line, four rows to a register, of which there are 32.

A step goes through its quads by quarters, and many tokens through a group: four rows through all of its
columns, which are scaled at once. To keep LLVM from doing several quarters at a time, for which registers are
too few, addresses are tied to what comes before: it believes that they depend on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from llvmlite import ir

from edgeq.formats.schemes import ACT_GROUP, Scheme

from . import parts
from .dots import Activations, Dots, Floated, Tile
from .parts import Group
from .vectors import (
    F32,
    F32X16,
    I8,
    I16,
    I32,
    I64,
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
MAGIC = float(3 << 22)  # whose last bit is worth 1: an integer added to its bits is added to it
MAGIC_BITS = 0x4B400000
REGISTER, QUARTERS = 16, 4  # bytes; registers of a line
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


def another(b: Builder, word: Value, n: int, values: Registers) -> Value:
    """The same word of 32 or 64 bits, after the values. To LLVM it is another for each n: it would fill one
    register with it and copy that, which takes a unit that multiplies.
    """
    kind = ir.FunctionType(word.type, [word.type, I32, *(v.type for v in values)])
    return b.asm(kind, "", "=r,0,i" + ",w" * len(values), [word, ir.Constant(I32, n), *values], False)


def filled(b: Builder, word: Value) -> Value:
    """A register of the word again and again."""
    return b.bitcast(splat(b, word, 8 * REGISTER // word.type.width), I32X4)


def in_lanes(b: Builder, words: Sequence[Value]) -> Registers:
    """Scalars of 32 bits, four in a register. That they are in others as well is hidden from the optimizer,
    which would keep those.
    """
    found = []
    for first in range(0, len(words), 4):
        register = vector(ir.VectorType(words[0].type, 4), None)
        for n, word in enumerate(words[first : first + 4]):
            register = b.insert_element(register, word, ir.Constant(I32, n))
        found.append(b.asm(ir.FunctionType(register.type, [register.type]), "", "=w,0", [register], False))
    return found


def lane(b: Builder, registers: Registers, n: int) -> Value:
    """The n-th of the scalars, in every lane."""
    return pick(b, registers[n // 4], [n % 4] * 4)


def pair_sums(b: Builder, v: Value) -> Value:
    """int32 sums of neighbouring int16."""
    return neon(b, "saddlp.v4i32.v8i16", I32X4, v)


def hidden(b: Builder, word: Value) -> Value:
    """A register whose lanes are all alike, which is hidden from the optimizer: it would take its low half
    for the high one too, and bring what that is multiplied by down to it with an instruction more.
    """
    return b.asm(ir.FunctionType(word.type, [word.type]), "", "=w,0", [word], False)


def smull(b: Builder, v: Value, w: Value) -> Value:
    """int16 products of eight signed bytes."""
    return neon(b, "smull.v8i16", I16X8, v, w)


class Columns(NamedTuple):
    """What the sums of activations give to a group, of each part of it with a sub-scale."""

    starts: list[list[Value]]  # words that accumulators are filled with before a run, MAGIC_BITS in them
    totals: list[Registers]  # the sums as floats, four tokens in a register; times x's scales for a min


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

    LLVM would begin all quarters before it ends one, and spill; so each is read after the one before is done.
    """
    tile = [quarters(b, acc) for acc in accs]
    for q in range(QUARTERS):
        four_rows = codes(group, q)
        for token, x in zip(tile, xs, strict=True):
            token[q] = product(token[q], four_rows, x)
        group = group.moved(partial(after, b, values=[value for token in tile for value in token[q]]))
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
        scales = in_lanes(b, [at(b, p, F32) for p in x.scales.near(b, count)])
        columns = self.columns(b, x.sums.near(b, count), scales)
        done: Tile = []
        for q in range(QUARTERS):
            group = group.everywhere(partial(after, b, values=done))
            sums = self.quarter_sums(b, group, tied(b, x.codes, done), columns, done, q)
            own = self.quarter(b, group, "scale", q, partial(floats, group, "scale"))
            done = [
                fma(b, total, b.fmul(own, lane(b, scales, n)), rows[q])
                for n, (total, rows) in enumerate(zip(sums, tile, strict=True))
            ]
            for half, totals in enumerate(columns.totals if self.row.min else []):
                made = partial(self.minima, b, group, half, floats)
                low = self.quarter(b, group, f"min{half}", q, made)
                done = [fma(b, low, lane(b, totals, n), acc) for n, acc in enumerate(done)]
            for rows, acc in zip(tile, done, strict=True):
                rows[q] = acc
        return [join(b, rows) for rows in tile]

    def columns(self, b: Builder, totals: Tile, scales: Registers) -> Columns:
        """What the sums of each token's activations give to those of all rows."""
        row = self.row
        first, offset = ir.Constant(I32, MAGIC_BITS), ir.Constant(I32, row.offset)
        each = [[first] * len(totals)] * parts.halves(row)
        if row.offset and not self.signed:
            each = [[b.add(b.mul(v, offset), first) for v in self.by_subs(b, p)] for p in totals]
            each = [list(half) for half in zip(*each, strict=True)]
        starts = [self.starts(b, half) for half in each]
        if row.zeros == (0,) and not row.min:
            return Columns(starts, [])
        floats = [[b.sitofp(v, F32X4) for v in half] for half in self.totals_in_lanes(b, totals)]
        if row.min:
            floats = [[b.fmul(v, s) for v, s in zip(half, scales, strict=True)] for half in floats]
        return Columns(starts, floats)

    def totals_in_lanes(self, b: Builder, totals: Tile) -> list[Registers]:
        """The sums of the tokens' activations in the columns of each sub-scale, four in a register."""
        if self.row.group < ACT_GROUP:
            return [in_lanes(b, [word for p in totals for word in self.by_subs(b, p)])]
        words = in_lanes(b, [at(b, p, I32) for p in totals])
        if parts.halves(self.row) == 1:
            return [[pair_sums(b, b.bitcast(word, I16X8)) for word in words]]
        sixteen = const(I32X4, 16)
        return [[b.ashr(b.shl(v, sixteen), sixteen) for v in words], [b.ashr(v, sixteen) for v in words]]

    def quarter_sums(
        self, b: Builder, group: Group, x: Strided, columns: Columns, done: Tile, q: int
    ) -> Tile:
        """Quarter q of the group's sums, float32 in four lanes for each token, after what is done. Those of a
        run are below 2**22, and become floats by their bits.
        """
        found: Tile = []
        for half, run in self.runs():
            starts = columns.starts[half]
            starts[:] = [another(b, word, n, found or done) for n, word in enumerate(starts)]
            group, x, sums = self.quarter_run(b, group, x, starts, run, q)
            sums = [b.fsub(b.bitcast(v, F32X4), const(F32X4, MAGIC)) for v in sums]
            if self.row.zeros != (0,):
                taken = self.quarter(b, group, f"zero{half}", q, partial(self.taken, b, group, half))
                sums = [fma(b, taken, lane(b, columns.totals[half], n), v) for n, v in enumerate(sums)]
            if not self.row.sub:
                return sums
            factor = self.quarter(b, group, f"sub{half}", q, partial(self.float_subs, b, group, half))
            if not found and self.minus_zero_is_plain:
                found = [b.fmul(total, factor) for total in sums]
                continue
            found = found or [const(F32X4, 0)] * len(sums)
            found = [fma(b, total, factor, before) for total, before in zip(sums, found, strict=True)]
        return found

    @property
    def minus_zero_is_plain(self) -> bool:
        """Whether a product of integers may be minus zero, as no integer is: where what it is added to never
        is minus zero. That could come of a product too small for a float, which is never one of sums and
        scales, and of mins only where they reach further down than a float16's.
        """
        return self.row.min is None or self.row.min.number == "f16"

    def quarter(self, b: Builder, group: Group, name: str, q: int, line: Callable[[], Value]) -> Value:
        """Quarter q of a line of the group's floats."""

        def made() -> Value:
            return cut(b, line(), QUARTERS)[q]

        return parts.kept_line(b, group, name, F32X4, made, q * REGISTER)

    def taken(self, b: Builder, group: Group, half: int) -> Value:
        """The zero points, negative, as floats."""
        return b.sitofp(b.neg(parts.zero_points(b, group, self.lookup, half).words(b)), F32X16)

    def next_step(self, b: Builder, group: Group, x: Strided, values: Registers) -> tuple[Group, Strided]:
        """What is read after the step that gave the values."""
        further = x.moved(b, ir.Constant(I64, 4 * self.at_once))
        return group.moved(partial(after, b, values=values)), tied(b, further, values)

    def starts(self, b: Builder, each: Sequence[Value]) -> list[Value]:
        """The words that accumulators are filled with, so that each token's begin with its own."""
        return [*each]

    @abstractmethod
    def quarter_run(
        self, b: Builder, group: Group, x: Strided, starts: Sequence[Value], run: range, q: int
    ) -> tuple[Group, Strided, Tile]:
        """Quarter q of a run, int32 in four lanes for each token, from its `starts` on. x is where the run's
        activations lie, or the next one's.
        """

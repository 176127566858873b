"""Integer sums of a tile: 16 rows of weights by the activations of its tokens, a group of columns.

A `Dots` is for a scheme. Its meaning, for integers v that stored codes stand for, sub-scales and activations
x (int8 in -127..127), is the sum of sub * v * x over the group, exactly, whatever the spelling. Where a
spelling multiplies unsigned bytes, they are v less the smallest v of the scheme, and the sums of x, which
come along for each 16 columns, give back the rest. All tokens of a tile are handled together, so that
an instruction set may pair them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from edgeq.formats.schemes import ACT_GROUP, Scheme

from . import parts
from .parts import Group, Lookup
from .vectors import (
    CODES,
    F32,
    F32X16,
    I16,
    I16X32,
    I32,
    I32X16,
    I64,
    Builder,
    Strided,
    Value,
    const,
    fma,
    opaque,
    pick,
    splat,
)
from .vectors import at as load

ACT_MAX = 127  # the largest magnitude of an activation
Tile = list[Value]  # a value for each token of a tile
Floated = Callable[[Group, str], Value]  # the floats of a group's part, float32 in 16 lanes


class Activations(NamedTuple):
    """Where a group's activations lie."""

    codes: Strided  # int8
    scales: Strided  # a float32
    sums: Strided  # an int16 for each 16 columns


def dot4(b: Builder, acc: Value, u: Value, s: Value) -> Value:
    """acc[i] + sum of u[4i+j] * s[4i+j] for j < 4; u unsigned, s signed bytes. Right on every target."""
    wide = ir.VectorType(I32, u.type.count)
    products = b.mul(b.zext(u, wide), b.sext(s, wide))
    for j in range(4):
        acc = b.add(acc, pick(b, products, range(j, u.type.count, 4)))
    return acc


def pair_products(b: Builder, v: Value, w: Value) -> Value:
    """int32 sums of the products of two neighbouring int16."""
    wide = ir.VectorType(I32, v.type.count)
    products = b.mul(b.sext(v, wide), b.sext(w, wide))
    even, odd = (pick(b, products, range(n, v.type.count, 2)) for n in range(2))
    return b.add(even, odd)


def entries(b: Builder, codes: Value, table: Sequence[int]) -> Value:
    """The table's byte for each code below 16, one comparison for each."""
    found = const(codes.type, table[0])
    for n, entry in enumerate(table[1:], 1):
        found = b.select(b.icmp_unsigned("==", codes, const(codes.type, n)), const(codes.type, entry), found)
    return found


def repeat(b: Builder, steps: range, carried: Tile, body: Callable[[Value, Tile], Tile]) -> Tile:
    """body(step, values) for each step, with the values that the one before gave: a loop that stays one."""
    stop = opaque(b, ir.Constant(I64, steps.stop))
    before, loop, after = b.block, b.append_basic_block("steps"), b.append_basic_block("after")
    b.branch(loop)
    b.position_at_end(loop)
    step, values = b.phi(I64), [b.phi(v.type) for v in carried]
    for phi, value in zip((step, *values), (ir.Constant(I64, steps.start), *carried), strict=True):
        phi.add_incoming(value, before)
    found = body(step, values)
    following = b.add(step, ir.Constant(I64, 1))
    for phi, value in zip((step, *values), (following, *found), strict=True):
        phi.add_incoming(value, b.block)
    b.cbranch(b.icmp_unsigned("<", following, stop), loop, after)
    b.position_at_end(after)
    return found


class Dots:
    """Sums in 32 bits, four columns at a time, of unsigned bytes: right for any `dot4`."""

    acc = I32X16  # one token's accumulator
    sum = I32X16  # one token's sum of a group, or float32, rounded once
    signed = False  # whether codes are multiplied as signed bytes, which need no sums of x
    quads = 1  # that a step takes
    by_pairs = False  # whether sums of x are multiplied by pair_products also where one factor serves all

    def __init__(self, row: Scheme, lookup: Lookup = entries, dot4: Callable[..., Value] = dot4):
        self.row, self.lookup, self.dot4 = row, lookup, dot4

    def of_kept_codes(self) -> Dots:
        """The same for codes that a tile leaves unpacked for others, or finds so."""
        return self

    # ---- a group ----
    def added(self, b: Builder, accs: Tile, group: Group, x: Activations, floats: Floated) -> Tile:
        """float32 in 16 lanes for each token: what came before, and a group's sums times the scales of both
        sides, with one fma; where the scheme has a min, one more for each sub-scale: min * submin times the
        sum of x in float.
        """
        xs, totals = (each.far(b, len(accs)) for each in (x.codes, x.sums))
        sums = self.sums(b, group, xs, totals)
        sums = [b.sitofp(total, F32X16) if total.type == I32X16 else total for total in sums]
        scale = parts.kept_line(b, group, "scale", F32X16, partial(floats, group, "scale"))
        accs = self.scaled(b, accs, sums, scale, x)
        if not self.row.min:
            return accs
        minima = [
            parts.kept_line(b, group, f"min{half}", F32X16, partial(self.minima, b, group, half, floats))
            for half in range(parts.halves(self.row))
        ]
        found = []
        for acc, each, at in zip(accs, totals, x.scales.near(b, len(accs)), strict=True):
            scale = load(b, at, F32)
            for low, total in zip(minima, self.by_subs(b, each), strict=True):
                acc = fma(b, low, splat(b, b.fmul(b.sitofp(total, F32), scale)), acc)
            found.append(acc)
        return found

    def scaled(self, b: Builder, accs: Tile, sums: Tile, scale: Value, x: Activations) -> Tile:
        """acc + sum * (scale * the token's own) for each."""
        both = [b.fmul(scale, splat(b, load(b, at, F32))) for at in x.scales.near(b, len(accs))]
        return [fma(b, *each) for each in zip(sums, both, accs, strict=True)]

    def sums(self, b: Builder, group: Group, xs: Tile, totals: Tile) -> Tile:
        """`sum` in 16 lanes for each token: xs are the addresses of their activations, totals those of the
        sums of these, an int16 for each 16 columns.
        """
        out = self.folded(b, group, totals)
        for half, run in self.runs():
            accs = self.start(b, len(xs), out)
            group, accs = self.add_run(b, accs, group, xs, run)
            out = self.finish(b, accs, out, group, half)
            group = self.done(b, group, out)
        return out

    def done(self, b: Builder, group: Group, out: Tile) -> Group:
        """The group, which is not to be read on before a run is finished."""
        return group

    def runs(self) -> list[tuple[int, range]]:
        """(sub-scale, quads) of what is added up before it is finished."""
        halves = parts.halves(self.row)
        size = parts.quads(self.row) // halves
        return [(half, range(half * size, half * size + size)) for half in range(halves)]

    @property
    def floats_subs(self) -> bool:
        """Whether sub-scales may be multiplied as floats: the group's sum is rounded once, as an integer's
        conversion is, where the floats before it hold their integers.
        """
        row = self.row
        if row.sub_kind is None:
            return False
        half = int(np.abs(row.values).max()) * ACT_MAX * row.group // parts.halves(row)
        largest = half if parts.halves(row) == 1 else half * max(-row.sub_kind.low, row.sub_kind.high)
        return largest < 1 << 24

    @property
    def folds(self) -> bool:
        """Whether the sums of x have a part in a group's sum."""
        return (self.row.offset != 0 and not self.signed) or self.row.zeros != (0,)

    def folded(self, b: Builder, group: Group, totals: Tile) -> Tile:
        """What the smallest v gives for all x, less what chosen zero points take from it."""
        row = self.row
        if not self.folds:
            return [const(I32X16, 0) for _ in totals]
        if not row.sub and not (self.by_pairs and row.group == ACT_GROUP):
            return [splat(b, b.mul(self.total(b, at), ir.Constant(I32, row.offset))) for at in totals]
        halves = range(parts.halves(row))

        def made() -> Value:
            factors = self.offsets(b, group, halves)
            if not row.sub:
                return factors
            return b.mul(parts.pairs(b, [parts.sub(b, group, half) for half in halves]), factors)

        return self.times_totals(b, parts.kept_line(b, group, "zero0", I16X32, made), totals)

    def offsets(self, b: Builder, group: Group, halves: Sequence[int]) -> Value:
        """The smallest v less the zero points that one half of the group, or both in turn, have: int16, two
        to a row.
        """
        smallest = const(I16X32, 0 if self.signed else self.row.offset)
        if self.row.zeros == (0,):
            return smallest
        zeros = [parts.zero_points(b, group, self.lookup, half) for half in halves]
        return b.sub(smallest, parts.pairs(b, zeros))

    def times_totals(self, b: Builder, factors: Value, totals: Tile) -> Tile:
        """int32 sums of each row's two int16 factors times the two sums of each token's x."""
        words = [b.bitcast(splat(b, load(b, at, I32)), I16X32) for at in totals]
        return [self.pair_products(b, factors, word) for word in words]

    def minima(self, b: Builder, group: Group, half: int, floats: Floated) -> Value:
        """min * submin, float32 in 16 lanes."""
        low = floats(group, "min")
        if not self.row.sub:
            return low
        return b.fmul(low, b.sitofp(parts.submin(b, group, half).words(b), F32X16))

    def by_subs(self, b: Builder, address: Value) -> list[Value]:
        """The sums of a token's activations in the columns of each sub-scale."""
        return self.sixteens(b, address) if parts.halves(self.row) > 1 else [self.total(b, address)]

    def sixteens(self, b: Builder, address: Value) -> list[Value]:
        """The sums of a token's activations in each 16 columns of the group."""
        if self.row.group < ACT_GROUP:
            return [b.sext(load(b, address, I16), I32)]
        word = load(b, address, I32)
        sixteen = ir.Constant(I32, 16)
        return [b.ashr(b.shl(word, sixteen), sixteen), b.ashr(word, sixteen)]

    def total(self, b: Builder, address: Value) -> Value:
        """The sum of a token's activations in the group."""
        first, *rest = self.sixteens(b, address)
        return b.add(first, *rest) if rest else first

    def pair_products(self, b: Builder, v: Value, w: Value) -> Value:
        return pair_products(b, v, w)

    # ---- a run ----
    def carries(self, tokens: int) -> bool:
        """Whether a group's sum grows in one accumulator from its start on, with so many tokens."""
        return not self.row.sub and self.acc is I32X16

    def start(self, b: Builder, count: int, out: Tile) -> Tile:
        """Accumulators of a run."""
        return out if self.carries(count) else [const(self.acc, 0)] * count

    def add_run(self, b: Builder, accs: Tile, group: Group, xs: Tile, run: range) -> tuple[Group, Tile]:
        """The accumulators after all of a run."""
        for i in range(run.start, run.stop, self.quads):
            group, accs = self.add(b, accs, group, xs, i)
        return group, accs

    def add(self, b: Builder, accs: Tile, group: Group, xs: Tile, i: int) -> tuple[Group, Tile]:
        """The accumulators after a step, which begins with the i-th quad."""
        codes = self.quad(b, group, i)
        accs = [self.four(b, acc, codes, self.spread(b, x, i)) for acc, x in zip(accs, xs, strict=True)]
        return group, accs

    def finish(self, b: Builder, accs: Tile, out: Tile, group: Group, half: int) -> Tile:
        """The group's sums after a run."""
        if self.carries(len(accs)):
            return accs
        sums = self.rows(b, accs)
        if self.row.sub:
            made = partial(self.subs, b, group, half)
            factor = parts.kept_line(b, group, f"sub{half}", I32X16, made)
            sums = [b.mul(total, factor) for total in sums]
        return [b.add(before, total) for before, total in zip(out, sums, strict=True)]

    def subs(self, b: Builder, group: Group, half: int) -> Value:
        """The half-th sub-scales, int32 in 16 lanes."""
        return parts.sub(b, group, half).words(b)

    def float_subs(self, b: Builder, group: Group, half: int) -> Value:
        """The same as float32."""
        return b.sitofp(self.subs(b, group, half), F32X16)

    def rows(self, b: Builder, accs: Tile) -> Tile:
        """The sums that accumulators hold, int32 in 16 lanes."""
        return accs

    def codes(self, b: Builder, codes: Value) -> Value:
        """Codes as `four` wants them."""
        make = parts.signed if self.signed else parts.unsigned
        return make(b, self.row, self.lookup, codes)

    def quad(self, b: Builder, group: Group, i: int, t: ir.Type = CODES, at_byte: int = 0) -> Value:
        """The i-th quad as `four` wants it, from a byte of its 64 on as many as the type has."""

        def make() -> list[Value]:
            if parts.one_look_up(self.row) and not self.signed:
                return [parts.looked_up(b, group, i, t, at_byte, self.lookup)]
            return [self.codes(b, parts.quad(b, group, i, t, at_byte))]

        (found,) = parts.kept(b, group, t, [parts.place(self.row, i, t, at_byte)], make)
        return found

    def four(self, b: Builder, acc: Value, codes: Value, x: Value) -> Value:
        """One token's accumulator after four more columns; x holds their activations in every lane."""
        return self.dot4(b, acc, codes, x)

    def spread(self, b: Builder, x: Value, i: int) -> Value:
        """A token's activations for the i-th quad, in every lane."""
        return b.bitcast(splat(b, load(b, b.add(x, ir.Constant(I64, 4 * i)), I32)), CODES)


class LoopDots(Dots):
    """The same in a loop: short code where speed is no matter, and LLVM compiles it in a few seconds."""

    def add_run(self, b: Builder, accs: Tile, group: Group, xs: Tile, run: range) -> tuple[Group, Tile]:
        def add(i: Value, accs: Tile) -> Tile:
            place = b.mul(i, ir.Constant(I64, parts.LINE))
            (codes,) = parts.kept(
                b, group, CODES, [place], lambda: [self.codes(b, parts.quad_at(b, group, i, CODES))]
            )
            columns = b.mul(i, ir.Constant(I64, 4))
            xs_now = [self.spread(b, b.add(x, columns), 0) for x in xs]
            return [self.four(b, acc, codes, x) for acc, x in zip(accs, xs_now, strict=True)]

        return group, repeat(b, run, accs, add)

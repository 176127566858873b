"""Integer dot products of a tile: 16 rows of weights by the activations of its tokens, a group of columns.

A `Dots` is `start`, some `add`, `finish`. It has one accumulator for each token of the tile and handles them
together, so that an instruction set may pair tokens, and takes as many lines of weights to a step as suit
it. Its meaning, for stored codes u, activations s (int8 in -127..127) and their sum, is sum((u - zero) * s)
exactly, whatever the spelling.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from .vectors import CODES, I32, I32X16, I64, Builder, Value, at, const, pick, plane, splat

LINE = 64  # bytes of a line
Tile = list[Value]  # a value for each token of a tile


def dot4(b: Builder, acc: Value, u: Value, s: Value) -> Value:
    """acc[i] + sum of u[4i+j] * s[4i+j] for j < 4; u unsigned, s signed bytes. Right on every target."""
    wide = ir.VectorType(I32, u.type.count)
    products = b.mul(b.zext(u, wide), b.sext(s, wide))
    for j in range(4):
        acc = b.add(acc, pick(b, products, range(j, u.type.count, 4)))
    return acc


class Dots:
    """Sums in 32 bits, four columns at a time, from -zero * sum on: right for any `dot4`."""

    acc = I32X16  # one token's accumulator
    lines = 1  # that a step takes

    def __init__(self, bits: int, zero: int, dot4: Callable[..., Value] = dot4):
        self.bits, self.zero, self.dot4 = bits, zero, dot4
        self.planes = 8 // bits

    def start(self, b: Builder, totals: Tile) -> Tile:
        """The accumulators before the first column; totals are the sums of the tokens' activations, int32."""
        return [self.folded(b, total) for total in totals]

    def add(self, b: Builder, accs: Tile, line: Value, xs: Tile) -> Tile:
        """The accumulators after a step: the lines at the address `line`, and at the addresses xs the tokens'
        activations for their columns.
        """
        for word, codes in enumerate(self.parts(b, line)):
            accs = [
                self.four(b, acc, codes, self.spread(b, x, word)) for acc, x in zip(accs, xs, strict=True)
            ]
        return accs

    def finish(self, b: Builder, accs: Tile, totals: Tile) -> Tile:
        """The exact sums, int32 in 16 lanes."""
        return accs

    def parts(self, b: Builder, line: Value) -> list[Value]:
        """The codes of a step, four columns by four: line by line, plane by plane."""
        lines = [at(b, b.add(line, ir.Constant(I64, LINE * n)), CODES) for n in range(self.lines)]
        return [self.plane(b, v, p) for v in lines for p in range(self.planes)]

    def plane(self, b: Builder, v: Value, p: int) -> Value:
        """The p-th code of every byte of a line, as `four` wants it."""
        return plane(b, self.bits, v, ir.Constant(I64, p))

    def four(self, b: Builder, acc: Value, codes: Value, x: Value) -> Value:
        """One token's accumulator after four more columns; x holds their activations in every lane."""
        return self.dot4(b, acc, codes, x)

    def spread(self, b: Builder, x: Value, word: int) -> Value:
        """The word-th four activations from x on, in every lane."""
        return b.bitcast(splat(b, at(b, b.add(x, ir.Constant(I64, 4 * word)), I32)), CODES)

    def folded(self, b: Builder, total: Value) -> Value:
        """The zero point's share of a group's sum, in every lane."""
        return b.mul(splat(b, total), const(I32X16, -self.zero))


class SignedDots(Dots):
    """Of signed bytes and activations in 0..127: sum(v * s). The operands of `dot4` change places."""

    def __init__(self, dot4: Callable[..., Value] = dot4):
        super().__init__(8, 0, dot4)

    def four(self, b: Builder, acc: Value, codes: Value, x: Value) -> Value:
        return self.dot4(b, acc, x, codes)

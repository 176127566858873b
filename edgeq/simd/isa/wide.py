"""Integer sums of attention: signed bytes in lines by the numbers of 16 bits of a tile's tokens, 32 columns.

Bytes are in -127..127 and numbers in -WIDE_MAX..WIDE_MAX, so that an int32 holds the sums of 512 columns,
and, where an instruction set multiplies bytes alone, a number is a signed high byte times 256 and a signed
low one. How the numbers of a token lie, two bytes for each column, is what products of the instruction set
want: `put` writes them, `Layout` says it in NumPy. Columns past those that mean something are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from llvmlite import ir

from edgeq.formats.schemes import ACT_GROUP

from .dots import Tile, pair_products, repeat
from .vectors import I16, I16X32, I32, I64, LANES, Builder, Value, at, const, pick, put, splat

WIDE_MAX = 32639  # 127 * 256 + 127
QUADS = ACT_GROUP // 4  # lines of a group
LINE = 64  # bytes
Array = np.ndarray[Any, Any]


class Layout(Protocol):
    """How the numbers of a token lie."""

    def laid(self, numbers: Array) -> Array:
        """The bytes of integers [..., columns], columns a multiple of 16: uint8 [..., 2 * columns]."""
        ...

    def read(self, raw: Array) -> Array:
        """int32 [..., columns] of such bytes."""
        ...


class Wide(Protocol):
    """How an instruction set adds them up."""

    layout: Layout

    def put(self, b: Builder, address: Value, v: Value) -> None:
        """A line of int32 as 16 numbers."""
        ...

    def added(self, b: Builder, accs: Tile, line: Value, xs: Sequence[Value]) -> Tile:
        """int32 in 16 lanes for each token: what came before, and the sums over 32 columns of the lines at
        `line` times the numbers at each of xs.
        """
        ...


class PairLayout:
    """int16; of four columns the even ones first: a word for the even bytes of a line's words, one for the
    odd.
    """

    ORDER = (0, 2, 1, 3)  # its own inverse

    def laid(self, numbers: Array) -> Array:
        fours = numbers.astype("<i2").reshape(*numbers.shape[:-1], -1, 4)[..., self.ORDER]
        return fours.reshape(numbers.shape).view(np.uint8)

    def read(self, raw: Array) -> Array:
        numbers = raw.view("<i2")
        fours = numbers.reshape(*numbers.shape[:-1], -1, 4)[..., self.ORDER]
        return fours.reshape(numbers.shape).astype(np.int32)


class WidePairs:
    """Bytes become int16 once for all tokens, and two columns are multiplied at a time."""

    layout: Layout = PairLayout()
    chains = 1  # sums of each token that grow side by side

    def put(self, b: Builder, address: Value, v: Value) -> None:
        order = [n + i for n in range(0, LANES, 4) for i in PairLayout.ORDER]
        put(b, address, pick(b, b.trunc(v, ir.VectorType(I16, LANES)), order))

    def added(self, b: Builder, accs: Tile, line: Value, xs: Sequence[Value]) -> Tile:
        tile = [[acc, *[const(acc.type, 0)] * (self.chains - 1)] for acc in accs]
        for i in range(QUADS):
            words = self.words(b, b.add(line, ir.Constant(I64, i * LINE)))
            numbers = [self.numbers(b, b.add(x, ir.Constant(I64, 8 * i))) for x in xs]
            tile = [self.four(b, sums, words, each) for sums, each in zip(tile, numbers, strict=True)]
            line = self.after(b, line, [acc for sums in tile for acc in sums])
        return [b.add(*sums) if self.chains > 1 else sums[0] for sums in tile]

    def after(self, b: Builder, line: Value, accs: Tile) -> Value:
        """The address, not to be read from before the sums are there, where registers are few."""
        return line

    def words(self, b: Builder, line: Value) -> Tile:
        """The even and the odd bytes of a line's words as int16."""
        v, eight = at(b, line, I16X32), const(I16X32, 8)
        return [b.ashr(b.shl(v, eight), eight), b.ashr(v, eight)]

    def numbers(self, b: Builder, x: Value) -> Tile:
        """A token's two numbers for the even bytes in all lanes, and those for the odd."""
        words = [at(b, b.add(x, ir.Constant(I64, n)), I32) for n in (0, 4)]
        return [b.bitcast(splat(b, word), I16X32) for word in words]

    def four(self, b: Builder, sums: Tile, words: Tile, numbers: Tile) -> Tile:
        """A token's sums after four columns."""
        found = [*sums]
        for n, both in enumerate(zip(words, numbers, strict=True)):
            found[n % self.chains] = self.pairs(b, found[n % self.chains], *both)
        return found

    def pairs(self, b: Builder, acc: Value, v: Value, w: Value) -> Value:
        """acc and the sums of the products of two neighbouring int16; right on every target."""
        return b.add(acc, pair_products(b, v, w))


class LoopPairs(WidePairs):
    """The same in a loop: short code where speed is no matter."""

    def added(self, b: Builder, accs: Tile, line: Value, xs: Sequence[Value]) -> Tile:
        def add(i: Value, accs: Tile) -> Tile:
            words = self.words(b, b.add(line, b.mul(i, ir.Constant(I64, LINE))))
            eight = b.mul(i, ir.Constant(I64, 8))
            numbers = [self.numbers(b, b.add(x, eight)) for x in xs]
            return [self.four(b, [acc], words, each)[0] for acc, each in zip(accs, numbers, strict=True)]

        return repeat(b, range(QUADS), accs, add)

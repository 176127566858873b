"""aarch64's sums of attention: numbers of 16 bits as two signed bytes, the products of each added up apart,
or as they are where a CPU has no instruction that multiplies bytes and adds the products up.

A line goes by quarters, four rows to a register, through all columns of a group: between quarters nothing but
the sums lives on. Of eight columns the low bytes of the numbers come first and the high ones next to them, so
that one load brings both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from .dots import Tile
from .quarters import (
    I8X16,
    I16X8,
    I32X4,
    QUARTERS,
    REGISTER,
    Registers,
    after,
    hidden,
    neon,
)
from .vectors import I8, I16, I64, LANES, Builder, Value, at, const, cut, join, pick, put, splat
from .wide import LINE, QUADS, Array, Layout

OCTETS = QUADS // 2
COLUMNS = 8  # of an octet


class OctetLayout:
    """Of eight columns the low bytes, signed, and then the high ones."""

    def laid(self, numbers: Array) -> Array:
        eights = numbers.astype(np.int32).reshape(*numbers.shape[:-1], -1, COLUMNS)
        low = eights.astype(np.int8)
        both = np.concatenate([low, (eights - low >> 8).astype(np.int8)], -1)
        return both.view(np.uint8).reshape(*numbers.shape[:-1], -1)

    def read(self, raw: Array) -> Array:
        both = raw.view(np.int8).astype(np.int32).reshape(*raw.shape[:-1], -1, 2, COLUMNS)
        return (both[..., 0, :] + 256 * both[..., 1, :]).reshape(*raw.shape[:-1], -1)


class WideOctets(ABC):
    layout: Layout = OctetLayout()

    def put(self, b: Builder, address: Value, v: Value) -> None:
        narrow = ir.VectorType(I8, LANES)
        low = b.trunc(v, narrow)
        high = b.trunc(b.ashr(b.add(v, const(v.type, 128)), const(v.type, 8)), narrow)
        for n in range(0, LANES, COLUMNS):
            columns = range(n, n + COLUMNS)
            both = pick(b, low, [*columns, *(LANES + i for i in columns)], high)
            put(b, b.add(address, ir.Constant(I64, 2 * n)), both)

    def added(self, b: Builder, accs: Tile, line: Value, xs: Sequence[Value]) -> Tile:
        tile = [cut(b, acc, QUARTERS) for acc in accs]
        for q in range(QUARTERS):
            codes = [self.codes(b, line, n, q) for n in range(OCTETS)]
            for token, x in zip(tile, xs, strict=True):
                sums = [const(I32X4, 0)] * self.registers
                for n in range(OCTETS):
                    octet = at(b, b.add(x, ir.Constant(I64, n * REGISTER)), I8X16)
                    sums = self.step(b, sums, octet, codes[n])
                low, high = self.halves(b, sums)
                token[q] = b.add(token[q], b.add(low, b.shl(high, const(I32X4, 8))))
            line = after(b, line, [token[q] for token in tile])
        return [join(b, token) for token in tile]

    def codes(self, b: Builder, line: Value, n: int, q: int) -> Registers:
        """Four rows of an octet's columns, in two registers: here four columns to each."""
        lines = (2 * n * LINE, (2 * n + 1) * LINE)
        return [at(b, b.add(line, ir.Constant(I64, i + q * REGISTER)), I8X16) for i in lines]

    registers: int  # of a token, for four rows

    @abstractmethod
    def step(self, b: Builder, sums: Registers, octet: Value, codes: Registers) -> Registers:
        """A token's registers after an octet."""

    @abstractmethod
    def halves(self, b: Builder, sums: Registers) -> tuple[Value, Value]:
        """What of a token's registers comes of its low bytes, and of its high ones: int32, four rows."""


def words(b: Builder, octet: Value) -> Registers:
    """Each four bytes of a register in all of its lanes: the low ones of four columns, of the next four, and
    the high ones.
    """
    lanes = b.bitcast(octet, I32X4)
    return [b.bitcast(pick(b, lanes, [n] * 4), I8X16) for n in range(4)]


class DotOctets(WideOctets):
    """By sdot, which takes four activations out of a register."""

    registers = 2

    def step(self, b: Builder, sums: Registers, octet: Value, codes: Registers) -> Registers:
        found = [*sums]
        for i, word in enumerate(words(b, octet)):
            found[i // 2] = neon(b, "sdot.v4i32.v16i8", I32X4, found[i // 2], codes[i % 2], word)
        return found

    def halves(self, b: Builder, sums: Registers) -> tuple[Value, Value]:
        return sums[0], sums[1]


class MatrixOctets(WideOctets):
    """By smmla: two rows by the low and the high bytes of eight columns."""

    registers = 2

    def codes(self, b: Builder, line: Value, n: int, q: int) -> Registers:
        first, second = (b.bitcast(v, I32X4) for v in super().codes(b, line, n, q))
        rows = [0, 4, 1, 5], [2, 6, 3, 7]
        return [b.bitcast(pick(b, first, lanes, second), I8X16) for lanes in rows]

    def step(self, b: Builder, sums: Registers, octet: Value, codes: Registers) -> Registers:
        return [
            neon(b, "smmla.v4i32.v16i8", I32X4, rows, v, octet) for rows, v in zip(sums, codes, strict=True)
        ]

    def halves(self, b: Builder, sums: Registers) -> tuple[Value, Value]:
        low, high = (pick(b, sums[0], range(n, 8, 2), sums[1]) for n in range(2))
        return low, high


class NumberLayout:
    """int16, in order."""

    def laid(self, numbers: Array) -> Array:
        return np.ascontiguousarray(numbers.astype("<i2")).view(np.uint8)

    def read(self, raw: Array) -> Array:
        return raw.view("<i2").astype(np.int32)


class LongNumbers:
    """By products of 16 bits, as every CPU has them: bytes become int16 once for all tokens, and each row has
    a register of four columns' sums.
    """

    layout: Layout = NumberLayout()

    def put(self, b: Builder, address: Value, v: Value) -> None:
        put(b, address, b.trunc(v, ir.VectorType(I16, LANES)))

    def added(self, b: Builder, accs: Tile, line: Value, xs: Sequence[Value]) -> Tile:
        tile = [cut(b, acc, QUARTERS) for acc in accs]
        for q in range(QUARTERS):
            found = [[const(I32X4, 0)] * 4 for _ in xs]
            for i in range(QUADS):
                four_rows = at(b, b.add(line, ir.Constant(I64, i * LINE + q * REGISTER)), I8X16)
                rows = [row for half in cut(b, four_rows, 2) for row in cut(b, b.sext(half, I16X8), 2)]
                for n, x in enumerate(xs):
                    four = at(b, b.add(x, ir.Constant(I64, 8 * i)), I64)
                    columns = cut(b, hidden(b, b.bitcast(splat(b, four, 2), I16X8)), 2) * 2
                    pairs = zip(found[n], rows, columns, strict=True)
                    found[n] = [b.add(acc, neon(b, "smull.v4i32", I32X4, *both)) for acc, *both in pairs]
                if i:  # LLVM would make the first products twice, for this and to be added to
                    line = after(b, line, [v for sums in found for v in sums])
            for token, sums in zip(tile, found, strict=True):
                twos = [neon(b, "addp.v4i32", I32X4, *sums[n : n + 2]) for n in (0, 2)]
                token[q] = b.add(token[q], neon(b, "addp.v4i32", I32X4, *twos))
        return [join(b, token) for token in tile]

"""aarch64's sums of attention: numbers of 16 bits as two signed bytes, the products of each added up apart.

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
    I32X4,
    QUARTERS,
    REGISTER,
    Registers,
    after,
    neon,
    pair_sums,
    smull,
)
from .vectors import I8, I64, LANES, Builder, Value, at, const, cut, join, pick, put
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
            codes = [
                at(b, b.add(line, ir.Constant(I64, i * LINE + q * REGISTER)), I8X16) for i in range(QUADS)
            ]
            codes = self.ordered(b, codes)
            for token, x in zip(tile, xs, strict=True):
                octets = [at(b, b.add(x, ir.Constant(I64, i * REGISTER)), I8X16) for i in range(OCTETS)]
                low, high = self.sums(b, codes, octets)
                token[q] = b.add(token[q], b.add(low, b.shl(high, const(I32X4, 8))))
            line = after(b, line, [token[q] for token in tile])
        return [join(b, token) for token in tile]

    def ordered(self, b: Builder, codes: Registers) -> Registers:
        """Four rows of all columns, four columns to a register, as `sums` wants them."""
        return codes

    @abstractmethod
    def sums(self, b: Builder, codes: Registers, octets: Registers) -> tuple[Value, Value]:
        """Of four rows by a token's low bytes, and by its high ones: int32 in four lanes."""


def words(b: Builder, octet: Value) -> Registers:
    """Each four bytes of a register in all of its lanes: the low ones of four columns, of the next four, and
    the high ones.
    """
    lanes = b.bitcast(octet, I32X4)
    return [b.bitcast(pick(b, lanes, [n] * 4), I8X16) for n in range(4)]


class DotOctets(WideOctets):
    """By sdot, which takes four activations out of a register."""

    def sums(self, b: Builder, codes: Registers, octets: Registers) -> tuple[Value, Value]:
        found = [const(I32X4, 0)] * 2
        for n, octet in enumerate(octets):
            for i, word in enumerate(words(b, octet)):
                found[i // 2] = neon(
                    b, "sdot.v4i32.v16i8", I32X4, found[i // 2], codes[2 * n + i % 2], word
                )
        return found[0], found[1]


class MatrixOctets(WideOctets):
    """By smmla: two rows by the low and the high bytes of eight columns."""

    def ordered(self, b: Builder, codes: Registers) -> Registers:
        found = []
        for n in range(0, len(codes), 2):
            first, second = (b.bitcast(v, I32X4) for v in codes[n : n + 2])
            for lanes in ([0, 4, 1, 5], [2, 6, 3, 7]):
                found.append(b.bitcast(pick(b, first, lanes, second), I8X16))
        return found

    def sums(self, b: Builder, codes: Registers, octets: Registers) -> tuple[Value, Value]:
        rows = [const(I32X4, 0)] * 2
        for n, octet in enumerate(octets):
            for i in range(2):
                rows[i] = neon(b, "smmla.v4i32.v16i8", I32X4, rows[i], codes[2 * n + i], octet)
        low, high = (pick(b, rows[0], range(n, 8, 2), rows[1]) for n in range(2))
        return low, high


class LongOctets(WideOctets):
    """By products of 16 bits: those of two columns are added in int16 (2 * 127 * 128 < 2**15)."""

    def sums(self, b: Builder, codes: Registers, octets: Registers) -> tuple[Value, Value]:
        found = [[const(I32X4, 0)] * 2 for _ in range(2)]
        for n, octet in enumerate(octets):
            each = words(b, octet)
            rows = [cut(b, v, 2) for v in codes[2 * n : 2 * n + 2]]
            for i, sums in enumerate(found):
                x, y = (cut(b, word, 2)[0] for word in each[2 * i : 2 * i + 2])
                for half in range(2):
                    both = b.add(smull(b, rows[0][half], x), smull(b, rows[1][half], y))
                    sums[half] = b.add(sums[half], pair_sums(b, both))
        low, high = (neon(b, "addp.v4i32", I32X4, *sums) for sums in found)
        return low, high

"""What a scheme is: how numbers of a matrix are stored in parts, and what value they stand for.

A scheme of codes stands for

    value = ((v * sub) * scale  +  submin * min) * row

with v the integer that a code means, sub and submin integers, scale and min floats that some columns share,
and row a float for all columns of a row; what a scheme has not counts as 1, and without min there is no sum.
v is code - zero, or an entry of a table. The byte of a sub-scale may choose one of four tables; or one of
four zero points to be taken from v, which make four tables of one by shifting it. A plain number is v itself.

The integers are exact, their float32 product with a float is rounded once (for float16 scales it is exact),
and so are the sum and its product with the row's float. A kernel therefore adds up integers over a group:
columns that share scale and min, and the scale of their activations. It multiplies by floats once for each
group and once for a whole row, at the most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from edgeq.errors import UsageError

from .numbers import NUMBERS, Array, Number

ACT_GROUP = 32  # columns of int8 activations that share a scale
TILE_ROWS = 16  # rows that share a line, one per 32-bit lane of a 512-bit register
LINE_BYTES = 64
# How a code of 1 to 8 bits is cut: into the powers of two that its bits are the sum of, low bits first. Each
# fills whole lines of 32 columns, so a code takes no more room than its bits.
PLANES = tuple(tuple(plane for plane in (8, 4, 2, 1) if bits & plane) for bits in range(1, 9))
PLANE_NAMES = ("low", "high", "top")
SHARED = (16, 32, 64, 128, 256)  # columns that may share a scale or a min
CHOICES = 4  # that two bits have
UNSIGNED_MAX = 127  # of v less the smallest: the products of AVX2 add two of them to 16 bits


Parts = Mapping[str, Array]  # of a matrix, row-major: see Scheme.arrays


@dataclass(frozen=True)
class Part:
    """One array of a matrix: lines of some bits of its codes, or numbers."""

    name: str
    dtype: str  # NumPy's word for a stored element
    columns: int  # that share an entry; 0: all of a row do
    bits: int = 0  # of a code, in lines; 0: numbers
    number: str = ""  # what the elements are, a name of NUMBERS; "": integers or codes

    @cached_property
    def itemsize(self) -> int:
        """Bytes of a stored element."""
        return np.dtype(self.dtype).itemsize

    @property
    def noun(self) -> str:
        """An entry, in sentences."""
        return "code" if self.bits else self.name if self.columns else "row float"

    def entries(self, columns: int) -> int:
        """Entries of a row of so many columns (a multiple of the scheme's step)."""
        return columns // self.columns if self.columns else 1

    def tile_shape(self, columns: int) -> tuple[int, int]:
        """Of the array of a tile of 16 rows in the file: (lines, 64) or (entries, 16)."""
        if self.bits:
            return TILE_ROWS * columns * self.bits // 8 // LINE_BYTES, LINE_BYTES
        return self.entries(columns), TILE_ROWS

    def tile_bytes(self, columns: int) -> int:
        """Bytes of a tile of 16 rows."""
        return prod(self.tile_shape(columns)) * self.itemsize


@dataclass(frozen=True)
class Floats:
    """A float for each `columns` columns of a row; 0: one for the row."""

    number: str  # a name of NUMBERS
    columns: int

    @property
    def format(self) -> Number:
        return NUMBERS[self.number]


@dataclass(frozen=True)
class Integers:
    """An integer for each `columns` columns of a row, as `SUBS` stores it."""

    kind: str
    columns: int


@dataclass(frozen=True)
class SubKind:
    """How an integer scale is stored: the parts' element types, and what else its byte holds."""

    dtype: str  # of the part "sub"
    low: int  # the smallest sub-scale
    high: int
    submin: str = ""  # "byte": a part of its own; "nibble": the high half of the same byte
    chooses: bool = False  # its upper two bits choose a zero point or a table


SUBS = {
    "i8": SubKind("|i1", -128, 127),
    "u8": SubKind("|u1", 0, 255),
    "u8+m": SubKind("|u1", 0, 255, submin="byte"),
    "u4m4": SubKind("|u1", 0, 15, submin="nibble"),
    "s6c2": SubKind("|u1", -32, 31, chooses=True),
    "u6c2": SubKind("|u1", 0, 63, chooses=True),
}


# What of a scheme turns its integers into values.
SCALES = ("sub", "scale", "min", "row", "tensor", "unit")


@dataclass(frozen=True)
class Scheme:
    """One row of the table. UsageError for a row that kernels would read as other numbers than it means.

    A scheme of plain numbers has a `number` and no planes; one of codes has planes, and a scale, a float for
    the row or both.
    """

    name: str  # what the file says; never reused for another meaning
    number: str = ""  # of plain numbers, a name of NUMBERS; "" for codes and for bytes
    planes: tuple[int, ...] = ()  # bits of a code, the low ones first
    zero: int = 0  # the code whose value is 0
    table: tuple[int, ...] = ()  # instead of code - zero what codes stand for, or four tables of that
    zeros: tuple[int, ...] = (0,)  # what is taken from them, as the sub-scale's byte chooses
    sub: Integers | None = None
    scale: Floats | None = None
    min: Floats | None = None
    row: Floats | None = None
    tensor: bool = False  # whether rounding gives all rows of a matrix the same float
    unit: float = 1.0  # a power of two that every scale is multiplied by
    shipped: bool = True  # whether packs hold its kernels

    def __post_init__(self) -> None:
        for wrong, right in self._faults():
            if wrong:
                raise UsageError(f"scheme {self.name}: {right}.")

    def _faults(self) -> Iterator[tuple[bool, str]]:
        """(whether it is so, what would be right)"""
        yield np.frexp(self.unit)[0] != 0.5, f"its unit is {self.unit}, but a power of two is needed"
        yield not self.scale and self.unit != 1, "only a scale has a unit"
        yield self.tensor and not self.row, "only rows' floats can be one for the tensor"
        if self.row:
            yield self.row.number not in NUMBERS, f"{self.row.number} is no format of numbers"
            yield self.row.columns != 0, f"the row's float is for all columns (0), not for {self.row.columns}"
        if not self.planes:
            yield bool(self.number) and self.number not in NUMBERS, f"{self.number} is no format of numbers"
            yield bool(self.table or self.sub or self.scale or self.min), "only codes have scales or a table"
            yield bool(self.row and not self.number), "only numbers have a float for the row"
            return
        yield bool(self.number), "what has codes is no plain number"
        known = ", ".join("+".join(map(str, planes)) for planes in PLANES)
        yield self.planes not in PLANES, f"its planes are {self.planes}, but codes are cut into {known} bits"
        codes = 1 << self.bits
        lengths = (codes, CHOICES * codes)
        yield (
            bool(self.table) and len(self.table) not in lengths,
            f"a table of {codes} integers, or four such tables, are needed",
        )
        yield not 0 <= self.zero < codes, f"its zero is {self.zero}, but it is one of the {codes} codes"
        yield (
            any(not -128 <= v <= 127 for v in (*self.table, *self.zeros)),
            "its table or its zero points hold an integer that does not fit in 8 bits",
        )
        yield not self.scale and not self.row, "codes need a scale or a float for the row"
        for floats in (self.scale, self.min):
            if floats:
                yield floats.number not in NUMBERS, f"{floats.number} is no format of numbers"
                yield (
                    floats.columns not in SHARED,
                    f"a scale for {floats.columns} columns does not go with activations, which have one for "
                    f"{ACT_GROUP}: one of {', '.join(map(str, SHARED))} is needed",
                )
        choosing = [name for name, kind in SUBS.items() if kind.chooses]
        chooses = self.sub is not None and self.sub.kind in choosing
        counts = sorted((len(self.tables), len(self.zeros)))
        yield (
            chooses and counts != [1, CHOICES],
            "four zero points or tables go with sub-scales that choose one",
        )
        yield (
            not chooses and (len(self.tables) > 1 or self.zeros != (0,)),
            f"only sub-scales of {' or '.join(choosing)} choose a zero point or a table",
        )
        if self.sub:
            yield (
                self.sub.kind not in SUBS,
                f"its sub-scales are {self.sub.kind}, not one of {', '.join(SUBS)}",
            )
            yield (
                self.sub.columns not in (ACT_GROUP // 2, ACT_GROUP),
                f"a sub-scale for {self.sub.columns} columns is not one for {ACT_GROUP // 2} or {ACT_GROUP}",
            )
            kind = SUBS[self.sub.kind]
            yield bool(kind.submin) != bool(self.min), "a min and its sub-scale go together"
            largest = max(abs(kind.low), kind.high) * self.magnitude * 127 * ACT_GROUP
            yield largest >= 1 << 31, "the sum of 32 columns does not fit in 32 bits"

    @cached_property
    def bits(self) -> int:
        """Of one code; 0 for plain numbers."""
        return sum(self.planes)

    @cached_property
    def tables(self) -> Array:
        """int16 [tables, codes]: the integers that codes stand for before a zero point is taken from them."""
        codes = np.arange(1 << self.bits, dtype=np.int16)
        found = np.array(self.table, np.int16) if self.table else codes - np.int16(self.zero)
        return found.reshape(-1, len(codes))

    @cached_property
    def values(self) -> Array:
        """int16 [choices, codes]: v of each code, for all that a sub-scale's byte may choose."""
        return self.tables - np.array(self.zeros, np.int16)[:, None]

    @property
    def magnitude(self) -> int:
        """The largest |v|."""
        return int(np.abs(self.values).max())

    @property
    def offset(self) -> int:
        """The smallest integer of the tables: those less the offset are unsigned."""
        return int(self.tables.min())

    @property
    def unsigned_fits(self) -> bool:
        """Whether these are at most 127, so that unsigned products on AVX2 cannot saturate."""
        return int(self.tables.max()) - self.offset <= UNSIGNED_MAX

    @property
    def floats(self) -> dict[str, Floats]:
        """The parts that are floats for several columns, in the order of the file."""
        named = {"scale": self.scale, "min": self.min, "row": self.row}
        return {name: floats for name, floats in named.items() if floats}

    @property
    def sub_kind(self) -> SubKind | None:
        return SUBS[self.sub.kind] if self.sub else None

    @cached_property
    def group(self) -> int:
        """Columns that a product adds up before it multiplies by floats, as they share these."""
        return min([ACT_GROUP, *(f.columns for f in (self.scale, self.min) if f)])

    @cached_property
    def step(self) -> int:
        """Columns that a matrix is padded to: whole groups of everything. 1 for plain numbers."""
        if not self.planes:
            return 1
        return max([ACT_GROUP, *(f.columns for f in (self.scale, self.min) if f)])

    @cached_property
    def padding(self) -> int:
        """The code of padding: the first that means 0 in each table, or where none does code 0."""
        zeros = np.flatnonzero((self.tables == 0).all(axis=0))
        return int(zeros[0]) if zeros.size else 0

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The arrays of a matrix, in the order of the file; of plain numbers the first is "value"."""
        if not self.planes:
            dtype = NUMBERS[self.number].dtype if self.number else "|u1"
            found = [Part("value", dtype, 1, number=self.number)]
        else:
            found = [Part(name, "|u1", 1, bits) for name, bits in zip(PLANE_NAMES, self.planes, strict=False)]
        if self.sub and (kind := self.sub_kind):
            found.append(Part("sub", kind.dtype, self.sub.columns))
            if kind.submin == "byte":
                found.append(Part("submin", "|u1", self.sub.columns))
        for name, floats in self.floats.items():
            found.append(Part(name, floats.format.dtype, floats.columns, number=floats.number))
        return tuple(found)

    @cached_property
    def arrays(self) -> tuple[Part, ...]:
        """The parts as they are computed with: row-major [rows, entries], the planes together as "codes"."""
        numbers = tuple(part for part in self.parts if not part.bits)
        return (Part("codes", "|u1", 1, self.bits), *numbers) if self.planes else numbers

    @property
    def itemsize(self) -> int:
        """Bytes of one stored plain number; 1 for bytes."""
        return NUMBERS[self.number].nbytes if self.number else 1

    def tile_bytes(self, columns: int) -> int:
        """Bytes of a tile of 16 rows of so many columns (a multiple of the step)."""
        return sum(part.tile_bytes(columns) for part in self.parts)

    @property
    def bits_per_weight(self) -> float:
        """Bits of one value with its share of scales, without padding and without what a row has once."""
        shared = (part for part in self.parts if not part.bits and part.columns)
        return self.bits + sum(8 * part.itemsize / part.columns for part in shared)

    def holds(self, other: Scheme) -> bool:
        """Whether every matrix of codes in `other` can be stored in this one, value by value: it has the same
        scales, and a code for each of its codes that means the same integer whatever is chosen.
        """
        same = all(getattr(self, word) == getattr(other, word) for word in SCALES)
        return bool(self.planes and other.planes) and same and other._meanings.keys() <= self._meanings.keys()

    def codes_of(self, other: Scheme) -> Array:
        """uint8 [codes of other]: the code here of each code of a scheme that this one holds."""
        return np.array([self._meanings[tuple(v)] for v in other.values.T.tolist()], np.uint8)

    @cached_property
    def _meanings(self) -> dict[tuple[int, ...], int]:
        """The first code that means these integers, one for each choice."""
        return {tuple(v): code for code, v in reversed([*enumerate(self.values.T.tolist())])}

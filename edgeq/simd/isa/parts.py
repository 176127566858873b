"""The stored parts of a group, the scheme's columns (`Scheme.group`) of 16 rows, as integers in registers.

A group's parts are addresses by the names of `Scheme.parts`. A *quad* is four columns: 64 bytes, a row's four
in each 32-bit lane. A plane of some bits has as many lines in 32 columns, so that a code is put together with
one shift, one mask and one more `or` for each plane. Where a row's sub-scale chooses one of four tables, the
table's number stands above the bits of its codes, by one more: the *index* of an entry in all four.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from llvmlite import ir

from edgeq.formats.schemes import Array, Scheme
from edgeq.formats.schemes.scheme import PLANE_NAMES

from .vectors import (
    CODES,
    I8,
    I16,
    I16X32,
    I32,
    I64,
    LANES,
    Builder,
    Value,
    at,
    const,
    pick,
    put,
    splat,
    vector,
)

LINE = 64  # bytes of a line
REGISTER = 16  # entries of a table that one look-up takes
I8X16, I32X4 = ir.VectorType(I8, LANES), ir.VectorType(I32, 4)

Lookup = Callable[[Builder, Value, Sequence[int]], Value]  # (codes, table of 16 bytes) -> entries


@dataclass(frozen=True)
class Group:
    """Where the parts of a group lie."""

    row: Scheme
    parts: Mapping[str, Value]
    room: Value | None = None  # a line for each quad: where codes lie as products take them, or are put so
    lines: Value | None = None  # the like for `kept_lines`
    unpacked: bool = False  # whether they lie there

    def moved(self, move: Callable[[Value], Value]) -> Group:
        """The same with each address that codes are read from replaced."""
        if self.unpacked:
            return replace(self, room=move(self.room))
        return replace(self, parts={n: move(a) if n in PLANE_NAMES else a for n, a in self.parts.items()})

    def everywhere(self, move: Callable[[Value], Value]) -> Group:
        """The same with every address replaced."""
        found = {name: move(address) for name, address in self.parts.items()}
        codes, lines = (None if room is None else move(room) for room in (self.room, self.lines))
        return replace(self, parts=found, room=codes, lines=lines)

    @property
    def planes(self) -> list[tuple[int, Value]]:
        """Bits of each plane and where its lines lie."""
        return [(bits, self.parts[name]) for bits, name in zip(self.row.planes, PLANE_NAMES, strict=False)]


def quads(row: Scheme) -> int:
    """Of a group."""
    return row.group // 4


# ---- codes as products take them ----
def kept(
    b: Builder, group: Group, t: ir.Type, places: Sequence[Value], make: Callable[[], list[Value]]
) -> list[Value]:
    """Codes in registers of that type: what is made of the stored ones, or what lies at their places in the
    group's room. Where there is room and they are not there yet, they are put there.
    """
    return _kept(b, group, group.room, t, places, make)


def place(row: Scheme, i: int, t: ir.Type, at_byte: int) -> Value:
    """In a group's room: of the i-th quad's bytes, from that one on, in a register of that type. What has the
    same rows lies side by side.
    """
    return ir.Constant(I64, quads(row) * at_byte + i * t.count)


def _kept(
    b: Builder,
    group: Group,
    room: Value | None,
    t: ir.Type,
    places: Sequence[Value],
    make: Callable[[], list[Value]],
) -> list[Value]:
    if room is None:
        return make()
    to = [b.add(room, place) for place in places]
    if group.unpacked:
        return [at(b, p, t) for p in to]
    found = make()
    for p, v in zip(to, found, strict=True):
        put(b, p, v)
    return found


# ---- lines that come of a group's scales and sub-scales ----
def kept_lines(row: Scheme) -> list[str]:
    """What a group has room for a line of, in whatever form products take it: names of parts, those with a
    number once for each sub-scale. No more than there is room for.
    """
    folds = row.sub is not None and (row.offset != 0 or row.zeros != (0,))
    each = {"sub": row.sub is not None, "zero": folds, "min": row.min is not None}
    names = [f"{name}{half}" for half in range(halves(row)) for name, there in each.items() if there]
    return [*names, *["scale"] * (row.scale is not None)][: quads(row)]


def kept_line(
    b: Builder, group: Group, name: str, t: ir.Type, make: Callable[[], Value], at_byte: int = 0
) -> Value:
    """Some lanes of a line, from that byte on: what is made, or what lies in the group's room."""
    names = kept_lines(group.row)
    if name not in names:
        return make()
    place = ir.Constant(I64, names.index(name) * LINE + at_byte)
    (found,) = _kept(b, group, group.lines, t, [place], lambda: [make()])
    return found


# ---- indices: codes, and above them what their row chose ----
def quad(b: Builder, group: Group, i: int, t: ir.Type, at_byte: int = 0) -> Value:
    """The indices of the i-th quad, from a byte of its 64 on as many as the type has."""
    code, low = None, 0
    for bits, address in group.planes:
        line, field = divmod(i, 8 // bits)
        v = at(b, b.add(address, ir.Constant(I64, line * LINE + at_byte)), t)
        part = _field(b, v, bits, field, low)
        code = part if code is None else b.or_(code, part)
        low += bits
    return _indices(b, group, code, i, range(at_byte // 4, (at_byte + t.count) // 4))


def two_quads(b: Builder, group: Group, i: int, j: int, at_byte: int) -> list[Value]:
    """The indices of two quads of a half side by side: of four rows, from that byte on, two vectors of two
    rows by eight columns.
    """
    codes: list[Value] = []
    low = 0
    for bits, address in group.planes:
        places = [divmod(n, 8 // bits) for n in (i, j)]
        first, second = (
            at(b, b.add(address, ir.Constant(I64, line * LINE + at_byte)), I32X4) for line, _ in places
        )
        rows = [b.bitcast(pick(b, first, lanes, second), I8X16) for lanes in ([0, 4, 1, 5], [2, 6, 3, 7])]
        if places[0][1] == places[1][1]:
            found = [_field(b, v, bits, places[0][1], low) for v in rows]
        else:
            right = vector(I8X16, [bits * field for _, field in places for _ in range(4)] * 2)
            mask = const(I8X16, (1 << bits) - 1)
            found = [b.shl(b.and_(b.lshr(v, right), mask), const(I8X16, low)) for v in rows]
        codes = [b.or_(*both) for both in zip(codes, found, strict=True)] if codes else found
        low += bits
    starts = at_byte // 4, at_byte // 4 + 2
    return [_indices(b, group, v, i, range(n, n + 2)) for n, v in zip(starts, codes, strict=True)]


def _field(b: Builder, v: Value, bits: int, field: int, low: int) -> Value:
    """The field-th `bits` of every byte, shifted up by `low`."""
    right = bits * field - low
    if right > 0:
        v = b.lshr(v, const(v.type, right))
    elif right < 0:
        v = b.shl(v, const(v.type, -right))
    top = right >= 0 and low == 0 and bits * (field + 1) == 8  # the shift has brought zeros in from above
    bottom = right <= 0 and field == 0 and low + bits == 8  # or from below
    return v if top or bottom else b.and_(v, const(v.type, ((1 << bits) - 1) << low))


def quad_at(b: Builder, group: Group, i: Value, t: ir.Type) -> Value:
    """As `quad`, for an int64 that the compiler does not know."""
    code, low = None, 0
    for bits, address in group.planes:
        fields = 8 // bits
        line = b.udiv(i, ir.Constant(I64, fields))
        v = at(b, b.add(address, b.mul(line, ir.Constant(I64, LINE))), t)
        right = b.trunc(b.mul(b.urem(i, ir.Constant(I64, fields)), ir.Constant(I64, bits)), I8)
        part = b.and_(b.lshr(v, splat(b, right, t.count)), const(t, (1 << bits) - 1))
        part = b.shl(part, const(t, low)) if low else part
        code = part if code is None else b.or_(code, part)
        low += bits
    return _indices(b, group, code, i, range(t.count // 4))


def _indices(b: Builder, group: Group, codes: Value, i: int | Value, rows: range) -> Value:
    """Codes of some rows of the i-th quad, each row's side by side, with the number of the row's table above
    them.
    """
    row = group.row
    if len(row.tables) == 1:
        return codes
    number = choices(b, group, _half(b, row, i), rows)
    return b.or_(codes, _to_columns(b, b.shl(number, const(number.type, row.bits)), codes.type))


def _to_columns(b: Builder, rows: Value, t: ir.Type) -> Value:
    """A byte of each row in all columns of the row."""
    return pick(b, rows, [n * rows.type.count // t.count for n in range(t.count)])


# ---- integers ----
def values_at(b: Builder, group: Group, lookup: Lookup, i: Value) -> Value:
    """v of the i-th quad, as signed bytes."""
    found = signed(b, group.row, lookup, quad_at(b, group, i, CODES))
    if group.row.zeros == (0,):
        return found
    zeros = zero_points(b, group, lookup, _half(b, group.row, i))
    return b.sub(found, _to_columns(b, zeros.values, CODES))


def unsigned(b: Builder, row: Scheme, lookup: Lookup, indices: Value) -> Value:
    """The tables' integer at each index, less the offset: in 0..255."""
    return _entries(b, lookup, indices, row.tables.reshape(-1) - row.offset) if row.table else indices


def signed(b: Builder, row: Scheme, lookup: Lookup, indices: Value) -> Value:
    """The tables' integer at each index, as signed bytes."""
    if row.table:
        return _entries(b, lookup, indices, row.tables.reshape(-1))
    if row.zero == 128:
        return b.xor(indices, const(indices.type, -128))
    return b.sub(indices, const(indices.type, row.zero)) if row.zero else indices


def _entries(b: Builder, lookup: Lookup, indices: Value, integers: Array) -> Value:
    """The byte at each index: of more than a register of them, what the fifth bit chooses of two."""
    table = integers.tolist()
    if len(table) <= REGISTER:
        return lookup(b, indices, table)
    low = b.and_(indices, const(indices.type, REGISTER - 1))
    below, above = lookup(b, low, table[:REGISTER]), lookup(b, low, table[REGISTER:])
    return b.select(b.icmp_unsigned("==", indices, low), below, above)


def one_look_up(row: Scheme) -> bool:
    """Whether the codes stand for entries of a table that a register holds all of."""
    return len(row.table) in range(1, REGISTER + 1) and len(row.tables) == 1


def looked_up(b: Builder, group: Group, i: int, t: ir.Type, at_byte: int, lookup: Lookup) -> Value:
    """`unsigned` of the i-th quad as `quad` reads it, of a scheme with one_look_up.

    The bits of a code need not be at the bottom nor in order: wherever a shift that other quads use, too,
    brings them into a look-up's four bits, the table is in their order. Larger planes come first, so that
    what is left of the four has room for the next.
    """
    row, indices = group.row, np.arange(REGISTER)
    index, code, taken, low = None, np.zeros(REGISTER, np.int64), 0, 0
    for bits, address in group.planes:
        line, field = divmod(i, 8 // bits)
        ones, first = (1 << bits) - 1, bits * field
        place = next(p for p in ((first + more) % 4 for more in (0, 2, 1, 3)) if not taken & ones << p)
        v = _moved(b, at(b, b.add(address, ir.Constant(I64, line * LINE + at_byte)), t), first - place)
        part = b.and_(v, const(t, REGISTER - 1 if bits == row.bits else ones << place))  # others may be any
        index = part if index is None else b.or_(index, part)
        code |= (indices >> place & ones) << low
        taken, low = taken | ones << place, low + bits
    return lookup(b, index, (row.tables.reshape(-1) - row.offset)[code].tolist())


def _moved(b: Builder, v: Value, right: int) -> Value:
    """Bytes shifted in pairs: what comes into one of the other is the caller's to leave out."""
    pairs = b.bitcast(v, ir.VectorType(I16, v.type.count // 2))
    if right < 0:
        return b.bitcast(b.shl(pairs, const(pairs.type, -right)), v.type)
    return b.bitcast(b.lshr(pairs, const(pairs.type, right)), v.type) if right else v


# ---- scales that are integers ----
@dataclass(frozen=True)
class Bytes:
    """Sixteen integers in bytes, signed or not."""

    values: Value
    signed: bool

    def wide(self, b: Builder, t: ir.Type, lanes: Sequence[int], other: Bytes | None = None) -> Value:
        """Some of them, and of another's, in lanes of that type."""
        v = pick(b, self.values, lanes, other.values if other else None)
        return b.sext(v, t) if self.signed else b.zext(v, t)

    def words(self, b: Builder) -> Value:
        """int32, one in each lane."""
        return self.wide(b, ir.VectorType(I32, LANES), range(LANES))


TWICE = [n // 2 for n in range(2 * LANES)]  # lanes: each of sixteen two times
IN_TURN = [n // 2 + n % 2 * LANES for n in range(2 * LANES)]  # lanes of two sixteens by turns


def halves(row: Scheme) -> int:
    """Sub-scales of a group."""
    return row.group // row.sub.columns if row.sub else 1


def sub(b: Builder, group: Group, half: int | Value) -> Bytes:
    """The half-th sub-scales of the group; half may be an int64 that the compiler does not know."""
    kind, stored = group.row.sub_kind, _stored(b, group, "sub", half)
    assert kind is not None
    if kind.submin == "nibble":
        return Bytes(b.and_(stored, const(I8X16, 15)), signed=False)
    if kind.chooses and kind.low < 0:
        return Bytes(b.ashr(b.shl(stored, const(I8X16, 2)), const(I8X16, 2)), signed=True)
    if kind.chooses:
        return Bytes(b.and_(stored, const(I8X16, 63)), signed=False)
    return Bytes(stored, kind.low < 0)


def choices(b: Builder, group: Group, half: int | Value, rows: range) -> Value:
    """The numbers of what some rows' half-th sub-scales choose with the upper two bits of their bytes."""
    stored = _stored(b, group, "sub", half, rows)
    return b.lshr(stored, const(stored.type, 6))


def zero_points(b: Builder, group: Group, lookup: Lookup, half: int | Value) -> Bytes:
    """The zero points that the half-th sub-scales choose."""
    return Bytes(lookup(b, choices(b, group, half, range(LANES)), group.row.zeros), signed=True)


def submin(b: Builder, group: Group, half: int | Value) -> Bytes:
    """The half-th integers that the group's mins are multiplied by."""
    kind = group.row.sub_kind
    assert kind is not None
    if kind.submin == "nibble":
        return Bytes(b.lshr(_stored(b, group, "sub", half), const(I8X16, 4)), signed=False)
    return Bytes(_stored(b, group, "submin", half), signed=False)


def _half(b: Builder, row: Scheme, i: int | Value) -> int | Value:
    """The number of the sub-scale that the i-th quad has."""
    size = quads(row) // halves(row)
    if isinstance(i, int):
        return i // size
    return b.udiv(i, ir.Constant(I64, size)) if size < quads(row) else 0


def _stored(b: Builder, group: Group, name: str, half: int | Value, rows: range = range(LANES)) -> Value:
    """The half-th bytes of a part, of those rows."""
    place = ir.Constant(I64, half * LANES) if isinstance(half, int) else b.mul(half, ir.Constant(I64, LANES))
    first = b.add(b.add(group.parts[name], place), ir.Constant(I64, rows.start))
    return at(b, first, ir.VectorType(I8, len(rows)))


def pairs(b: Builder, of: Sequence[Bytes]) -> Value:
    """int16, two in each 32-bit lane: what the two halves of a group have, which may be one and the same."""
    first, *rest = of
    return first.wide(b, I16X32, IN_TURN, rest[0]) if rest else first.wide(b, I16X32, TWICE)

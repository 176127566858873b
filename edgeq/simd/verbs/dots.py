"""Weights in parts, and their integer products with the activations of a tile's tokens, a group at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from edgeq.formats.schemes import TILE_ROWS, Scheme, unpack
from edgeq.formats.schemes.values import integers, sub_mins, sub_scales

from ..isa import parts
from ..isa.dots import Activations, Dots
from ..isa.parts import LINE, Group
from ..isa.vectors import F32, F32X16, I32, I32X16, I64, LANES, Strided, call, const, splat
from ..tag import PACKED, ROOM, UNPACKED, Tag
from .facts import fact
from .lines import fma_meaning
from .memory import lower_prefetch, stored_floats
from .registry import (
    ADDRESS,
    MEANING,
    Bundle,
    TagType,
    bundle,
    bundled,
    codes,
    each_f32,
    f32,
    members,
    memory,
    splat_at,
    steps,
    verb,
)


# ---- where parts lie ----
def each_part(t: TagType) -> Bundle:
    """An address for each part that the tag has."""
    return Bundle(I64, len(t.tag.parts))


def each_stored(t: TagType) -> Bundle:
    """An address for each part of the scheme."""
    return Bundle(I64, len(t.tag.scheme_row.parts))


def _word(n: int) -> Any:
    return ir.Constant(I64, n)


def _tile_parts(b: Any, tag: Tag, weights: Any, tiles: Any, columns: Any, tile: Any) -> Any:
    row = tag.scheme_row
    whole = b.udiv(b.add(columns, _word(row.step - 1)), _word(row.step))
    found = []
    for part in row.parts:
        size = b.mul(whole, _word(part.tile_bytes(row.step))) if part.columns else _word(part.tile_bytes(0))
        found.append(b.add(weights, b.mul(tile, size)))
        weights = b.add(weights, b.mul(tiles, size))
    return bundled(b, I64, found)


@verb(each_stored, (Tag, ADDRESS, ADDRESS, ADDRESS, ADDRESS), _tile_parts)
def tile_parts(t: Any, weights: int, tiles: int, columns: int, tile: int) -> Any:
    """Where the parts of a tile lie, of a matrix of so many tiles and columns that begins at `weights`."""
    row = t.scheme_row
    columns = -(-columns // row.step) * row.step
    found = []
    for part in row.parts:
        found.append(weights + tile * part.tile_bytes(columns))
        weights += tiles * part.tile_bytes(columns)
    return np.array(found, np.int64)


def _with_room(b: Any, tag: Tag, parts: Any, codes: Any, lines: Any) -> Any:
    return bundled(b, I64, [*members(b, parts), codes, lines][: len(tag.parts)])


@verb(each_part, (Tag, each_stored, ADDRESS, ADDRESS), _with_room)
def with_room(t: Any, parts: Any, codes: int, lines: int) -> Any:
    """The parts of a tile, and where the tag asks for it room for its codes unpacked, and for lines of what
    comes of its scales.
    """
    return np.array([*parts, codes, lines][: len(t.parts)], np.int64)


def _group_parts(b: Any, tag: Tag, parts: Any, g: Any) -> Any:
    size = tag.scheme_row.group

    def moved(part: Any, address: Any) -> Any:
        if not part.columns:
            return address
        shared = max(1, part.columns // size)  # groups that share an entry
        at = b.udiv(g, _word(shared)) if shared > 1 else g
        return b.add(address, b.mul(at, _word(part.tile_bytes(shared * size))))

    return bundled(b, I64, list(map(moved, tag.parts, members(b, parts))))


@verb(each_part, (Tag, each_part, ADDRESS), _group_parts)
def group_parts(t: Any, parts: Any, g: int) -> Any:
    """Where the parts of group g of a tile lie."""
    size, found = t.scheme_row.group, []
    for part, address in zip(t.parts, parts, strict=True):
        shared = max(1, part.columns // size)
        found.append(address + (g // shared * part.tile_bytes(shared * size) if part.columns else 0))
    return np.array(found, np.int64)


@verb(
    each_part,
    (Tag, ADDRESS),
    lambda b, tag, line: bundled(b, I64, [line] * len(tag.scheme_row.parts)),
)
def lines_at(t: Any, line: int) -> Any:
    """The parts of a group of which only the codes are asked for, codes of one plane at `line`."""
    return np.full(len(t.scheme_row.parts), line, np.int64)


def _group(b: Any, tag: Tag, addresses: Any) -> Group:
    found = dict(zip((part.name for part in tag.parts), members(b, addresses), strict=True))
    codes, lines = (found.pop(part.name, None) for part in ROOM)
    return Group(tag.scheme_row, found, codes, lines, tag.codes == UNPACKED)


@verb(ADDRESS, (Tag, each_part), lambda b, tag, w: members(b, w)[0])
def values_at(t: Any, w: Any) -> int:
    """Where the plain numbers of a tile lie."""
    return int(w[0])


def _prefetch_group(b: Any, tag: Tag, addresses: Any, ahead: Any) -> None:
    for bits, address in _group(b, tag, addresses).planes:
        for line in range(tag.scheme_row.group * bits // 32):
            lower_prefetch(b, b.add(b.add(address, ahead), _word(line * LINE)))


@verb(types.void, (Tag, each_part, ADDRESS), _prefetch_group)
def prefetch_group(t: Any, w: Any, ahead: int) -> None:
    """Ask for what lies `ahead` bytes behind each line of a group's codes, which need not exist."""


# ---- their numbers, as NumPy has them ----
def _numbers(t: Any, addresses: Any) -> dict[str, Any]:
    """The parts of a group of 16 rows, row-major."""
    row: Scheme = t.scheme_row
    lines, found = [], {}
    for part, address in zip(row.parts, map(int, addresses), strict=False):  # without ROOM
        if part.bits:
            count = row.group * part.bits // 32
            lines.append(memory(address, np.uint8, count * LINE).reshape(1, count, LINE))
        else:
            count = max(1, row.group // part.columns) if part.columns else 1
            found[part.name] = memory(address, part.dtype, count * TILE_ROWS).reshape(count, TILE_ROWS).T
    return {"codes": unpack(lines, row.planes), **found}


def _spread(row: Scheme, entries: Any) -> Any:
    """An entry for each column of a group."""
    return np.repeat(entries, row.group // entries.shape[1], axis=1)


def _activations(t: Any, x: int, stride: int, columns: int) -> Any:
    """int32 [tokens, columns]."""
    tile = [memory(x + n * stride, np.int8, columns) for n in range(t.tokens)]
    return np.stack(tile).astype(np.int32)


# ---- integer sums ----
def dots_of(tag: Tag) -> Dots:
    """How the tag's instruction set adds up the scheme's codes times signed activations."""
    dots: Dots = tag.isa_row.lower["dots"](tag.scheme_row)
    return dots if tag.codes == PACKED else dots.of_kept_codes()


def each_sum(t: TagType) -> Bundle:
    """A sum of a group for each token, int32 or, where the tag's way of adding up says so, float32."""
    return Bundle(dots_of(t.tag).sum, t.tag.tokens)


def _dots(b: Any, tag: Tag, w: Any, x: Any, stride: Any, sums: Any, sums_stride: Any) -> Any:
    xs, totals = steps(b, tag, x, stride), steps(b, tag, sums, sums_stride)
    way = dots_of(tag)
    return bundled(b, way.sum, way.sums(b, _group(b, tag, w), xs, totals))


@verb(each_sum, (Tag, each_part, ADDRESS, ADDRESS, ADDRESS, ADDRESS), _dots)
def dots(t: Any, w: Any, x: int, stride: int, sums: int, sums_stride: int) -> Any:
    """The sums of sub * v * x over the group whose parts are w, exact, or rounded once to float32. Token n's
    int8 activations are at x + n * stride, and at sums + n * sums_stride their sums, an int16 for each 16
    columns of the group.
    """
    found, row = _numbers(t, w), t.scheme_row
    v = integers(found, row).astype(np.int32)
    if row.sub:
        v *= _spread(row, sub_scales(found["sub"], row).astype(np.int32))
    dtype = np.int32 if dots_of(t).sum == I32X16 else np.float32
    return (_activations(t, x, stride, row.group) @ v.T).astype(dtype)


def _scaled_add(b: Any, tag: Tag, acc: Any, sums: Any, scale: Any, p: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        total = b.extract_value(sums, n)
        both = b.fmul(scale, splat_at(b, p, stride, n, F32))
        return call(
            b,
            "llvm.fma.v16f32",
            F32X16,
            b.sitofp(total, F32X16) if total.type == I32X16 else total,
            both,
            b.extract_value(acc, n),
        )

    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, each_sum, f32, ADDRESS, ADDRESS), _scaled_add)
def scaled_add_each(t: Any, acc: Any, sums: Any, scale: Any, p: int, stride: int) -> Any:
    """acc[n] + float(sums[n]) * (scale * s), s the float32 at p + n * stride, with one fma."""
    rows = [
        fma_meaning(sums[n].astype(np.float32), scale * memory(p + n * stride, np.float32, 1)[0], acc[n])
        for n in range(t.tokens)
    ]
    return np.stack(rows)


# ---- floats of a group ----
def _floats(b: Any, tag: Tag, group: Group, name: str, without: float = 1.0) -> Any:
    """The floats of a group's part, `without` in every lane where the scheme has none."""
    row = tag.scheme_row
    if name not in row.floats:
        return const(F32X16, without)
    unit = row.unit if name == "scale" else 1.0
    return stored_floats(b, tag, row.floats[name].number, group.parts[name], unit)


def _floats_meaning(t: Any, name: str, w: Any, without: float) -> Any:
    row = t.scheme_row
    if name not in row.floats:
        return np.full(LANES, without, np.float32)
    at = [part.name for part in row.parts].index(name)
    floats = row.floats[name].format
    found = floats.floats(memory(int(w[at]), floats.dtype, LANES))
    return found * np.float32(row.unit) if name == "scale" else found


@verb(f32, (Tag, each_part), lambda b, tag, w: _floats(b, tag, _group(b, tag, w), "scale"))
def group_scale(t: Any, w: Any) -> Any:
    """The scales of a group, the scheme's unit in them; ones where the scheme has none."""
    return _floats_meaning(t, "scale", w, 1)


@verb(f32, (Tag, each_part), lambda b, tag, w: _floats(b, tag, _group(b, tag, w), "min", 0.0))
def group_min(t: Any, w: Any) -> Any:
    """The mins of a group, zeros where the scheme has none."""
    return _floats_meaning(t, "min", w, 0)


@verb(f32, (Tag, each_part), lambda b, tag, w: _floats(b, tag, _group(b, tag, w), "row"))
def row_floats(t: Any, w: Any) -> Any:
    """The rows' floats, ones where the scheme has none; w are the parts of a tile, or of a group of it."""
    return _floats_meaning(t, "row", w, 1)


def _add_group_each(
    b: Any, tag: Tag, acc: Any, w: Any, x: Any, x_stride: Any, scale: Any, sums: Any, stride: Any
) -> Any:
    of = Activations(Strided(x, x_stride), Strided(scale, stride), Strided(sums, stride))
    added = dots_of(tag).added(b, members(b, acc), _group(b, tag, w), of, partial(_floats, b, tag))
    return bundled(b, F32X16, added)


@verb(each_f32, (Tag, each_f32, each_part, *[ADDRESS] * 5), _add_group_each)
def add_group_each(
    t: Any, acc: Any, w: Any, x: int, x_stride: int, scale: int, sums: int, stride: int
) -> Any:
    """acc[n] + float(`dots`) * (the group's scale * s), with one fma; where the scheme has a min, min *
    submin times (the sum of x as a float * s) comes to it, with one for each sub-scale. Token n's int8
    activations are at x + n * x_stride, s is the float32 at scale + n * stride, and at sums + n * stride lie
    the sums of x as for `dots`. No acc is minus zero, and s is nothing or 2**-107 and more.
    """
    found = MEANING["dots"](t, w, x, x_stride, sums, stride)
    acc = MEANING["scaled_add_each"](t, acc, found, MEANING["group_scale"](t, w), scale, stride)
    row = t.scheme_row
    if not row.min:
        return acc
    submin, low = sub_mins(_numbers(t, w), row), _floats_meaning(t, "min", w, 0)
    each = np.ones((TILE_ROWS, 1)) if submin is None else submin
    out = []
    for n in range(t.tokens):
        totals = memory(sums + n * stride, np.int16, row.group // 16).reshape(each.shape[1], -1).sum(1)
        s = memory(scale + n * stride, np.float32, 1)[0]
        for half, total in enumerate(totals):
            both = low * each[:, half].astype(np.float32), np.full(LANES, np.float32(total) * s)
            acc[n] = fma_meaning(*both, acc[n])
        out.append(acc[n])
    return np.stack(out)


# ---- single columns, as floats ----
@verb(
    codes,
    (Tag, each_part, ADDRESS),
    lambda b, tag, w, i: parts.values_at(b, _group(b, tag, w), tag.isa_row.lower["entries"], i),
)
def quad(t: Any, w: Any, i: int) -> Any:
    """v of columns 4i to 4i + 3 of a group: signed bytes, a row's four in each word."""
    found = integers(_numbers(t, w), t.scheme_row)[:, 4 * i : 4 * i + 4]
    return found.astype(np.int8).view(np.uint8).reshape(-1)


def _column(b: Any, v: Any, j: Any) -> Any:
    left = splat(b, b.trunc(b.sub(_word(24), b.mul(j, _word(8))), I32))
    return b.sitofp(b.ashr(b.shl(b.bitcast(v, I32X16), left), const(I32X16, 24)), F32X16)


@verb(f32, (codes, ADDRESS), _column)
def column(v: Any, j: int) -> Any:
    """Column j of a quad of signed bytes, as float32: 16 rows."""
    return v.view(np.int8).reshape(LANES, 4)[:, j].astype(np.float32)


def _whole(b: Any, tag: Tag, read: Any, w: Any, half: Any) -> Any:
    """The integers that `read` (of `parts`) finds, as floats."""
    return b.sitofp(read(b, _group(b, tag, w), half).words(b), F32X16)


@verb(
    f32,
    (Tag, each_part, ADDRESS),
    lambda b, tag, w, half: _whole(b, tag, parts.sub, w, half) if tag.scheme_row.sub else const(F32X16, 1),
)
def sub_scale(t: Any, w: Any, half: int) -> Any:
    """The half-th sub-scales of a group, ones where the scheme has none."""
    row = t.scheme_row
    return sub_scales(_numbers(t, w)["sub"], row)[:, half] if row.sub else np.ones(LANES, np.float32)


@verb(
    f32,
    (Tag, each_part, ADDRESS),
    lambda b, tag, w, half: (
        _whole(b, tag, parts.submin, w, half)
        if tag.scheme_row.min and tag.scheme_row.sub
        else const(F32X16, 1)
    ),
)
def sub_min(t: Any, w: Any, half: int) -> Any:
    """The integers that a group's mins are multiplied by in its half-th half, ones where there are none."""
    found = sub_mins(_numbers(t, w), t.scheme_row) if t.scheme_row.min else None
    return np.ones(LANES, np.float32) if found is None else found[:, half]


# ---- facts ----
@fact
def group(tag: Tag) -> int:
    """Columns of a group."""
    return tag.scheme_row.group


@fact
def halves(tag: Tag) -> int:
    """Sub-scales in a group."""
    return parts.halves(tag.scheme_row)


@fact
def has_min(tag: Tag) -> int:
    """1 where the scheme has a min, else 0."""
    return int(tag.scheme_row.min is not None)

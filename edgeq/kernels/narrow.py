"""From a near page of the cache (`cache`: 8 bits) to a far one, of fewer bits, CHUNK positions at a time.

A far page of a layer holds, for each key-value head, matrices as weights are, in a scheme of codes with a
scale and a min for 32 columns (the tag's):

    means        [groups][8 lines][64 bytes]    the mean key of each 16 positions, as 16 near keys
    mean_scales  [groups][16]                   float32
    keys         256 rows, the positions' keys less their mean, of dims columns
    values       dims rows of 256 columns, the positions

so that attention is the ordinary product with weights. Neighbouring keys have much in common, which the
means hold in 8 bits; what is left takes the range of its codes. Values share a scale with those of 32
positions in the same dimension (as KIVI's keys do, Liu and others 2024): no probability has to be multiplied
by a scale, and a dimension's own level is its min. Both are turned as near ones are; values are times the
block, by which near ones were divided, so that float16 holds their scales. Where keys stay near, a far page
has `near_keys` and `near_scales`, those of the near one, and no means.

A program that narrows has a segment for each page to be made, whose pages are the near and the far one.
Whatever a page is narrowed from, its bits depend on nothing but the near page's.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.tag import Tag
from edgeq.simd.verbs import (
    column,
    fetch_add,
    fma,
    lane,
    larger,
    load_codes,
    load_f16,
    load_f32,
    native,
    nearest,
    peek_f32,
    peek_i64,
    poke_f32,
    splat_f32,
    store_f16,
    store_f32,
    store_quads,
    sum_f32,
    where_less,
    whole,
)
from edgeq.simd.verbs.facts import fact

from .activations import ZERO
from .cache import store_key
from .catalog import CHUNK, GROUP, TILE, Batch, Scratch
from .turn import block

CANDIDATES = 5  # scales that are tried: they leave out 0, 2, 4, 6 and 8 % of the range at both ends
SHARE = float32(0.02)
ONE = float32(1.0)
INFINITE = float32(float("inf"))
BLOCKS = CHUNK // GROUP
COLUMN = TILE * 4  # bytes of a column of a tile as float32
LINE, ROOM = Scratch.LINE, Scratch.ROOM
SEGMENTS, SEGMENT, SEGMENT_BYTES = Batch.SEGMENTS, Batch.SEGMENT, Batch.SEGMENT_BYTES
OWN_PAGES = Batch.OWN_PAGES


@fact
def code_bits(tag: Tag) -> int:
    """Of a code of the scheme, which has one plane."""
    return tag.scheme_row.bits


@native
def code_line(x, minimum, inverse, top):
    """The nearest codes of 16 numbers, as float32; 0 where there is no number."""
    code = larger(whole((load_f32(x) - minimum) * inverse), splat_f32(ZERO))
    return where_less(code, top, code, top)


@native
def inverse_of(scale):
    """1 / scale, 0 for a scale that is 0 or no number."""
    zero = splat_f32(ZERO)
    return where_less(zero, scale, splat_f32(ONE) / scale, zero)


@native
def squared_error(x, scale, minimum, top):
    """What rounding 32 columns with this scale and min leaves, of each row."""
    inverse, error = inverse_of(scale), splat_f32(ZERO)
    for c in range(GROUP):
        off = fma(code_line(x + c * COLUMN, minimum, inverse, top), scale, minimum) - load_f32(x + c * COLUMN)
        error = fma(off, off, error)
    return error


@native
def half(t, x, room):
    """x rounded to float16."""
    store_f16(t, room, x)
    return load_f16(t, room)


@native
def store_scales(t, x, scales, mins, top):
    """Scale and min of each row of float32 x [32 columns][16 rows], with the least squared error of those
    tried; of equal ones the first. They are no numbers where the row has one that is none.
    """
    low = high = total = load_f32(x)
    for c in range(1, GROUP):
        v = load_f32(x + c * COLUMN)
        low = where_less(v, low, v, low)
        high = larger(v, high)
        total = total + v
    span = high + (total - total) - low
    best_scale, best_min, least = span * splat_f32(ONE / top), low, splat_f32(INFINITE)
    for n in range(CANDIDATES):
        cut = float32(n) * SHARE
        scale = half(t, span * splat_f32((ONE - (cut + cut)) / top), scales)
        minimum = half(t, low + span * splat_f32(cut), mins)
        error = squared_error(x, scale, minimum, splat_f32(top))
        best_scale = where_less(error, least, scale, best_scale)
        best_min = where_less(error, least, minimum, best_min)
        least = where_less(error, least, error, least)
    store_f16(t, scales, best_scale)
    store_f16(t, mins, best_min)


@native
def byte_column(t, x, minimum, inverse, top, line, j):
    """Byte j of a line's rows: the codes of as many columns as a byte holds, 4 apart."""
    fields = 8 // code_bits(t)
    found = splat_f32(ZERO)
    for p in range(fields):
        at = line * 4 * fields + (fields - 1 - p) * 4 + j
        code = code_line(x + at * COLUMN, minimum, inverse, splat_f32(top))
        found = found * splat_f32(top + ONE) + code
    return nearest(found)


@native
def narrow_group(t, x, matrix, tiles, groups, at):
    """float32 x [32 columns][16 rows] into the at-th group of a matrix of so many tiles and groups a tile."""
    bits, top = code_bits(t), float32((1 << code_bits(t)) - 1)
    codes = matrix + at * bits * 64
    scales = matrix + tiles * groups * bits * 64 + at * 2 * TILE
    mins = scales + tiles * groups * 2 * TILE
    store_scales(t, x, scales, mins, top)
    minimum, inverse = load_f16(t, mins), inverse_of(load_f16(t, scales))
    for line in range(bits):
        store_quads(
            codes + line * 64,
            byte_column(t, x, minimum, inverse, top, line, 0),
            byte_column(t, x, minimum, inverse, top, line, 1),
            byte_column(t, x, minimum, inverse, top, line, 2),
            byte_column(t, x, minimum, inverse, top, line, 3),
        )


@native
def narrow_key_tile(t, tile, near, means, mean_scales, matrix, head_dim, groups, scratch):
    """16 positions: the mean of their keys, and what is left of these."""
    keys, key_scales = near
    room = scratch + ROOM
    mean = room + groups * GROUP * COLUMN
    for g in range(groups):
        at = tile * groups + g
        scale = load_f32(key_scales + at * 64)
        for n in range(8):
            bytes_ = load_codes(keys + (at * 8 + n) * 64)
            for j in range(4):
                d = g * GROUP + n * 4 + j
                v = column(bytes_, j) * scale
                store_f32(room + d * COLUMN, v)
                poke_f32(mean + d * 4, sum_f32(v) * float32(1.0 / TILE))
    store_key(mean, means, mean_scales, 0, tile, head_dim, groups * GROUP, scratch + LINE)
    for g in range(groups):
        scale = peek_f32(mean_scales + (g * TILE + tile) * 4)
        for n in range(8):
            bytes_ = load_codes(means + (g * 8 + n) * 64)
            for j in range(4):
                v = room + (g * GROUP + n * 4 + j) * COLUMN
                store_f32(v, load_f32(v) - splat_f32(lane(column(bytes_, j), tile) * scale))
        narrow_group(t, room + g * GROUP * COLUMN, matrix, CHUNK // TILE, groups, tile * groups + g)


@native
def narrow_value_tile(t, tile, values, value_scales, matrix, tiles, scratch):
    """16 dimensions of all positions."""
    room, factor = scratch + ROOM, float32(block(tiles * TILE))
    for b in range(BLOCKS):
        for n in range(8):
            bytes_ = load_codes(values + ((b * tiles + tile) * 8 + n) * 64)
            for j in range(4):
                scale = peek_f32(value_scales + (b * GROUP + n * 4 + j) * 4) * factor
                store_f32(room + (n * 4 + j) * COLUMN, column(bytes_, j) * splat_f32(scale))
        narrow_group(t, room, matrix, tiles, BLOCKS, tile * BLOCKS + b)


@native
def matrix_bytes(t, numbers):
    """Bytes of so many numbers of the scheme, in whole groups."""
    return numbers // GROUP * (4 * code_bits(t) + 4)


@native
def copy_lines(source, to, nbytes):
    """So many bytes, a multiple of 64."""
    for n in range(0, nbytes, 64):
        store_f32(to + n, load_f32(source + n))


@native
def pages_of(batch, n, pages_at):
    """The near and the far page that the n-th segment lists."""
    listed = peek_i64(peek_i64(batch + SEGMENT) + n * SEGMENT_BYTES + OWN_PAGES) + pages_at
    return peek_i64(listed), peek_i64(listed + 8)


@native
def narrow(
    t,
    work,
    worker,
    workers,
    batch,
    means,
    mean_scales,
    far_keys,
    far_values,
    keys,
    key_scales,
    values,
    value_scales,
    kv_heads,
    head_dim,
    pages_at,
    scratch,
    scratch_stride,
):
    """A layer's parts of the far page of each segment, from those of the near one. Workers take a tile at a
    time.
    """
    groups = (head_dim + 31) // 32
    own = scratch + worker * scratch_stride
    tiles = CHUNK // TILE + groups * 2
    size = matrix_bytes(t, CHUNK * groups * GROUP)
    while True:
        task = fetch_add(work, 1)
        if task >= kv_heads * tiles * peek_i64(batch + SEGMENTS):
            break
        near, far = pages_of(batch, task // (kv_heads * tiles), pages_at)
        i, tile = task // tiles % kv_heads, task % tiles
        first = i * CHUNK
        if tile < CHUNK // TILE:
            held = near + keys + first * groups * 32, near + key_scales + first * groups * 4
            to = far + means + i * groups * 512, far + mean_scales + i * groups * 64
            matrix = far + far_keys + i * size
            narrow_key_tile(t, tile, held, to[0], to[1], matrix, head_dim, groups, own)
        else:
            tile -= CHUNK // TILE
            held_values, scales = near + values + first * groups * 32, near + value_scales + first * 4
            narrow_value_tile(t, tile, held_values, scales, far + far_values + i * size, groups * 2, own)


@native
def narrow_values(
    t,
    work,
    worker,
    workers,
    batch,
    near_keys,
    near_scales,
    far_values,
    keys,
    key_scales,
    values,
    value_scales,
    kv_heads,
    head_dim,
    pages_at,
    scratch,
    scratch_stride,
):
    """As `narrow`, values alone; keys are copied."""
    groups = (head_dim + 31) // 32
    own = scratch + worker * scratch_stride
    tiles = 1 + groups * 2
    size = matrix_bytes(t, CHUNK * groups * GROUP)
    while True:
        task = fetch_add(work, 1)
        if task >= kv_heads * tiles * peek_i64(batch + SEGMENTS):
            break
        near, far = pages_of(batch, task // (kv_heads * tiles), pages_at)
        i, tile = task // tiles % kv_heads, task % tiles
        first = i * CHUNK
        if tile == 0:
            at, scale = first * groups * 32, first * groups * 4
            copy_lines(near + keys + at, far + near_keys + at, CHUNK * groups * 32)
            copy_lines(near + key_scales + scale, far + near_scales + scale, CHUNK * groups * 4)
        else:
            held, scales = near + values + first * groups * 32, near + value_scales + first * 4
            narrow_value_tile(t, tile - 1, held, scales, far + far_values + i * size, groups * 2, own)

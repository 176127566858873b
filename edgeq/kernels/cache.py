"""Writing a pass's keys and values into the pages of its sequences, and laying its queries out for attention.

A page holds CHUNK positions of some layers, and of each per key-value head matrices packed as weights are, so
that attention is a product with them. Keys are rows: tiles of 16 positions, columns the head's dimensions
padded to 32. Values are columns: tiles of 16 dimensions (padded to 32), columns the positions. A key is
stored less the layer's `centre` (float32 [kv_heads][dims padded to 32]): scores of one query all lose the
same by it, so the softmax does not change, and what all keys have in common takes no bits. INT8: queries,
keys and values are turned (`turn`) before they are rounded, queries and values after a division by their
block. Keys are signed bytes with a float32 scale per position and 32 dimensions, values with one per position
and head:

    keys          [kv_heads][CHUNK / 16][groups][8 lines][64 bytes]
    key_scales    [kv_heads][CHUNK / 16][groups][16]
    values        [kv_heads][CHUNK / 32][dims / 16][8 lines][64 bytes]
    value_scales  [kv_heads][CHUNK]

Floats (f32 or f16): keys [kv_heads][CHUNK / 16][dims][16], values [kv_heads][CHUNK][dims]. The operands of
these names are offsets in a page, and `pages_at` that of the layer's list of pages among its sequence's.
Queries are regrouped by key-value head: row n * (heads / kv_heads) + h of key-value head i is row n's head i
* share + h, multiplied by `scaling` (the float32's bits), so that attention reads each key once for all the
queries that share it. A row has dims * 4 bytes: float32, or with an INT8 cache dims numbers of 16 bits
(`verbs.wide`) and then their scale, a float32; where the cache has far pages the same as bytes follows
(`coarse`). Rounding queries to 8 bits would cost as much as rounding keys.

Where zeros pad a block to twice or four times a power of two that holds the head, turning makes as many equal
copies of it. Each copy is rounded elsewhere between two integers (`between`), so that their mean, which is
what a product comes to, has steps so many times finer.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    fetch_add,
    float_bits,
    keep,
    larger_magnitude,
    load_f32,
    max_magnitude,
    native,
    nearest,
    peek_f32,
    peek_i32,
    peek_i64,
    peek_u8,
    poke_f32,
    poke_i32,
    poke_u8,
    poke_value,
    splat_f32,
    store_f32,
    store_i8,
    store_wide,
    value_bytes,
)

from .activations import ZERO
from .batch import page_of_row, position_of
from .catalog import CHUNK, Batch, Scratch
from .coarse import has_far, store_coarse
from .steps import BYTE_MAX, NUMBER_MAX, factor_of, step_of
from .turn import block, turn

COUNT = Batch.COUNT
LINE, TURNED = Scratch.LINE, Scratch.TURNED
COPY_MIN = 8  # dimensions of a copy, half a line: smaller heads count as so many


@native
def line_of(a, i, dim, factor):
    """16 values from column i on, times factor, zero from column dim on."""
    return keep(load_f32(a + i * 4) * splat_f32(factor), 0, dim - i, ZERO)


@native
def lay(a, head_dim, factor, to, dims):
    """A head times factor, padded with zeros to `dims`, at `to`."""
    for i in range(0, dims, 16):
        store_f32(to + i * 4, line_of(a, i, head_dim, factor))


@native
def lay_key(k, centre, head_dim, to, dims):
    """A key less its centre, whose padding is zeros, at `to`."""
    for i in range(0, dims, 16):
        store_f32(to + i * 4, line_of(k, i, head_dim, float32(1.0)) - load_f32(centre + i * 4))


@native
def between(i, head_dim, dims):
    """What is added to 16 dimensions from i on, in steps, before they are rounded: for each of a block's
    equal copies another number, evenly spread between -1/2 and 1/2, and 0 where there are no copies.
    """
    size = block(dims)
    last = dims - size  # where the one block that zeros pad begins
    copy = COPY_MIN
    while copy < head_dim - last:
        copy *= 2
    if i < last or copy >= size:
        return splat_f32(ZERO)
    share = float32(copy) / float32(size)
    low = (float32((i - last) // copy) + float32(0.5)) * share - float32(0.5)
    high = (float32((i - last + COPY_MIN) // copy) + float32(0.5)) * share - float32(0.5)
    return keep(splat_f32(low), 0, COPY_MIN, high)


@native
def largest(x, dims):
    """The largest magnitude of x [dims], NaN where there is one."""
    top = splat_f32(ZERO)
    for i in range(0, dims, 16):
        top = larger_magnitude(load_f32(x + i * 4), top)
    return max_magnitude(top)


@native
def store_key(k, keys, scales, tile, lane, head_dim, dims, line):
    """The turned key k [dims] into its lane; `line` is room for 32 bytes."""
    for g in range(dims // 32):
        at = tile * (dims // 32) + g
        part = k + g * 128
        top = largest(part, 32)
        poke_f32(scales + (at * 16 + lane) * 4, step_of(top, BYTE_MAX))
        factor = splat_f32(factor_of(top, BYTE_MAX))
        for i in range(0, 32, 16):
            x = load_f32(part + i * 4) * factor + between(g * 32 + i, head_dim, dims)
            store_i8(line + i, nearest(x))
        for n in range(8):
            poke_i32(keys + at * 512 + n * 64 + lane * 4, peek_i32(line + n * 4))


@native
def store_value(v, values, scale, position, head_dim, dims, line):
    """The turned value v [dims] with one scale for all of it: byte (d % 16) * 4 + position % 4 of its line
    in each tile of 16 dimensions.
    """
    top = largest(v, dims)
    poke_f32(scale, step_of(top, BYTE_MAX))
    factor = splat_f32(factor_of(top, BYTE_MAX))
    to = values + (position // 32) * dims * 32 + (position % 32) // 4 * 64 + position % 4
    for i in range(0, dims, 16):
        store_i8(line, nearest(load_f32(v + i * 4) * factor + between(i, head_dim, dims)))
        for d in range(16):
            poke_u8(to + i * 32 + d * 4, peek_u8(line + d))


@native
def store_query(t, a, q, dims):
    """The turned query a [dims] into its row: numbers of 16 bits, and behind them their scale."""
    top = largest(a, dims)
    factor = splat_f32(factor_of(top, NUMBER_MAX))
    for i in range(0, dims, 16):
        store_wide(t, q + i * 2, nearest(load_f32(a + i * 4) * factor))
    poke_f32(q + dims * 2, step_of(top, NUMBER_MAX))


@native
def store_int8(
    t,
    work,
    worker,
    workers,
    batch,
    k,
    v,
    kv_stride,
    centre,
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
    """Keys k and values v [count, kv_heads, head_dim] into the cache."""
    count = peek_i64(batch + COUNT)
    dims = (head_dim + 31) // 32 * 32
    inverse = float32(1.0) / float32(block(dims))
    line = scratch + worker * scratch_stride + LINE
    turned = scratch + worker * scratch_stride + TURNED
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        page, position = page_of_row(batch, n, pages_at), position_of(batch, n) % CHUNK
        for i in range(kv_heads):
            row = i * head_dim * 4 + n * kv_stride
            first = i * CHUNK  # position of this head
            lay_key(k + row, centre + i * dims * 4, head_dim, turned, dims)
            turn(turned, dims)
            to_keys, to_scales = page + keys + first * dims, page + key_scales + first * dims // 8
            store_key(turned, to_keys, to_scales, position // 16, position % 16, head_dim, dims, line)
            lay(v + row, head_dim, inverse, turned, dims)
            turn(turned, dims)
            to_values, to_scale = page + values + first * dims, page + value_scales + (first + position) * 4
            store_value(turned, to_values, to_scale, position, head_dim, dims, line)


@native
def store_float(
    t,
    work,
    worker,
    workers,
    batch,
    k,
    v,
    kv_stride,
    centre,
    keys,
    values,
    kv_heads,
    head_dim,
    pages_at,
):
    """As store_int8 with floats in the tag's scheme."""
    count = peek_i64(batch + COUNT)
    dims = (head_dim + 31) // 32 * 32
    size = value_bytes(t)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        page, position = page_of_row(batch, n, pages_at), position_of(batch, n) % CHUNK
        for i in range(kv_heads):
            row = i * head_dim * 4 + n * kv_stride
            key = page + keys + ((i * CHUNK + position // 16 * 16) * dims + position % 16) * size
            value = page + values + (i * CHUNK + position) * dims * size
            middle = centre + i * dims * 4
            for d in range(head_dim):
                poke_value(t, key + d * 16 * size, peek_f32(k + row + d * 4) - peek_f32(middle + d * 4))
                poke_value(t, value + d * size, peek_f32(v + row + d * 4))


@native
def lay_int8(
    t,
    work,
    worker,
    workers,
    batch,
    a,
    a_stride,
    scaling,
    q,
    heads,
    kv_heads,
    head_dim,
    rows,
    scratch,
    scratch_stride,
):
    """Queries a [count, heads, head_dim] to rows of q, numbers of 16 bits; and as bytes behind them where
    there are far pages.
    """
    count = peek_i64(batch + COUNT)
    dims = (head_dim + 31) // 32 * 32
    share = heads // kv_heads
    factor = float_bits(scaling) * (float32(1.0) / float32(block(dims)))
    turned = scratch + worker * scratch_stride + TURNED
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for h in range(heads):
            to = q + (h // share * rows + n * share + h % share) * dims * 4
            lay(a + n * a_stride + h * head_dim * 4, head_dim, factor, turned, dims)
            turn(turned, dims)
            store_query(t, turned, to, dims)
            if has_far(t):
                store_coarse(turned, to, dims)


@native
def lay_float(t, work, worker, workers, batch, a, a_stride, scaling, q, heads, kv_heads, head_dim, rows):
    """As lay_int8 for a cache of floats, which they stay: float32."""
    count = peek_i64(batch + COUNT)
    dims = (head_dim + 31) // 32 * 32
    share = heads // kv_heads
    factor = float_bits(scaling)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for h in range(heads):
            to = q + (h // share * rows + n * share + h % share) * dims * 4
            for d in range(0, dims, 16):
                store_f32(to + d * 4, line_of(a + n * a_stride + h * head_dim * 4, d, head_dim, factor))

"""Writing a pass's keys and values into the pages of its sequences, and laying its queries out for attention.

A page holds CHUNK positions of some layers, and of each per key-value head matrices packed as weights are, so
that attention is a product with them. Keys are rows: tiles of 16 positions, columns the head's dimensions
padded to 32. Values are columns: tiles of 16 dimensions (padded to 32), columns the positions. A key is
stored less the layer's `centre` (float32 [kv_heads][dims padded to 32]): scores of one query all lose the
same by it, so the softmax does not change, and what all keys have in common takes no bits. INT8: queries,
keys and values are turned (`turn`) before they are rounded, queries and values after a division by their
block. Keys are codes (value + 128) with a float32 scale per position and 32 dimensions, values signed bytes
(they meet probabilities, which are never negative) with one per position and head:

    keys          [kv_heads][CHUNK / 16][groups][8 lines][64 bytes]
    key_scales    [kv_heads][CHUNK / 16][groups][16]
    values        [kv_heads][CHUNK / 32][dims / 16][8 lines][64 bytes]
    value_scales  [kv_heads][CHUNK]

Floats (f32 or f16): keys [kv_heads][CHUNK / 16][dims][16], values [kv_heads][CHUNK][dims]. The operands of
these names are offsets in a page, and `pages_at` that of the layer's list of pages among its sequence's.
Queries are regrouped by key-value head: row n * (heads / kv_heads) + h of key-value head i is row n's head i
* share + h, multiplied by `scaling` (the float32's bits), so that attention reads each key once for all the
queries that share it.
"""

from __future__ import annotations

from numba import float32, int32

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
    value_bytes,
)

from .activations import SMALLEST, ZERO, quantize_group, quantize_lines
from .batch import page_of_row, position_of
from .catalog import CHUNK, Batch, Scratch
from .turn import block, turn

COUNT = Batch.COUNT
LINE, TURNED = Scratch.LINE, Scratch.TURNED
FLIP = int32(-2139062144)  # 0x80808080: four int8 values to four codes


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
def store_key(k, keys, scales, tile, lane, dims, line):
    """The turned key k [dims] into its lane; `line` is room for 32 bytes."""
    for g in range(dims // 32):
        at = tile * (dims // 32) + g
        a, b = load_f32(k + g * 128), load_f32(k + g * 128 + 64)
        quantize_lines(a, b, line, scales + (at * 16 + lane) * 4)
        for n in range(8):
            poke_i32(keys + at * 512 + n * 64 + lane * 4, peek_i32(line + n * 4) ^ FLIP)


@native
def store_value(v, values, scale, position, dims, line):
    """The turned value v [dims] with one scale for all of it: byte (d % 16) * 4 + position % 4 of its line
    in each tile of 16 dimensions.
    """
    top = splat_f32(ZERO)
    for i in range(0, dims, 16):
        top = larger_magnitude(load_f32(v + i * 4), top)
    most = max_magnitude(top)
    factor = ZERO
    step = most * float32(1.0 / 127.0)
    if most > SMALLEST:
        factor = float32(127.0) / most
    elif most == most:
        step = ZERO
    poke_f32(scale, step)
    to = values + (position // 32) * dims * 32 + (position % 32) // 4 * 64 + position % 4
    for i in range(0, dims, 16):
        store_i8(line, nearest(load_f32(v + i * 4) * splat_f32(factor)))
        for d in range(16):
            poke_u8(to + i * 32 + d * 4, peek_u8(line + d))


@native
def store_query(a, q, q_scale, q_sum, at, dims):
    """The turned query a [dims], whose first group is the at-th."""
    for g in range(dims // 32):
        p, n = a + g * 128, at + g
        quantize_group(load_f32(p), load_f32(p + 64), q + n * 32, q_scale + n * 4, q_sum + n * 4)


@native
def store_int8(
    t,
    work,
    worker,
    workers,
    batch,
    a,
    a_stride,
    k,
    v,
    kv_stride,
    centre,
    scaling,
    q,
    q_scale,
    q_sum,
    keys,
    key_scales,
    values,
    value_scales,
    heads,
    kv_heads,
    head_dim,
    pages_at,
    rows,
    scratch,
    scratch_stride,
):
    """Queries a [count, heads, head_dim] to int8 q; keys k and values v [count, kv_heads, head_dim] into the
    cache.
    """
    count = peek_i64(batch + COUNT)
    dims = (head_dim + 31) // 32 * 32
    share = heads // kv_heads
    inverse = float32(1.0) / float32(block(dims))
    factor = float_bits(scaling) * inverse
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
            store_key(turned, to_keys, to_scales, position // 16, position % 16, dims, line)
            lay(v + row, head_dim, inverse, turned, dims)
            turn(turned, dims)
            to_values, to_scale = page + values + first * dims, page + value_scales + (first + position) * 4
            store_value(turned, to_values, to_scale, position, dims, line)
            for h in range(share):
                head = a + n * a_stride + (i * share + h) * head_dim * 4
                lay(head, head_dim, factor, turned, dims)
                turn(turned, dims)
                at = (i * rows + n * share + h) * (dims // 32)
                store_query(turned, q, q_scale, q_sum, at, dims)


@native
def store_float(
    t,
    work,
    worker,
    workers,
    batch,
    a,
    a_stride,
    k,
    v,
    kv_stride,
    centre,
    scaling,
    q,
    keys,
    values,
    heads,
    kv_heads,
    head_dim,
    pages_at,
    rows,
):
    """As store_int8 with floats in the tag's scheme and float32 queries [kv_heads][rows][dims]."""
    count = peek_i64(batch + COUNT)
    dims = (head_dim + 31) // 32 * 32
    share = heads // kv_heads
    factor = float_bits(scaling)
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
            for h in range(share):
                head = a + n * a_stride + (i * share + h) * head_dim * 4
                out = q + (i * rows + n * share + h) * dims * 4
                for d in range(0, dims, 16):
                    store_f32(out + d * 4, line_of(head, d, head_dim, factor))

"""Writing a pass's keys and values into the cache, and laying its queries out for attention.

The cache of a layer holds, per key-value head, matrices packed as weights are, so that attention is a
product with them. Keys are rows: tiles of 16 positions, columns the head's dimensions padded to 32. Values
are columns: tiles of 16 dimensions (padded to 32), columns the positions. INT8: keys as codes (value +
128) with a float32 scale per position and 32 dimensions, values as signed bytes (they meet probabilities,
which are never negative) with one per position and head:

    keys          [kv_heads][capacity / 16][groups][8 lines][64 bytes]
    key_scales    [kv_heads][capacity / 16][groups][16]
    values        [kv_heads][capacity / 32][dims / 16][8 lines][64 bytes]
    value_scales  [kv_heads][capacity]

Floats (f32 or f16): keys [kv_heads][capacity / 16][dims][16], values [kv_heads][capacity][dims]. Queries
are regrouped by key-value head: row n * (heads / kv_heads) + h of key-value head i is token n's head i *
share + h, multiplied by `scaling` (the float32's bits), so that attention reads each key once for all the
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
from .catalog import State

COUNT, POSITION = State.COUNT, State.POSITION
FLIP = int32(-2139062144)  # 0x80808080: four int8 values to four codes


@native
def line_of(a, i, dim, factor):
    """16 values from column i on, times factor, zero from column dim on."""
    return keep(load_f32(a + i * 4) * splat_f32(factor), 0, dim - i, ZERO)


@native
def store_key(k, keys, scales, tile, lane, groups, head_dim, scratch):
    for g in range(groups):
        i = g * 32
        at = tile * groups + g
        quantize_lines(
            line_of(k, i, head_dim, float32(1.0)),
            line_of(k, i + 16, head_dim, float32(1.0)),
            scratch,
            scales + (at * 16 + lane) * 4,
        )
        for line in range(8):
            poke_i32(keys + at * 512 + line * 64 + lane * 4, peek_i32(scratch + line * 4) ^ FLIP)


@native
def store_value(v, values, scale, position, tiles, head_dim, scratch):
    """One scale for the head; byte (d % 16) * 4 + position % 4 of its line in each tile of 16 dimensions."""
    top = splat_f32(ZERO)
    for i in range(0, head_dim, 16):
        top = larger_magnitude(line_of(v, i, head_dim, float32(1.0)), top)
    most = max_magnitude(top)
    factor = ZERO
    step = most * float32(1.0 / 127.0)
    if most > SMALLEST:
        factor = float32(127.0) / most
    elif most == most:
        step = ZERO
    poke_f32(scale, step)
    line = values + (position // 32) * tiles * 512 + (position % 32) // 4 * 64 + position % 4
    for tile in range(tiles):
        store_i8(scratch, nearest(line_of(v, tile * 16, head_dim, factor)))
        for d in range(16):
            poke_u8(line + tile * 512 + d * 4, peek_u8(scratch + d))


@native
def store_int8(
    t,
    work,
    worker,
    workers,
    state,
    a,
    a_stride,
    k,
    v,
    kv_stride,
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
    capacity,
    rows,
    scratch,
    scratch_stride,
):
    """Queries a [count, heads, head_dim] to int8 q; keys k and values v [count, kv_heads, head_dim] into the
    cache.
    """
    count = peek_i64(state + COUNT)
    groups = (head_dim + 31) // 32
    share = heads // kv_heads
    factor = float_bits(scaling)
    scratch += worker * scratch_stride
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        position = peek_i64(state + POSITION) + n
        for i in range(kv_heads):
            row = i * head_dim * 4 + n * kv_stride
            store_key(
                k + row,
                keys + i * capacity * groups * 32,
                key_scales + i * capacity * groups * 4,
                position // 16,
                position % 16,
                groups,
                head_dim,
                scratch,
            )
            store_value(
                v + row,
                values + i * capacity * groups * 32,
                value_scales + (i * capacity + position) * 4,
                position,
                groups * 2,
                head_dim,
                scratch,
            )
            for h in range(share):
                head = a + n * a_stride + (i * share + h) * head_dim * 4
                at = (i * rows + n * share + h) * groups
                for g in range(groups):
                    quantize_group(
                        line_of(head, g * 32, head_dim, factor),
                        line_of(head, g * 32 + 16, head_dim, factor),
                        q + (at + g) * 32,
                        q_scale + (at + g) * 4,
                        q_sum + (at + g) * 4,
                    )


@native
def store_float(
    t,
    work,
    worker,
    workers,
    state,
    a,
    a_stride,
    k,
    v,
    kv_stride,
    scaling,
    q,
    keys,
    values,
    heads,
    kv_heads,
    head_dim,
    capacity,
    rows,
):
    """As store_int8 with floats in the tag's scheme and float32 queries [kv_heads][rows][dims]."""
    count = peek_i64(state + COUNT)
    dims = (head_dim + 31) // 32 * 32
    share = heads // kv_heads
    factor = float_bits(scaling)
    size = value_bytes(t)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        position = peek_i64(state + POSITION) + n
        for i in range(kv_heads):
            row = i * head_dim * 4 + n * kv_stride
            key = keys + ((i * capacity + position // 16 * 16) * dims + position % 16) * size
            value = values + (i * capacity + position) * dims * size
            for d in range(head_dim):
                poke_value(t, key + d * 16 * size, peek_f32(k + row + d * 4))
                poke_value(t, value + d * size, peek_f32(v + row + d * 4))
            for h in range(share):
                head = a + n * a_stride + (i * share + h) * head_dim * 4
                out = q + (i * rows + n * share + h) * dims * 4
                for d in range(0, dims, 16):
                    store_f32(out + d * 4, line_of(head, d, head_dim, factor))

"""Rows of the embedding matrix, by token id, as float32. Ids are checked by whoever fills the pass."""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    column,
    fetch_add,
    fma,
    group,
    group_min,
    group_parts,
    group_scale,
    halves,
    has_min,
    lane,
    load_values,
    native,
    peek_i64,
    poke_f32,
    quad,
    row_floats,
    splat_f32,
    sub_min,
    sub_scale,
    tile_parts,
    value_bytes,
    values_at,
)

from .catalog import GROUP, Batch

COUNT = Batch.COUNT


@native
def embed(t, work, worker, workers, batch, ids, weights, y, y_stride, tiles, groups):
    """Rows of a quantized matrix (layout lines16): `formats.schemes.dequantize`, bit for bit."""
    count = peek_i64(batch + COUNT)
    nothing = splat_f32(float32(0.0))  # added to products of integers, which have no minus zero
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = peek_i64(ids + n * 8)
        at = row % 16
        parts = tile_parts(t, weights, tiles, groups * GROUP, row // 16)
        scale = row_floats(t, parts)
        out = y + n * y_stride
        quads = group(t) // 4
        for i in range(groups * 8):
            w = group_parts(t, parts, i // quads)
            half = i % quads * halves(t) // quads
            v = quad(t, w, i % quads)
            for j in range(4):
                whole = fma(column(v, j), sub_scale(t, w, half), nothing)
                value = whole * group_scale(t, w)
                if has_min(t):
                    value = value + sub_min(t, w, half) * group_min(t, w)
                poke_f32(out, lane(value * scale, at))
                out += 4


@native
def embed_float(t, work, worker, workers, batch, ids, weights, y, y_stride, tiles, columns):
    """Rows of a matrix of floats (layout lines16)."""
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = peek_i64(ids + n * 8)
        parts = tile_parts(t, weights, tiles, columns, row // 16)
        scale = row_floats(t, parts)
        for c in range(columns):
            value = load_values(t, values_at(t, parts) + c * 16 * value_bytes(t))
            poke_f32(y + n * y_stride + c * 4, lane(value * scale, row % 16))

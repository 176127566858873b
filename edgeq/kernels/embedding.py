"""Rows of the embedding matrix, by token id, as float32. Ids are checked by whoever fills the pass."""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    bits,
    fetch_add,
    lane,
    lines,
    load_f16,
    load_values,
    mask,
    native,
    peek_i64,
    peek_u8,
    planes,
    poke_f32,
    value_bytes,
    zero,
)

from .catalog import State

COUNT = State.COUNT


@native
def embed(t, work, worker, workers, state, ids, weights, scales, y, y_stride, groups):
    """Rows of a quantized matrix (layout lines16)."""
    count = peek_i64(state + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = peek_i64(ids + n * 8)
        tile = row // 16
        at = row % 16
        out = y + n * y_stride
        for g in range(groups):
            scale = lane(load_f16(t, scales + (tile * groups + g) * 32), at)
            base = weights + (tile * groups + g) * lines(t) * 64 + at * 4
            for line in range(lines(t)):
                for p in range(planes(t)):
                    for j in range(4):
                        code = (peek_u8(base + line * 64 + j) >> (bits(t) * p)) & mask(t)
                        poke_f32(out, float32(code - zero(t)) * scale)
                        out += 4


@native
def embed_float(t, work, worker, workers, state, ids, weights, y, y_stride, columns):
    """Rows of a matrix of floats (layout lines16)."""
    count = peek_i64(state + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = peek_i64(ids + n * 8)
        base = weights + (row // 16) * columns * 16 * value_bytes(t)
        for c in range(columns):
            poke_f32(y + n * y_stride + c * 4, lane(load_values(t, base + c * 16 * value_bytes(t)), row % 16))

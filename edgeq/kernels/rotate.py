"""Rotary position embedding (Su et al. 2021), half-split form: coordinate i turns with coordinate i +
half of those that turn, which come first in a head.
"""

from __future__ import annotations

from edgeq.simd.verbs import fetch_add, load_f32, native, peek_f32, peek_i64, poke_f32, store_f32

from .batch import position_of
from .catalog import Batch

COUNT = Batch.COUNT


@native
def rotate(t, work, worker, workers, batch, x, x_stride, cosine, sine, heads, head_dim, turned):
    """Turn every head of every row of x in place; the tables are float32 [positions, turned / 2]."""
    half = turned // 2
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        table = position_of(batch, n) * half * 4
        for h in range(heads):
            low = x + n * x_stride + h * head_dim * 4
            high = low + half * 4
            whole = half // 16 * 16
            for i in range(0, whole, 16):
                c, s = load_f32(cosine + table + i * 4), load_f32(sine + table + i * 4)
                a, b = load_f32(low + i * 4), load_f32(high + i * 4)
                store_f32(low + i * 4, a * c - b * s)
                store_f32(high + i * 4, b * c + a * s)
            for i in range(whole, half):
                cs, sn = peek_f32(cosine + table + i * 4), peek_f32(sine + table + i * 4)
                p, q = peek_f32(low + i * 4), peek_f32(high + i * 4)
                poke_f32(low + i * 4, p * cs - q * sn)
                poke_f32(high + i * 4, q * cs + p * sn)

"""Which tokens are left: where a cut by weight or number falls, those above a bound, those of a mask.

Nothing is sorted. The order is that of falling values, equal ones by rising place.
"""

from __future__ import annotations

from numba import float32, float64, int64

from edgeq.simd.verbs import (
    float_bits,
    larger,
    larger_magnitude,
    load_f32,
    max_f32,
    native,
    nearest,
    peek_f32,
    peek_f64,
    peek_i32,
    poke_f32,
    poke_f64,
    poke_i32,
    splat_f32,
    store_f32,
    store_i32,
    sum_f32,
    where_at_least,
)

from .likelihood import ABSENT, BLOCK, ZERO, line

STEPS = 1024  # of a histogram
WAYS = 4  # histograms at once: an addition need not wait for the one before it
LAST_STEP = float32(STEPS - 1)
SOME = 64  # values that are looked at together
NEAR = float32(-0.51)  # what is further than that from a step, and rounding, is at another


@native
def weight(weights, i):
    """Of place i; 1 where none are given."""
    return float64(peek_f32(weights + i * 4)) if weights != 0 else 1.0


@native
def count_in(histogram, way, step, x):
    at = histogram + (way * STEPS + int64(step)) * 8
    poke_f64(at, peek_f64(at) + x)


@native
def descend(t, row, weights, count, top_bits, scale_bits, steps, histogram, tail):
    """histogram [WAYS][STEPS] float64: at step (top - value) * scale, to the nearest and at most the last,
    the weights of places n, n + 4, n + 8 … (weights 0: 1 each). steps [whole lines] int32: each value's.
    """
    top, scale = splat_f32(float_bits(top_bits)), splat_f32(float_bits(scale_bits))
    zero, most = splat_f32(ZERO), splat_f32(ZERO - LAST_STEP)
    for n in range(WAYS * STEPS):
        poke_f64(histogram + n * 8, 0.0)
    for block in range(0, count, BLOCK):
        end = min(block + BLOCK, count)
        for i in range(block, end, 16):
            down = larger((line(row, i, count, tail) - top) * scale, most)
            store_i32(steps + i * 4, nearest(zero - down))
        whole = block + (end - block) // WAYS * WAYS
        if weights != 0:  # asked once for a block
            for i in range(block, whole, WAYS):
                count_in(histogram, 0, peek_i32(steps + i * 4), float64(peek_f32(weights + i * 4)))
                count_in(histogram, 1, peek_i32(steps + i * 4 + 4), float64(peek_f32(weights + i * 4 + 4)))
                count_in(histogram, 2, peek_i32(steps + i * 4 + 8), float64(peek_f32(weights + i * 4 + 8)))
                count_in(histogram, 3, peek_i32(steps + i * 4 + 12), float64(peek_f32(weights + i * 4 + 12)))
        else:
            for i in range(block, whole, WAYS):
                count_in(histogram, 0, peek_i32(steps + i * 4), 1.0)
                count_in(histogram, 1, peek_i32(steps + i * 4 + 4), 1.0)
                count_in(histogram, 2, peek_i32(steps + i * 4 + 8), 1.0)
                count_in(histogram, 3, peek_i32(steps + i * 4 + 12), 1.0)
        for i in range(whole, end):
            count_in(histogram, i & (WAYS - 1), peek_i32(steps + i * 4), weight(weights, i))
    return 0


@native
def at_step(t, row, count, top_bits, scale_bits, step, steps, places, tail, found):
    """places int32 [count]: where `descend` found that step, in order. found [1]: how many."""
    top, scale = splat_f32(float_bits(top_bits)), splat_f32(float_bits(scale_bits))
    zero, most = splat_f32(ZERO), splat_f32(ZERO - LAST_STEP)
    wanted = splat_f32(float32(step))
    inside = 0
    for some in range(0, count, SOME):
        end, nearest_step = min(some + SOME, count), splat_f32(ABSENT)
        for i in range(some, end, 16):
            down = larger((line(row, i, count, tail) - top) * scale, most)
            nearest_step = larger(zero - larger_magnitude(down + wanted, zero), nearest_step)
        if max_f32(nearest_step) < NEAR:
            continue
        for i in range(some, end):
            if peek_i32(steps + i * 4) == step:
                poke_i32(places + inside * 4, i)
                inside += 1
    poke_f64(found, float64(inside))
    return 0


@native
def gather(row, logits, ids, first, end, bound, kept_logits, kept_ids, kept):
    """`collect` of places first.. < end for `kept` that are there already; how many there are then."""
    one, zero = splat_f32(float32(1.0)), splat_f32(ZERO)
    for line_at in range(first, end, 16):
        line_end = min(line_at + 16, end)
        if line_at + 16 == line_end:
            kept_here = sum_f32(where_at_least(load_f32(row + line_at * 4), splat_f32(bound), one, zero))
            if kept_here == ZERO:
                continue
            if kept_here == float32(16.0):
                store_f32(kept_logits + kept * 4, load_f32(logits + line_at * 4))
                store_f32(kept_ids + kept * 4, load_f32(ids + line_at * 4))  # their bits
                kept += 16
                continue
        for i in range(line_at, line_end):
            poke_f32(kept_logits + kept * 4, peek_f32(logits + i * 4))  # without a branch: kept or not
            poke_i32(kept_ids + kept * 4, int64(peek_i32(ids + i * 4)))
            kept += int64(peek_f32(row + i * 4) >= bound)
    return kept


@native
def collect(t, row, logits, ids, count, bound_bits, last, above_bits, tops, kept_logits, kept_ids, found):
    """The places whose value in `row` is at least the bound, behind place `last` at least `above`, in order:
    kept_logits float32 and kept_ids int32 [count + 1] get what stands there in `logits` and `ids`.
    tops [blocks], 0 for none, are the row's. found [1]: how many.
    """
    bound, above = float_bits(bound_bits), float_bits(above_bits)
    kept = 0
    for block in range(0, count, BLOCK):
        if tops != 0 and peek_f32(tops + block // BLOCK * 4) < bound:
            continue
        end = min(block + BLOCK, count)
        middle = min(max(last + 1, block), end)
        kept = gather(row, logits, ids, block, middle, bound, kept_logits, kept_ids, kept)
        kept = gather(row, logits, ids, middle, end, above, kept_logits, kept_ids, kept)
    poke_f64(found, float64(kept))
    return 0


@native
def allowed(t, mask, logits, count, kept_logits, kept_ids, found):
    """Logits and ids whose bit is set in the mask (uint32 words, bit i of word i / 32), in order, as in
    `collect`.
    """
    kept = 0
    for first in range(0, count, 32):
        word = int64(peek_i32(mask + first // 8))
        if word == 0:
            continue
        for i in range(first, min(first + 32, count)):
            poke_f32(kept_logits + kept * 4, peek_f32(logits + i * 4))
            poke_i32(kept_ids + kept * 4, i)
            kept += (word >> (i - first)) & 1
    poke_f64(found, float64(kept))
    return 0

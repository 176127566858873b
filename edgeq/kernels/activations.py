"""Activations to int8, per token and 32 columns.

x[i] = nearest(a[i] * (127 / max|a|)) with scale = max|a| / 127 over the group, rounded to a float16's 11
bits: so does llama.cpp, and two engines that round alike stay alike through the layers. The sums of the int8
of each half of the group are kept, as int16, for the zero points and mins of weights. Columns past `dim`
count as zeros, so a buffer may hold anything there.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    eleven_bits,
    fetch_add,
    keep,
    larger_magnitude,
    load_f32,
    max_magnitude,
    native,
    nearest,
    peek_i64,
    poke_f32,
    poke_i32,
    splat_f32,
    store_i8,
    sum_halves,
)

from .catalog import Batch

COUNT = Batch.COUNT
ZERO = float32(0.0)
SMALLEST = float32(1e-30)  # groups below this are stored as zeros: 127 / max would overflow


@native
def quantize_lines(a, b, x, x_scale):
    """Two lines, a group of 32 columns, to int8 at x with their scale;
    returns the lines' sums, an int16 each."""
    top = max_magnitude(larger_magnitude(a, b))
    scale = top * float32(1.0 / 127.0)
    factor = ZERO
    if top > SMALLEST:
        factor = float32(127.0) / top
        scale = eleven_bits(scale)
    elif top == top:
        scale = ZERO
    qa = nearest(a * splat_f32(factor))
    qb = nearest(b * splat_f32(factor))
    store_i8(x, qa)
    store_i8(x + 16, qb)
    poke_f32(x_scale, scale)
    return sum_halves(qa, qb)


@native
def quantize_group(a, b, x, x_scale, x_sum):
    """One group of 32 columns, in two lines a and b, to int8 at x with its scale and its halves' sums."""
    poke_i32(x_sum, quantize_lines(a, b, x, x_scale))


@native
def quantize(t, work, worker, workers, batch, a, a_stride, x, x_scale, x_sum, dim):
    """Quantize `dim` columns of every token's row of a."""
    groups = (dim + 31) // 32
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for g in range(groups):
            p = a + n * a_stride + g * 128
            left = dim - g * 32
            at = n * groups + g
            quantize_group(
                keep(load_f32(p), 0, left, ZERO),
                keep(load_f32(p + 64), 0, left - 16, ZERO),
                x + at * 32,
                x_scale + at * 4,
                x_sum + at * 4,
            )

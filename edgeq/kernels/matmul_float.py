"""Products with float32 activations: weights stored as floats, or codes read as the numbers they stand for.

Float weights (layout lines16) are [tiles][columns][16] values: lane = row. Columns are added in ascending
order with one fma each. For codes, what shares a sub-scale, or a group of columns, is summed first and then
scaled, as in the int8 product; where there is a min, the sum of the activations is scaled by that. The float
that a row of either may have multiplies what comes of all columns.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    called,
    column,
    fma_each,
    group,
    group_min,
    group_parts,
    group_scale,
    halves,
    has_min,
    load_values,
    native,
    peek_i64,
    quad,
    row_floats,
    scale_each,
    splat_f32,
    sub_min,
    sub_scale,
    tile_parts,
    value_bytes,
    values_at,
    zeros_each,
)

from .matmul import each_tile, finish_tile, share_tiles


@native
def float_product(t, w, x, x_stride, columns):
    """The bundle of sums of one tile of float weights."""
    acc = zeros_each(t)
    for _ in range(columns):
        acc = fma_each(t, acc, load_values(t, w), x, x_stride)
        w += 16 * value_bytes(t)
        x += 4
    return acc


@native
def act_product(t, parts, x, x_stride, columns):
    """The bundle of sums of one tile of codes. The last part may have fewer columns than the others: what
    lies behind them in x may be anything, and the zero that its codes stand for would make NaN of infinity.
    """
    acc = zeros_each(t)
    size = group(t) // halves(t)
    for first in range(0, columns, size):
        w = group_parts(t, parts, first // group(t))
        half = first % group(t) // size
        count = min(size, columns - first)
        sums = act_part(t, w, half, count, x, x_stride)
        acc = scale_each(t, sums, group_scale(t, w) * sub_scale(t, w, half), acc)
        if has_min(t):
            total = act_total(t, count, x, x_stride)
            acc = scale_each(t, total, group_min(t, w) * sub_min(t, w, half), acc)
        x += size * 4
    return acc


@native
def act_part(t, w, half, count, x, x_stride):
    """The bundle of sums of the first `count` columns of a group that share a sub-scale, not scaled."""
    sums = zeros_each(t)
    first = half * (group(t) // 4 // halves(t))
    for i in range(0, count, 4):
        v = quad(t, w, first + i // 4)
        for j in range(min(4, count - i)):
            sums = fma_each(t, sums, column(v, j), x, x_stride)
            x += 4
    return sums


@native
def act_total(t, count, x, x_stride):
    """The sums of the activations themselves, in every lane."""
    sums = zeros_each(t)
    one = splat_f32(float32(1.0))
    for _ in range(count):
        sums = fma_each(t, sums, one, x, x_stride)
        x += 4
    return sums


@called
def float_tokens(t, first, count, tile, w, x, bias, add, y, y_stride):
    """One tile for `count` tokens from `first` on; w is (weights, tiles, columns) and x (x, x_stride)."""
    weights, tiles, columns = w
    parts = tile_parts(t, weights, tiles, columns, tile)
    acc = float_product(t, values_at(t, parts), x[0] + first * x[1], x[1], columns)
    finish_tile(t, acc, row_floats(t, parts), bias, add, y + first * y_stride, y_stride, count)


@called
def act_tokens(t, first, count, tile, w, x, bias, add, y, y_stride):
    """One tile for `count` tokens from `first` on; w is (weights, tiles, columns) and x (x, x_stride)."""
    weights, tiles, columns = w
    parts = tile_parts(t, weights, tiles, columns, tile)
    acc = act_product(t, parts, x[0] + first * x[1], x[1], columns)
    finish_tile(t, acc, row_floats(t, parts), bias, add, y + first * y_stride, y_stride, count)


@native
def matmul_float(
    t, work, worker, workers, batch, x, x_stride, weights, bias, y, y_stride, tiles, columns, add, count_at
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add), W stored as floats."""
    share_tiles(
        t,
        each_tile,
        float_tokens,
        work,
        workers,
        peek_i64(batch + count_at),
        tiles,
        (weights, tiles, columns),
        (x, x_stride),
        x_stride,
        bias,
        add,
        y,
        y_stride,
    )


@native
def matmul_act(
    t, work, worker, workers, batch, x, x_stride, weights, bias, y, y_stride, tiles, columns, add, count_at
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add), W stored as codes, x float32: the exact meaning of the
    weights.
    """
    share_tiles(
        t,
        each_tile,
        act_tokens,
        work,
        workers,
        peek_i64(batch + count_at),
        tiles,
        (weights, tiles, columns),
        (x, x_stride),
        x_stride,
        bias,
        add,
        y,
        y_stride,
    )

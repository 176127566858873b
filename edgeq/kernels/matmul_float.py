"""Products with float32 activations: weights stored as floats, or codes read as the numbers they stand for.

Float weights (layout lines16) are [tiles][columns][16] values: lane = row. Columns are added in ascending
order with one fma each. For codes, a group is summed first and then scaled, so that the scale is applied
once per group as in the int8 product.
"""

from __future__ import annotations

from edgeq.simd.verbs import (
    column,
    fma_each,
    group,
    lines,
    load_codes,
    load_f16,
    load_values,
    native,
    peek_i64,
    plane,
    planes,
    scale_each,
    value_bytes,
    zeros_each,
)

from .matmul import LINE, finish_tile, share_tiles


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
def act_product(t, line, scale, x, x_stride, columns):
    """The bundle of sums of one tile of codes. The last group ends with the columns: what lies behind them in
    x may be anything, and the zero that its codes stand for would make NaN of infinity.
    """
    acc = zeros_each(t)
    whole = columns // group(t)
    for _ in range(whole):
        part = zeros_each(t)
        for _ in range(lines(t)):
            v = load_codes(line)
            for p in range(planes(t)):
                q = plane(t, v, p)
                for j in range(4):
                    part = fma_each(t, part, column(t, q, j), x, x_stride)
                    x += 4
            line += LINE
        acc = scale_each(t, part, load_f16(t, scale), acc)
        scale += 32
    left = columns - whole * group(t)
    if left > 0:
        acc = scale_each(t, act_part(t, line, x, x_stride, left), load_f16(t, scale), acc)
    return acc


@native
def act_part(t, line, x, x_stride, columns):
    """The bundle of sums of the first columns of a group, not scaled."""
    part = zeros_each(t)
    for i in range(columns):
        q = plane(t, load_codes(line + i // (4 * planes(t)) * LINE), i // 4 % planes(t))
        part = fma_each(t, part, column(t, q, i % 4), x + i * 4, x_stride)
    return part


@native
def float_tokens(t, first, w, scale, x, columns, bias, add, y, y_stride):
    """One tile for the tokens from `first` on; x is (x, x_stride), and there is no scale."""
    acc = float_product(t, w, x[0] + first * x[1], x[1], columns)
    finish_tile(t, acc, bias, add, y + first * y_stride, y_stride)


@native
def act_tokens(t, first, line, scale, x, columns, bias, add, y, y_stride):
    """One tile for the tokens from `first` on; x is (x, x_stride)."""
    acc = act_product(t, line, scale, x[0] + first * x[1], x[1], columns)
    finish_tile(t, acc, bias, add, y + first * y_stride, y_stride)


@native
def matmul_float(
    t, work, worker, workers, state, x, x_stride, weights, bias, y, y_stride, tiles, columns, add, count_at
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add), W stored as floats."""
    share_tiles(
        t,
        float_tokens,
        work,
        workers,
        peek_i64(state + count_at),
        tiles,
        weights,
        columns * 16 * value_bytes(t),
        0,
        0,
        (x, x_stride),
        x_stride,
        columns,
        bias,
        add,
        y,
        y_stride,
    )


@native
def matmul_act(
    t,
    work,
    worker,
    workers,
    state,
    x,
    x_stride,
    weights,
    scales,
    bias,
    y,
    y_stride,
    tiles,
    columns,
    add,
    count_at,
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add), W stored as codes, x float32: the exact meaning of the
    weights.
    """
    groups = (columns + group(t) - 1) // group(t)
    share_tiles(
        t,
        act_tokens,
        work,
        workers,
        peek_i64(state + count_at),
        tiles,
        weights,
        groups * lines(t) * LINE,
        scales,
        groups * 32,
        (x, x_stride),
        x_stride,
        columns,
        bias,
        add,
        y,
        y_stride,
    )

"""Products with float32 activations: weights stored as floats, or codes read as the numbers they stand for.

Float weights (layout lines16) are [tiles][columns][16] values: lane = row. Columns are added in ascending
order with one fma each. For codes, a group is summed first and then scaled, so that the scale is applied
once per group as in the int8 product.
"""

from __future__ import annotations

from edgeq.simd.verbs import (
    column,
    fetch_add,
    fma_each,
    lines,
    load_codes,
    load_f16,
    load_values,
    native,
    peek_i64,
    plane,
    planes,
    scale_each,
    single,
    tokens,
    value_bytes,
    zeros_each,
)

from .matmul import LINE, ROWS, TOKENS_AT_ONCE, chunk_size, finish_tile


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
def act_product(t, line, scale, x, x_stride, groups):
    """The bundle of sums of one tile of codes."""
    acc = zeros_each(t)
    for _ in range(groups):
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
    return acc


@native
def float_tokens(t, first, w, x, x_stride, columns, bias, add, y, y_stride):
    finish_tile(
        t,
        float_product(t, w, x + first * x_stride, x_stride, columns),
        bias,
        add,
        y + first * y_stride,
        y_stride,
    )


@native
def act_tokens(t, first, line, scale, x, x_stride, groups, bias, add, y, y_stride):
    finish_tile(
        t,
        act_product(t, line, scale, x + first * x_stride, x_stride, groups),
        bias,
        add,
        y + first * y_stride,
        y_stride,
    )


@native
def matmul_float(
    t, work, worker, workers, state, x, x_stride, weights, bias, y, y_stride, tiles, columns, add, count_at
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add), W stored as floats."""
    count = peek_i64(state + count_at)
    chunk = chunk_size(tiles, workers)
    chunks = (tiles + chunk - 1) // chunk
    blocks = (count + TOKENS_AT_ONCE - 1) // TOKENS_AT_ONCE
    one = single(t)
    while True:
        task = fetch_add(work, 1)
        if task >= chunks * blocks:
            break
        first = (task % chunks) * chunk
        low = (task // chunks) * TOKENS_AT_ONCE
        high = min(low + TOKENS_AT_ONCE, count)
        for tile in range(first, min(first + chunk, tiles)):
            w = weights + tile * columns * 16 * value_bytes(t)
            row_bias = bias + tile * ROWS if bias != 0 else 0
            n = low
            while n + tokens(t) <= high:
                float_tokens(t, n, w, x, x_stride, columns, row_bias, add, y + tile * ROWS, y_stride)
                n += tokens(t)
            while n < high:
                float_tokens(one, n, w, x, x_stride, columns, row_bias, add, y + tile * ROWS, y_stride)
                n += 1


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
    groups,
    add,
    count_at,
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add), W stored as codes, x float32: the exact meaning of the
    weights.
    """
    count = peek_i64(state + count_at)
    chunk = chunk_size(tiles, workers)
    chunks = (tiles + chunk - 1) // chunk
    blocks = (count + TOKENS_AT_ONCE - 1) // TOKENS_AT_ONCE
    tile_bytes = groups * lines(t) * LINE
    one = single(t)
    while True:
        task = fetch_add(work, 1)
        if task >= chunks * blocks:
            break
        first = (task % chunks) * chunk
        low = (task // chunks) * TOKENS_AT_ONCE
        high = min(low + TOKENS_AT_ONCE, count)
        for tile in range(first, min(first + chunk, tiles)):
            line = weights + tile * tile_bytes
            scale = scales + tile * groups * 32
            row_bias = bias + tile * ROWS if bias != 0 else 0
            n = low
            while n + tokens(t) <= high:
                act_tokens(t, n, line, scale, x, x_stride, groups, row_bias, add, y + tile * ROWS, y_stride)
                n += tokens(t)
            while n < high:
                act_tokens(one, n, line, scale, x, x_stride, groups, row_bias, add, y + tile * ROWS, y_stride)
                n += 1

"""The likeliest token: where the largest logit of a row stands."""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    exchange,
    fetch_add,
    keep,
    larger,
    load_f32,
    max_f32,
    native,
    peek_f32,
    peek_i64,
    splat_f32,
    sum_f32,
)

ZERO = float32(0.0)
LOWEST = float32(-3.4028235e38)


@native
def row_argmax(row, columns):
    """The first of the largest of `columns` values, or -1 where one of them is no finite number."""
    top, check = splat_f32(LOWEST), splat_f32(ZERO)
    for i in range(0, columns, 16):
        v = keep(load_f32(row + i * 4), 0, columns - i, LOWEST)
        top = larger(v, top)
        check = check + v * splat_f32(ZERO)  # 0 times what is not finite is NaN
    if sum_f32(check) != ZERO:
        return -1
    most = max_f32(top)
    for i in range(columns):
        if peek_f32(row + i * 4) == most:
            return i
    return -1


@native
def argmax(t, work, worker, workers, batch, y, y_stride, columns, likeliest, count_at):
    """likeliest [count] int64: row_argmax of each row of y."""
    count = peek_i64(batch + count_at)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        exchange(likeliest + n * 8, row_argmax(y + n * y_stride, columns))

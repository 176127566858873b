"""What is done to rows between the products: scaled, capped, added, told their positions."""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    fetch_add,
    float_bits,
    keep,
    load_f32,
    native,
    peek_f32,
    peek_i64,
    poke_f32,
    splat_f32,
    store_f32,
)

from .batch import counted_row, position_of
from .catalog import Batch
from .mathematics import tanh

COUNT = Batch.COUNT
ZERO = float32(0.0)


@native
def scale(t, work, worker, workers, batch, x, x_stride, dim, factor, cap, count_at):
    """The first rows of x, as many as are counted at count_at, times `factor`, in place; and, where `cap` is
    not 0, cap * tanh(that / cap). Both are float32's bits.
    """
    count = peek_i64(batch + count_at)
    times, most = splat_f32(float_bits(factor)), splat_f32(float_bits(cap))
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for i in range(0, dim, 16):
            p = x + n * x_stride + i * 4
            v = load_f32(p) * times
            if cap != 0:
                v = most * tanh(v / most)
            store_f32(p, keep(v, 0, dim - i, ZERO))


@native
def copy(t, work, worker, workers, batch, a, a_stride, y, y_stride, dim, count_at):
    """The rows of a that are counted at count_at, to the first rows of y."""
    count = peek_i64(batch + count_at)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = a + counted_row(batch, count_at, n) * a_stride
        for i in range(0, dim, 16):
            store_f32(y + n * y_stride + i * 4, keep(load_f32(row + i * 4), 0, dim - i, ZERO))


@native
def add(t, work, worker, workers, batch, a, a_stride, x, x_stride, dim, factor):
    """factor * a, added to x row by row; the factor is a float32's bits."""
    count = peek_i64(batch + COUNT)
    times = splat_f32(float_bits(factor))
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for i in range(0, dim, 16):
            p = x + n * x_stride + i * 4
            store_f32(p, load_f32(p) + keep(load_f32(a + n * a_stride + i * 4) * times, 0, dim - i, ZERO))


@native
def add_positions(t, work, worker, workers, batch, x, x_stride, table, dim, positions):
    """To each row of x the row of its position added, of a table float32 [positions, dim] without gaps."""
    count = peek_i64(batch + COUNT)
    whole = dim // 16 * 16
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row, own = x + n * x_stride, table + position_of(batch, n) * dim * 4
        for i in range(0, whole, 16):
            p = row + i * 4
            store_f32(p, load_f32(p) + load_f32(own + i * 4))
        for i in range(whole, dim):  # one by one: a line would reach beyond the table's last row
            p = row + i * 4
            poke_f32(p, peek_f32(p) + peek_f32(own + i * 4))

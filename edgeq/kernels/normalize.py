"""RMSNorm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + epsilon) * weight, alone, with the quantization
of its result, or added to other rows.

The sum of squares runs in 16 lanes with fma and is folded by halves. `epsilon` is an operand: the
float32's bits.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    fetch_add,
    float_bits,
    fma,
    keep,
    load_f32,
    native,
    peek_f32,
    peek_i64,
    poke_f32,
    root,
    splat_f32,
    store_f32,
    sum_f32,
)

from .activations import quantize_group
from .batch import counted_row
from .catalog import Batch

COUNT = Batch.COUNT
ZERO = float32(0.0)


@native
def root_mean_square_factor(x, dim, epsilon):
    """1 / sqrt(mean of the squares of dim values at x + epsilon)."""
    acc = splat_f32(ZERO)
    for i in range(0, dim, 16):
        v = keep(load_f32(x + i * 4), 0, dim - i, ZERO)
        acc = fma(v, v, acc)
    mean = sum_f32(acc) / float32(dim)
    return float32(1.0) / root(mean + float_bits(epsilon))


@native
def normed(x, weight, factor, left):
    """One line of the result, zero from lane `left` on."""
    return keep(load_f32(x) * splat_f32(factor) * load_f32(weight), 0, left, ZERO)


@native
def norm(t, work, worker, workers, batch, a, a_stride, weight, y, y_stride, dim, epsilon, count_at):
    """The rows of a that are counted at count_at, to the first rows of y."""
    count = peek_i64(batch + count_at)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = a + counted_row(batch, count_at, n) * a_stride
        factor = root_mean_square_factor(row, dim, epsilon)
        for i in range(0, dim, 16):
            store_f32(y + n * y_stride + i * 4, normed(row + i * 4, weight + i * 4, factor, dim - i))


@native
def norm_quantize(
    t, work, worker, workers, batch, a, a_stride, weight, x, x_scale, x_sum, dim, epsilon, count_at
):
    """As `norm`, the result quantized to int8."""
    count = peek_i64(batch + count_at)
    groups = (dim + 31) // 32
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = a + counted_row(batch, count_at, n) * a_stride
        factor = root_mean_square_factor(row, dim, epsilon)
        for g in range(groups):
            i = g * 32
            at = n * groups + g
            quantize_group(
                normed(row + i * 4, weight + i * 4, factor, dim - i),
                normed(row + i * 4 + 64, weight + i * 4 + 64, factor, dim - i - 16),
                x + at * 32,
                x_scale + at * 4,
                x_sum + at * 4,
            )


@native
def norm_add(t, work, worker, workers, batch, a, a_stride, weight, x, x_stride, dim, epsilon, factor):
    """Each row of a, normalized and times `factor`, added to the row of x."""
    count = peek_i64(batch + COUNT)
    times = splat_f32(float_bits(factor))
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row, to = a + n * a_stride, x + n * x_stride
        mean = root_mean_square_factor(row, dim, epsilon)
        for i in range(0, dim, 16):
            p = to + i * 4
            store_f32(p, load_f32(p) + normed(row + i * 4, weight + i * 4, mean, dim - i) * times)


@native
def norm_heads(t, work, worker, workers, batch, x, x_stride, weight, heads, kinds, head_dim, epsilon):
    """Every head of every token's row of x normalized in place (QK-norm), with one weight for all or each its
    own of so many `kinds`; a weight of 0 is none, as one of ones would be.
    """
    count = peek_i64(batch + COUNT)
    one = splat_f32(float32(1.0))
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for h in range(heads):
            row = x + n * x_stride + h * head_dim * 4
            own = weight + h % kinds * head_dim * 4
            factor = root_mean_square_factor(row, head_dim, epsilon)
            whole = head_dim // 16 * 16
            for i in range(0, whole, 16):
                p = row + i * 4
                w = load_f32(own + i * 4) if weight != 0 else one
                store_f32(p, load_f32(p) * splat_f32(factor) * w)
            for i in range(whole, head_dim):  # one by one: a line would reach into the next head or row
                p = row + i * 4
                w = peek_f32(own + i * 4) if weight != 0 else float32(1.0)
                poke_f32(p, peek_f32(p) * factor * w)

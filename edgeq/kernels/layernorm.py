"""LayerNorm (Ba, Kiros and Hinton 2016): (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight + bias,
alone, with the quantization of its result, or of single heads.

Sums run in 16 lanes and are folded by halves, that of the squares with fma. `epsilon` is an operand: the
float32's bits; where `bias` is 0 there is none.
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
def mean_of(x, dim):
    """The mean of dim values at x."""
    acc = splat_f32(ZERO)
    for i in range(0, dim, 16):
        acc = acc + keep(load_f32(x + i * 4), 0, dim - i, ZERO)
    return sum_f32(acc) / float32(dim)


@native
def deviation_factor(x, mean, dim, epsilon):
    """1 / sqrt(mean of the squares of dim values at x less their mean + epsilon)."""
    acc = splat_f32(ZERO)
    for i in range(0, dim, 16):
        v = keep(load_f32(x + i * 4) - splat_f32(mean), 0, dim - i, ZERO)
        acc = fma(v, v, acc)
    return float32(1.0) / root(sum_f32(acc) / float32(dim) + float_bits(epsilon))


@native
def centred(x, mean, factor, weight, bias, at, left):
    """One line of the result, from column `at` on, zero from lane `left` on."""
    v = (load_f32(x + at) - splat_f32(mean)) * splat_f32(factor) * load_f32(weight + at)
    if bias != 0:
        v = v + load_f32(bias + at)
    return keep(v, 0, left, ZERO)


@native
def layer_norm(
    t, work, worker, workers, batch, a, a_stride, weight, bias, y, y_stride, dim, epsilon, count_at
):
    """The rows of a that are counted at count_at, to the first rows of y."""
    count = peek_i64(batch + count_at)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = a + counted_row(batch, count_at, n) * a_stride
        mean = mean_of(row, dim)
        factor = deviation_factor(row, mean, dim, epsilon)
        for i in range(0, dim, 16):
            store_f32(y + n * y_stride + i * 4, centred(row, mean, factor, weight, bias, i * 4, dim - i))


@native
def layer_norm_quantize(
    t, work, worker, workers, batch, a, a_stride, weight, bias, x, x_scale, x_sum, dim, epsilon, count_at
):
    """As `layer_norm`, the result quantized to int8."""
    count = peek_i64(batch + count_at)
    groups = (dim + 31) // 32
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = a + counted_row(batch, count_at, n) * a_stride
        mean = mean_of(row, dim)
        factor = deviation_factor(row, mean, dim, epsilon)
        for g in range(groups):
            left, p, at = dim - g * 32, g * 128, n * groups + g
            quantize_group(
                centred(row, mean, factor, weight, bias, p, left),
                centred(row, mean, factor, weight, bias, p + 64, left - 16),
                x + at * 32,
                x_scale + at * 4,
                x_sum + at * 4,
            )


@native
def layer_norm_heads(t, work, worker, workers, batch, x, x_stride, weight, heads, head_dim, epsilon):
    """Every head of every token's row of x in place, each with a weight of its own, without bias."""
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for h in range(heads):
            row = x + n * x_stride + h * head_dim * 4
            own = weight + h * head_dim * 4
            mean = mean_of(row, head_dim)
            factor = deviation_factor(row, mean, head_dim, epsilon)
            for i in range(head_dim):  # one by one: a line would reach into the next head or row
                p = row + i * 4
                poke_f32(p, (peek_f32(p) - mean) * factor * peek_f32(own + i * 4))

"""Activations, alone and as gates of another row (Shazeer 2020), with and without the quantization of what
comes of them; the table says which are used how.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    fetch_add,
    float_bits,
    fma,
    keep,
    larger,
    load_f32,
    native,
    peek_i64,
    splat_f32,
    store_f32,
    where_less,
)

from . import mathematics
from .activations import quantize_group
from .catalog import Batch

COUNT = Batch.COUNT
ZERO = float32(0.0)
PIECE = 8  # groups that a worker takes at a time


def times(activation):
    """activation(gate) * up."""

    @native
    def joined(gate, up):
        return activation(gate) * up

    return joined


@native
def clamped(gate, up):
    """(u + 1) g sigmoid(1.702 g), with g the gate, at most 7, and u between -7 and 7 (gpt-oss)."""
    one, highest, lowest = (splat_f32(float32(1.0)), splat_f32(float32(7.0)), splat_f32(float32(-7.0)))
    g = where_less(highest, gate, highest, gate)  # a NaN stays one
    u = where_less(highest, up, highest, where_less(up, lowest, lowest, up))
    minus = splat_f32(ZERO) - larger(splat_f32(float32(-87.0)), g * splat_f32(float32(1.702)))
    return (u + one) * (g / (one + mathematics.exp(minus)))


def gated(joined):
    """The kernels of joined(gate, up), of `each` rows for a token: (float32 rows, int8 rows)."""

    @native
    def line(gate, up, left):
        """One line of the result, zero from lane `left` on."""
        return keep(joined(load_f32(gate), load_f32(up)), 0, left, ZERO)

    @native
    def floats(t, work, worker, workers, batch, gate, gate_stride, up, up_stride, y, y_stride, dim, each):
        count = peek_i64(batch + COUNT) * each
        while True:
            n = fetch_add(work, 1)
            if n >= count:
                break
            g, u = gate + n * gate_stride, up + n * up_stride
            for i in range(0, dim, 16):
                store_f32(y + n * y_stride + i * 4, line(g + i * 4, u + i * 4, dim - i))

    @native
    def quantized(
        t, work, worker, workers, batch, gate, gate_stride, up, up_stride, x, x_scale, x_sum, dim, each
    ):
        groups = (dim + 31) // 32
        pieces = (groups + PIECE - 1) // PIECE
        count = peek_i64(batch + COUNT) * each
        while True:
            task = fetch_add(work, 1)
            if task >= count * pieces:
                break
            n = task // pieces
            first = (task % pieces) * PIECE
            for g in range(first, min(first + PIECE, groups)):
                p, u = gate + n * gate_stride + g * 128, up + n * up_stride + g * 128
                left = dim - g * 32
                at = n * groups + g
                quantize_group(
                    line(p, u, left),
                    line(p + 64, u + 64, left - 16),
                    x + at * 32,
                    x_scale + at * 4,
                    x_sum + at * 4,
                )

    return floats, quantized


def alone(activation):
    """The kernels of activation(a): (float32 rows, int8 rows)."""

    @native
    def line(a, left):
        """One line of the result, zero from lane `left` on."""
        return keep(activation(load_f32(a)), 0, left, ZERO)

    @native
    def floats(t, work, worker, workers, batch, a, a_stride, y, y_stride, dim):
        count = peek_i64(batch + COUNT)
        while True:
            n = fetch_add(work, 1)
            if n >= count:
                break
            for i in range(0, dim, 16):
                store_f32(y + n * y_stride + i * 4, line(a + n * a_stride + i * 4, dim - i))

    @native
    def quantized(t, work, worker, workers, batch, a, a_stride, x, x_scale, x_sum, dim):
        groups = (dim + 31) // 32
        pieces = (groups + PIECE - 1) // PIECE
        count = peek_i64(batch + COUNT)
        while True:
            task = fetch_add(work, 1)
            if task >= count * pieces:
                break
            n = task // pieces
            first = (task % pieces) * PIECE
            for g in range(first, min(first + PIECE, groups)):
                p = a + n * a_stride + g * 128
                left = dim - g * 32
                at = n * groups + g
                quantize_group(
                    line(p, left), line(p + 64, left - 16), x + at * 32, x_scale + at * 4, x_sum + at * 4
                )

    return floats, quantized


gated_silu, gated_silu_quantize = gated(times(mathematics.silu))
gated_gelu, gated_gelu_quantize = gated(times(mathematics.gelu))
gated_sigmoid, gated_sigmoid_quantize = gated(times(mathematics.sigmoid))
gated_clamped, gated_clamped_quantize = gated(clamped)
gated_relu2, _ = gated(times(mathematics.relu2))
gelu, gelu_quantize = alone(mathematics.gelu)
gelu_erf, gelu_erf_quantize = alone(mathematics.gelu_erf)


@native
def xielu(t, work, worker, workers, batch, x, x_stride, dim, positive, negative, slope, highest):
    """Every row of x in place: positive x^2 + slope x above 0, else negative (expm1(min(x, highest)) - x) +
    slope x (Huang and Schlag 2025). The four numbers are float32's bits.
    """
    count = peek_i64(batch + COUNT)
    above, below = splat_f32(float_bits(positive)), splat_f32(float_bits(negative))
    rise, most, zero = splat_f32(float_bits(slope)), splat_f32(float_bits(highest)), splat_f32(ZERO)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for i in range(0, dim, 16):
            p = x + n * x_stride + i * 4
            v = load_f32(p)
            low = below * (mathematics.expm1(where_less(most, v, most, v)) - v)
            store_f32(p, keep(fma(rise, v, where_less(zero, v, above * v * v, low)), 0, dim - i, ZERO))

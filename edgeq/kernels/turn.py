"""Turning heads by a Hadamard matrix, so that a few large dimensions are spread over all before rounding.

A head of `dims` dimensions (padded with zeros to a multiple of 32) is turned in blocks, each of the largest
power of two that divides dims. With H the block's matrix of 1 and -1, H . H is `block` times the identity:
what was turned twice, or a product of two turned heads, is `block` times what it was, and whoever turns
divides by it somewhere, which rounds nothing. A butterfly is one addition and one subtraction, strides go
from 1 to block / 2: the order is fixed, and with it the bits.
"""

from __future__ import annotations

from edgeq.simd.verbs import hadamard, load_f32, native, store_f32


@native
def block(dims):
    """How many neighbouring dimensions are turned together: the largest power of two that divides dims."""
    return dims & -dims


@native
def turn(x, dims):
    """Turn the float32 x [dims] in place."""
    for i in range(0, dims, 16):
        store_f32(x + i * 4, hadamard(load_f32(x + i * 4)))
    stride = 16
    while stride < block(dims):
        for first in range(0, dims, stride * 2):
            for i in range(first, first + stride, 16):
                low, high = x + i * 4, x + (i + stride) * 4
                a, b = load_f32(low), load_f32(high)
                store_f32(low, a + b)
                store_f32(high, a - b)
        stride *= 2

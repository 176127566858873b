"""Functions of lines of float32, built from verbs alone, so that every CPU computes the same bits."""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import fma, larger, native, nearest, power2, splat_f32, where_less, whole

LOG2_E = float32(1.4426950408889634)
LN2_HIGH = float32(0.693359375)  # ten bits: n * LN2_HIGH is exact for |n| < 2**14
LN2_LOW = float32(-2.12194440e-4)
LOWEST = float32(-87.0)  # exp(-87) is about the smallest normal float32


@native
def exp(x):
    """e to the x for x <= 88; below -87 it stays at exp(-87), and never is 0. Relative error below 2.4e-7."""
    x = larger(splat_f32(LOWEST), x)  # in this order a NaN stays one
    y = x * splat_f32(LOG2_E)
    f = whole(y)
    r = fma(f, splat_f32(-LN2_LOW), fma(f, splat_f32(-LN2_HIGH), x))
    p = splat_f32(float32(1.0 / 720.0))
    p = fma(p, r, splat_f32(float32(1.0 / 120.0)))
    p = fma(p, r, splat_f32(float32(1.0 / 24.0)))
    p = fma(p, r, splat_f32(float32(1.0 / 6.0)))
    p = fma(p, r, splat_f32(float32(0.5)))
    p = fma(p, r, splat_f32(float32(1.0)))
    p = fma(p, r, splat_f32(float32(1.0)))
    return p * power2(nearest(y))


@native
def exp2(x):
    """2 to the x for x < 128; below -126 it stays at 2**-126, and never is 0. Relative error below 1.8e-7:
    of the polynomials of degree 5 that are 1 at 0 this is the nearest to 2 to the r for |r| <= 1/2.
    """
    x = larger(splat_f32(float32(-126.0)), x)  # in this order a NaN stays one
    r = x - whole(x)
    p = splat_f32(float32(0.001326472731307149))
    p = fma(p, r, splat_f32(float32(0.009671512991189957)))
    p = fma(p, r, splat_f32(float32(0.05550733581185341)))
    p = fma(p, r, splat_f32(float32(0.24022242426872253)))
    p = fma(p, r, splat_f32(float32(0.6931470036506653)))
    p = fma(p, r, splat_f32(float32(1.0)))
    return p * power2(nearest(x))


@native
def silu(x):
    """x / (1 + exp(-x)). Relative error below 3.2e-7."""
    one = splat_f32(float32(1.0))
    highest = splat_f32(float32(87.0))
    minus = splat_f32(float32(0.0)) - larger(splat_f32(float32(0.0)) - highest, x)  # -x, at most 87
    return x / (one + exp(minus))


@native
def tanh(x):
    """The hyperbolic tangent; NaN of NaN. Relative error below 2.8e-7: near 0, where 1 - 2 / (exp(2 x) + 1)
    cancels, it is the polynomial of Cephes' tanhf.
    """
    square = x * x
    p = splat_f32(float32(-5.70498872745e-3))
    p = fma(p, square, splat_f32(float32(2.06390887954e-2)))
    p = fma(p, square, splat_f32(float32(-5.37397155531e-2)))
    p = fma(p, square, splat_f32(float32(1.33314422036e-1)))
    p = fma(p, square, splat_f32(float32(-3.33332819422e-1)))
    small = fma(x * square, p, x)
    zero, one = splat_f32(float32(0.0)), splat_f32(float32(1.0))
    double = zero - larger(splat_f32(float32(-40.0)), zero - (x + x))  # at most 40
    large = one - splat_f32(float32(2.0)) / (exp(double) + one)
    return where_less(square, splat_f32(float32(0.390625)), small, large)

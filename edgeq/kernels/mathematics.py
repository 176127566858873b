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
def sigmoid(x):
    """1 / (1 + exp(-x)). Relative error below 3.2e-7."""
    one = splat_f32(float32(1.0))
    highest = splat_f32(float32(87.0))
    minus = splat_f32(float32(0.0)) - larger(splat_f32(float32(0.0)) - highest, x)  # -x, at most 87
    return one / (one + exp(minus))


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


@native
def gelu(x):
    """x times the normal distribution's mass below x, by the tanh approximation of Hendrycks and Gimpel 2016:
    x / (1 + exp(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3).
    """
    twice = splat_f32(float32(1.5957691216057308))  # 2 sqrt(2 / pi)
    u = x * twice * fma(x * x, splat_f32(float32(0.044715)), splat_f32(float32(1.0)))
    zero, one = splat_f32(float32(0.0)), splat_f32(float32(1.0))
    minus = zero - larger(splat_f32(float32(-87.0)), u)
    return x / (one + exp(minus))


@native
def gelu_erf(x):
    """The same, exact: x / 2 (1 + erf(x / sqrt(2))). Absolute error of erf below 3e-7: up to 1 it is x times
    a polynomial of x^2, beyond 1 - t exp(-x^2 + p(t)) with t = 1 / (1 + |x| / 2), both fitted to it.
    """
    zero, one, half = splat_f32(float32(0.0)), splat_f32(float32(1.0)), splat_f32(float32(0.5))
    y = x * splat_f32(float32(0.7071067811865476))
    square = y * y
    p = splat_f32(float32(8.00655067037311e-05))
    p = fma(p, square, splat_f32(float32(-0.000805365018726129)))
    p = fma(p, square, splat_f32(float32(0.005192945798403472)))
    p = fma(p, square, splat_f32(float32(-0.026856062671608227)))
    p = fma(p, square, splat_f32(float32(0.11283634443744457)))
    p = fma(p, square, splat_f32(float32(-0.37612629744671566)))
    p = fma(p, square, splat_f32(float32(1.1283791662251734)))
    magnitude = where_less(y, zero, zero - y, y)
    t = one / fma(magnitude, half, one)
    q = splat_f32(float32(0.12924978848823565))
    q = fma(q, t, splat_f32(float32(-0.11861951129541728)))
    q = fma(q, t, splat_f32(float32(-0.34675415964623063)))
    q = fma(q, t, splat_f32(float32(0.29193708268195745)))
    q = fma(q, t, splat_f32(float32(0.2987074924530602)))
    q = fma(q, t, splat_f32(float32(1.0138369544082066)))
    q = fma(q, t, splat_f32(float32(-1.2665221105095283)))
    beyond = one - t * exp(q - square)
    large = where_less(y, zero, zero - beyond, beyond)
    return half * x * (one + where_less(square, one, y * p, large))


@native
def relu2(x):
    """The square of x above 0, else 0; NaN of NaN."""
    zero = splat_f32(float32(0.0))
    positive = where_less(x, zero, zero, x)
    return positive * positive


@native
def expm1(x):
    """exp(x) - 1 of x <= 0, to 1e-7 of it: near 0, where that cancels, x times a polynomial."""
    p = splat_f32(float32(0.001123535712936743))
    p = fma(p, x, splat_f32(float32(0.008188416797609167)))
    p = fma(p, x, splat_f32(float32(0.041628781147036414)))
    p = fma(p, x, splat_f32(float32(0.16666198662506718)))
    p = fma(p, x, splat_f32(float32(0.4999997678014142)))
    p = fma(p, x, splat_f32(float32(1.0)))
    return where_less(splat_f32(float32(-0.5)), x, p * x, exp(x) - splat_f32(float32(1.0)))


@native
def softplus(x):
    """log(1 + exp(x)). Relative error below 4e-7: max(x, 0) + log(1 + t) with t = exp(-|x|), the logarithm
    the series of 2 atanh(t / (2 + t)).
    """
    zero, two = splat_f32(float32(0.0)), splat_f32(float32(2.0))
    t = exp(zero - where_less(x, zero, zero - x, x))
    s = t / (two + t)
    square = s * s
    p = splat_f32(float32(1.0 / 15.0))
    p = fma(p, square, splat_f32(float32(1.0 / 13.0)))
    p = fma(p, square, splat_f32(float32(1.0 / 11.0)))
    p = fma(p, square, splat_f32(float32(1.0 / 9.0)))
    p = fma(p, square, splat_f32(float32(1.0 / 7.0)))
    p = fma(p, square, splat_f32(float32(1.0 / 5.0)))
    p = fma(p, square, splat_f32(float32(1.0 / 3.0)))
    p = fma(p, square, splat_f32(float32(1.0)))
    return fma(s + s, p, where_less(x, zero, zero, x))

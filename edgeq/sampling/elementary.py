"""Logarithm, exponential and power of single numbers, of nothing but sums and products: the same bits on
every machine, where a C library's functions differ in the last place."""

from __future__ import annotations

import math

LN2_HIGH = 0.693145751953125  # 16 bits: n * LN2_HIGH is exact
LN2_LOW = 1.4286068203094172e-06
LN2 = 0.6931471805599453
LOG_TERMS = tuple(2.0 / n for n in range(23, 0, -2))
EXP_TERMS = tuple(1.0 / math.factorial(n) for n in range(14, -1, -1))
OVERFLOWS = 709.0


def log(x: float) -> float:
    """The natural logarithm; -infinity for 0. Relative error below 1e-15 away from 1."""
    if x == 0:
        return -math.inf
    mantissa, exponent = math.frexp(x)
    if mantissa < 0.7071067811865476:
        mantissa, exponent = 2 * mantissa, exponent - 1
    s = (mantissa - 1) / (mantissa + 1)
    square, series = s * s, 0.0
    for term in LOG_TERMS:
        series = series * square + term
    return exponent * LN2_HIGH + (s * series + exponent * LN2_LOW)


def exp(x: float) -> float:
    """e to the x, infinity above 709. Relative error below 1e-15."""
    if x > OVERFLOWS:
        return math.inf
    n = float(round(max(x, -OVERFLOWS) / LN2))
    r = (max(x, -OVERFLOWS) - n * LN2_HIGH) - n * LN2_LOW
    series = 0.0
    for term in EXP_TERMS:
        series = series * r + term
    return math.ldexp(series, int(n))


def power(x: float, y: float) -> float:
    """x to the y, for x >= 0."""
    if y == 0:
        return 1.0
    if x == 0:
        return 0.0 if y > 0 else math.inf
    return exp(y * log(x))

"""Arithmetic of lines: 16 lanes of float32 or int32. `+ - * /` work on them as in NumPy."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import lower_builtin, type_callable

from ..isa import vectors
from ..isa.vectors import F32, F32X16, I16, I32, I32X16, I64, LANES, const, pick, splat
from .registry import ADDRESS, FLOAT, INT, MEANING, Vec, f32, i32, verb


@verb(f32, (FLOAT,), lambda b, x: splat(b, x))
def splat_f32(x: Any) -> Any:
    return np.full(LANES, x, np.float32)


def _fused(x: float, y: float, z: float) -> np.float32:
    """x * y + z rounded once to float32: the nearest of the double's neighbours, ties to an even mantissa."""
    if not np.isfinite([x, y, z]).all():
        return np.float32(x * y + z)
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    near = np.float32(float(exact))
    if not np.isfinite(near) or exact == 0:
        return np.float32(x * y + z) if exact == 0 else near
    around = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    finite = [c for c in around if np.isfinite(c)]
    best: np.float32 = min(
        finite, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(np.uint32)) & 1)
    )
    return best


@verb(f32, (f32, f32, f32), vectors.fma)
def fma(x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    return np.array(
        [_fused(float(p), float(q), float(r)) for p, q, r in zip(x, y, z, strict=True)], np.float32
    )


fma_meaning = MEANING["fma"]


@verb(f32, (f32, f32), lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
def larger(x: Any, y: Any) -> Any:
    """Per lane: x where x > y, else y (a NaN in x is dropped)."""
    return np.where(x > y, x, y)


def _where_less(b: Any, x: Any, y: Any, a: Any, other: Any) -> Any:
    return b.select(b.fcmp_ordered("<", x, y), a, other)


@verb(f32, (f32, f32, f32, f32), _where_less)
def where_less(x: Any, y: Any, a: Any, b: Any) -> Any:
    """Per lane: a where x < y, else b (as where one of them is a NaN)."""
    return np.where(x < y, a, b)


@verb(f32, (f32, f32, f32, f32), lambda b, x, y, v, w: b.select(b.fcmp_ordered(">=", x, y), v, w))
def where_at_least(x: Any, y: Any, v: Any, w: Any) -> Any:
    """Per lane: v where x >= y, else w."""
    return np.where(x >= y, v, w)


def _absolute(b: Any, x: Any) -> Any:
    return b.and_(b.bitcast(x, I32X16), const(I32X16, 0x7FFFFFFF))


def _greater(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed(">", x, y), x, y)


@verb(f32, (f32, f32), lambda b, x, y: b.bitcast(_greater(b, _absolute(b, x), _absolute(b, y)), F32X16))
def larger_magnitude(x: Any, y: Any) -> Any:
    """Per lane the larger of |x| and |y|, compared as integers, so that a NaN counts above infinity."""
    p, q = np.abs(x).view(np.int32), np.abs(y).view(np.int32)
    return np.where(p > q, p, q).view(np.float32)


def _max_magnitude(b: Any, v: Any) -> Any:
    return b.bitcast(tree(b, b.bitcast(v, I32X16), lambda x, y: _greater(b, x, y)), F32)


@verb(FLOAT, (f32,), _max_magnitude)
def max_magnitude(v: Any) -> Any:
    """The largest lane of magnitudes, a NaN above infinity."""
    return v.view(np.int32).max().view(np.float32)


_MAGIC = 12582912.0  # 1.5 * 2**23: adding it leaves the rounded integer in the low mantissa bits


@verb(
    i32,
    (f32,),
    lambda b, x: b.sub(b.bitcast(b.fadd(x, const(F32X16, _MAGIC)), I32X16), const(I32X16, 0x4B400000)),
)
def nearest(x: Any) -> Any:
    """The nearest integer, ties to even, for |x| < 2**22."""
    return (x + np.float32(_MAGIC)).view(np.int32) - np.int32(0x4B400000)


@verb(f32, (f32,), lambda b, x: b.fsub(b.fadd(x, const(F32X16, _MAGIC)), const(F32X16, _MAGIC)))
def whole(x: Any) -> Any:
    """The nearest integer as float32, ties to even, for |x| < 2**22."""
    return (x + np.float32(_MAGIC)) - np.float32(_MAGIC)


def _power2(b: Any, n: Any) -> Any:
    return b.bitcast(b.shl(b.add(n, const(I32X16, 127)), const(I32X16, 23)), F32X16)


@verb(f32, (i32,), _power2)
def power2(n: Any) -> Any:
    """2 to the n, for n in -126..127."""
    return ((n + 127) << 23).astype(np.int32).view(np.float32)


def tree(b: Any, v: Any, op: Callable[[Any, Any], Any], last: int = 1) -> Any:
    """The halves of v, then of what comes of them, until `last` lanes are left."""
    n = v.type.count
    while n > last:
        n //= 2
        v = op(pick(b, v, list(range(n))), pick(b, v, list(range(n, 2 * n))))
    return b.extract_element(v, ir.Constant(I32, 0)) if last == 1 else v


@verb(FLOAT, (f32,), lambda b, v: tree(b, v, b.fadd))
def sum_f32(v: Any) -> Any:
    """The sum of 16 lanes by halves: lane i + lane i+8, then i+4, i+2, i+1."""
    while len(v) > 1:
        v = v[: len(v) // 2] + v[len(v) // 2 :]
    return v[0]


def _sum_halves(b: Any, x: Any, y: Any) -> Any:
    pairs = b.or_(b.and_(x, const(I32X16, 0xFFFF)), b.shl(y, const(I32X16, 16)))
    return b.bitcast(tree(b, b.bitcast(pairs, ir.VectorType(I16, 2 * LANES)), b.add, 2), I32)


@verb(INT, (i32, i32), _sum_halves)
def sum_halves(x: Any, y: Any) -> Any:
    """Two int16: the sum of x in the low half, that of y in the high half."""
    return np.array([x.sum(), y.sum()]).astype(np.int16).view(np.int32)[0]


@verb(FLOAT, (f32,), lambda b, v: tree(b, v, lambda x, y: b.select(b.fcmp_ordered(">", x, y), x, y)))
def max_f32(v: Any) -> Any:
    """The largest lane, by halves as in sum_f32."""
    while len(v) > 1:
        x, y = v[: len(v) // 2], v[len(v) // 2 :]
        v = np.where(x > y, x, y)
    return v[0]


def _hadamard(b: Any, v: Any) -> Any:
    for stride in (1, 2, 4, 8):
        other = pick(b, v, [n ^ stride for n in range(LANES)])
        low, high = b.fadd(v, other), b.fsub(other, v)
        v = pick(b, low, [n + LANES * bool(n & stride) for n in range(LANES)], high)
    return v


@verb(f32, (f32,), _hadamard)
def hadamard(v: Any) -> Any:
    """The Walsh-Hadamard transform of 16 lanes, not normalized: lanes i and i + 1 become their sum and their
    difference, then those that are 2, 4, 8 apart.
    """
    for stride in (1, 2, 4, 8):
        low, high = np.moveaxis(v.reshape(-1, 2, stride), 1, 0)
        v = np.stack([low + high, low - high], 1).reshape(LANES)
    return v


_IOTA = ir.Constant(I32X16, list(range(LANES)))


def _keep(b: Any, v: Any, first: Any, last: Any, other: Any) -> Any:
    def bound(n: Any) -> Any:  # clamped, so that the lane numbers compare in 32 bits
        low = b.select(b.icmp_signed("<", n, ir.Constant(I64, 0)), ir.Constant(I64, 0), n)
        return splat(
            b,
            b.trunc(
                b.select(b.icmp_signed(">", low, ir.Constant(I64, LANES)), ir.Constant(I64, LANES), low), I32
            ),
        )

    inside = b.and_(b.icmp_signed(">=", _IOTA, bound(first)), b.icmp_signed("<", _IOTA, bound(last)))
    return b.select(inside, v, splat(b, other))


@verb(f32, (f32, ADDRESS, ADDRESS, FLOAT), _keep)
def keep(v: Any, first: int, last: int, other: Any) -> Any:
    """Lanes first <= i < last of v, and `other` in the rest."""
    lane = np.arange(LANES)
    return np.where((lane >= first) & (lane < last), v, np.float32(other))


@verb(FLOAT, (f32, ADDRESS), lambda b, v, n: b.extract_element(v, b.trunc(n, I32)))
def lane(v: Any, n: int) -> Any:
    """Lane n, 0 <= n < 16."""
    return v[n]


def operate(op: Any, kind: Vec, lower: Callable[..., Any]) -> None:
    @type_callable(op)
    def typed(context: Any) -> Any:
        def typer(x: Any, y: Any) -> Any:
            return kind if x == kind and y == kind else None

        return typer

    lower_builtin(op, kind, kind)(lambda context, b, sig, args: lower(b)(*args))


operate(operator.add, f32, lambda b: b.fadd)
operate(operator.sub, f32, lambda b: b.fsub)
operate(operator.mul, f32, lambda b: b.fmul)
operate(operator.truediv, f32, lambda b: b.fdiv)
operate(operator.add, i32, lambda b: b.add)

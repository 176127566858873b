"""Arithmetic of lines of float64, 16 lanes: what sums over a whole vocabulary are exact with. `+ - *` work on
them as in NumPy; there is no fused product, which a baseline x86-64 would have to call.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir

from ..isa.vectors import F64X16, I64, LANES, const, splat
from .lines import operate, tree
from .registry import DOUBLE, f32, f64, verb


@verb(f64, (DOUBLE,), lambda b, x: splat(b, x))
def splat_f64(x: Any) -> Any:
    return np.full(LANES, x, np.float64)


@verb(f64, (f32,), lambda b, x: b.fpext(x, F64X16))
def widen_f32(x: Any) -> Any:
    return x.astype(np.float64)


@verb(f64, (f64, f64), lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
def larger_f64(x: Any, y: Any) -> Any:
    """Per lane: x where x > y, else y (a NaN in x is dropped)."""
    return np.where(x > y, x, y)


_I64X16 = ir.VectorType(I64, LANES)
_MAGIC = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the rounded integer in the low mantissa bits


@verb(f64, (f64,), lambda b, x: b.fsub(b.fadd(x, const(F64X16, _MAGIC)), const(F64X16, _MAGIC)))
def whole_f64(x: Any) -> Any:
    """The nearest integer, ties to even, for |x| < 2**51."""
    return (x + _MAGIC) - _MAGIC


def _power2(b: Any, n: Any) -> Any:
    bits = b.bitcast(b.fadd(n, const(F64X16, _MAGIC + 1023.0)), _I64X16)
    return b.bitcast(b.shl(bits, const(_I64X16, 52)), F64X16)


@verb(f64, (f64,), _power2)
def power2_f64(n: Any) -> Any:
    """2 to the n, for whole n in -1022..1023."""
    return np.ldexp(1.0, n.astype(np.int64))


@verb(DOUBLE, (f64,), lambda b, v: tree(b, v, b.fadd))
def sum_f64(v: Any) -> Any:
    """The sum of 16 lanes by halves: lane i + lane i+8, then i+4, i+2, i+1."""
    while len(v) > 1:
        v = v[: len(v) // 2] + v[len(v) // 2 :]
    return v[0]


operate(operator.add, f64, lambda b: b.fadd)
operate(operator.sub, f64, lambda b: b.fsub)
operate(operator.mul, f64, lambda b: b.fmul)

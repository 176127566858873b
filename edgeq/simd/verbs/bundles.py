"""Bundles of lines of floats: the same operation for each token of a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..isa.vectors import F32, F32X16, I64, LANES, at, const, fma, put, splat
from ..tag import Tag
from .lines import fma_meaning
from .registry import (
    ADDRESS,
    bundle,
    each_f32,
    f32,
    memory,
    splat_at,
    step,
    verb,
)


@verb(each_f32, (Tag,), lambda b, tag: bundle(b, tag, F32X16, lambda n: const(F32X16, 0.0)))
def zeros_each(t: Any) -> Any:
    return np.zeros((t.tokens, LANES), np.float32)


def _fma_each(b: Any, tag: Tag, acc: Any, w: Any, x: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        return fma(b, w, splat_at(b, x, stride, n, F32), b.extract_value(acc, n))

    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, f32, ADDRESS, ADDRESS), _fma_each)
def fma_each(t: Any, acc: Any, w: Any, x: int, stride: int) -> Any:
    """acc[n] + w * x[n], x[n] the float32 at x + n * stride, with one fma."""
    return np.stack(
        [
            fma_meaning(w, np.full(LANES, memory(x + n * stride, np.float32, 1)[0]), acc[n])
            for n in range(t.tokens)
        ]
    )


def _fma_seen_each(b: Any, tag: Tag, acc: Any, w: Any, x: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        old, factor = b.extract_value(acc, n), at(b, step(b, x, stride, n), F32)
        new = fma(b, w, splat(b, factor), old)
        return b.select(b.fcmp_ordered("==", factor, ir.Constant(F32, 0.0)), old, new)

    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, f32, ADDRESS, ADDRESS), _fma_seen_each)
def fma_seen_each(t: Any, acc: Any, w: Any, x: int, stride: int) -> Any:
    """As fma_each, but acc[n] where x[n] is zero, whatever w holds."""
    factors = [memory(x + n * stride, np.float32, 1)[0] for n in range(t.tokens)]
    return np.stack(
        [fma_meaning(w, np.full(LANES, f), acc[n]) if f != 0 else acc[n] for n, f in enumerate(factors)]
    )


def _fma_bundles(b: Any, tag: Tag, x: Any, v: Any, acc: Any) -> Any:
    return bundle(
        b,
        tag,
        F32X16,
        lambda n: fma(b, b.extract_value(x, n), v, b.extract_value(acc, n)),
    )


@verb(each_f32, (Tag, each_f32, f32, each_f32), _fma_bundles)
def scale_each(t: Any, x: Any, v: Any, acc: Any) -> Any:
    """acc[n] + x[n] * v with one fma."""
    return np.stack([fma_meaning(x[n], v, acc[n]) for n in range(t.tokens)])


@verb(
    each_f32,
    (Tag, each_f32, f32),
    lambda b, tag, x, v: bundle(b, tag, F32X16, lambda n: b.fadd(b.extract_value(x, n), v)),
)
def add_each(t: Any, x: Any, v: Any) -> Any:
    """x[n] + v."""
    return x + v


@verb(
    each_f32,
    (Tag, each_f32, f32),
    lambda b, tag, x, v: bundle(b, tag, F32X16, lambda n: b.fmul(b.extract_value(x, n), v)),
)
def times_each(t: Any, x: Any, v: Any) -> Any:
    """x[n] * v."""
    return x * v


@verb(
    each_f32,
    (Tag, each_f32, each_f32),
    lambda b, tag, x, y: bundle(
        b, tag, F32X16, lambda n: b.fadd(b.extract_value(x, n), b.extract_value(y, n))
    ),
)
def sum_each(t: Any, x: Any, y: Any) -> Any:
    """x[n] + y[n]."""
    return x + y


def _row(b: Any, p: Any, stride: Any, n: int, count: Any) -> Any:
    """Where row n of the first `count` lies, or the last of them."""
    last, n = b.sub(count, ir.Constant(I64, 1)), ir.Constant(I64, n)
    return b.add(p, b.mul(stride, b.select(b.icmp_signed("<", last, n), last, n)))


def _load_each(b: Any, tag: Tag, p: Any, stride: Any, count: Any) -> Any:
    return bundle(b, tag, F32X16, lambda n: at(b, _row(b, p, stride, n, count), F32X16))


@verb(each_f32, (Tag, ADDRESS, ADDRESS, ADDRESS), _load_each)
def load_each(t: Any, p: int, stride: int, count: int) -> Any:
    """Rows from p on, `stride` bytes apart; in place of those from `count` on the last before them."""
    return np.stack([memory(p + min(n, count - 1) * stride, np.float32, LANES) for n in range(t.tokens)])


def _store_each(b: Any, tag: Tag, p: Any, stride: Any, x: Any, count: Any) -> None:
    for n in reversed(range(tag.tokens)):  # what is too much goes to the last row, before what belongs there
        put(b, _row(b, p, stride, n, count), b.extract_value(x, n))


@verb(types.void, (Tag, ADDRESS, ADDRESS, each_f32, ADDRESS), _store_each)
def store_each(t: Any, p: int, stride: int, x: Any, count: int) -> None:
    """x[n] to p + n * stride, for n < count, 1 <= count."""
    for n in range(min(t.tokens, count)):
        memory(p + n * stride, np.float32, LANES)[:] = x[n]


def _merge_each(b: Any, tag: Tag, x: Any, p: Any, y: Any, q: Any) -> Any:
    four = ir.Constant(I64, 4)

    def member(n: int) -> Any:
        kept = b.fmul(b.extract_value(x, n), splat_at(b, p, four, n, F32))
        return fma(b, b.extract_value(y, n), splat_at(b, q, four, n, F32), kept)

    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, ADDRESS, each_f32, ADDRESS), _merge_each)
def merge_each(t: Any, x: Any, p: int, y: Any, q: int) -> Any:
    """x[n] * p[n] + y[n] * q[n], the second product with one fma; p and q are addresses of float32."""
    pn, qn = memory(p, np.float32, t.tokens), memory(q, np.float32, t.tokens)
    return np.stack([fma_meaning(y[n], np.full(LANES, qn[n]), x[n] * pn[n]) for n in range(t.tokens)])

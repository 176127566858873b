"""Weights, and bundles of lines: the same operation for each token of a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..isa import CODES, F32, F32X16, I8, I32, I32X16, I64, LANES, call, const, splat
from ..tag import Tag
from .lines import fma_meaning
from .registry import (
    ADDRESS,
    at,
    bundle,
    codes,
    dots_of,
    each_dots,
    each_f32,
    each_i32,
    f32,
    memory,
    put,
    splat_at,
    step,
    verb,
)


def _plane(b: Any, tag: Tag, v: Any, p: Any) -> Any:
    bits = tag.scheme_row.bits
    if bits == 8:
        return v
    shift = b.trunc(b.mul(p, ir.Constant(I64, bits)), I8)
    return b.and_(b.lshr(v, splat(b, shift, 4 * LANES)), const(CODES, 2**bits - 1))


@verb(codes, (Tag, codes, ADDRESS), _plane)
def plane(t: Any, v: Any, p: int) -> Any:
    """The p-th code of every byte."""
    return (v >> (t.scheme_row.bits * p)) & (2**t.scheme_row.bits - 1)


def _column(b: Any, tag: Tag, v: Any, j: Any) -> Any:
    shift = splat(b, b.trunc(b.mul(j, ir.Constant(I64, 8)), I32))
    code = b.and_(b.lshr(b.bitcast(v, I32X16), shift), const(I32X16, 255))
    return b.sitofp(b.sub(code, const(I32X16, tag.scheme_row.zero)), F32X16)


@verb(f32, (Tag, codes, ADDRESS), _column)
def column(t: Any, v: Any, j: int) -> Any:
    """Column j of a plane of codes, as float32 without the zero point: 16 rows."""
    return (v.reshape(LANES, 4)[:, j].astype(np.int32) - t.scheme_row.zero).astype(np.float32)


@verb(each_f32, (Tag,), lambda b, tag: bundle(b, tag, F32X16, lambda n: const(F32X16, 0.0)))
def zeros_each(t: Any) -> Any:
    return np.zeros((t.tokens, LANES), np.float32)


def _dots_start(b: Any, tag: Tag, sums: Any, stride: Any) -> Any:
    dots = dots_of(tag)
    return bundle(b, tag, dots.acc, lambda n: dots.start(b, splat_at(b, sums, stride, n, I32)))


@verb(each_dots, (Tag, ADDRESS, ADDRESS), _dots_start)
def dots_start(t: Any, sums: int, stride: int) -> Any:
    """Accumulators of one group for every token; token n's sum of activations is the int32 at sums + n *
    stride.
    """
    return np.zeros((t.tokens, LANES), np.int32)


def _dots_add(b: Any, tag: Tag, acc: Any, v: Any, x: Any, stride: Any) -> Any:
    dots = dots_of(tag)

    def member(n: int) -> Any:
        four = b.bitcast(splat_at(b, x, stride, n, I32), CODES)
        return dots.add(b, b.extract_value(acc, n), v, four)

    return bundle(b, tag, dots.acc, member)


@verb(each_dots, (Tag, each_dots, codes, ADDRESS, ADDRESS), _dots_add)
def dots_add(t: Any, acc: Any, v: Any, x: int, stride: int) -> Any:
    """acc after four more columns: v holds their codes, token n's four int8 activations are at x + n *
    stride.
    """
    out = acc.copy()
    for n in range(t.tokens):
        four = memory(x + n * stride, np.int8, 4).astype(np.int32)
        out[n] += ((v.reshape(LANES, 4).astype(np.int32) - t.scheme_row.zero) * four).sum(1, dtype=np.int32)
    return out


def _dots_finish(b: Any, tag: Tag, acc: Any, sums: Any, stride: Any) -> Any:
    dots = dots_of(tag)
    return bundle(
        b, tag, I32X16, lambda n: dots.finish(b, b.extract_value(acc, n), splat_at(b, sums, stride, n, I32))
    )


@verb(each_i32, (Tag, each_dots, ADDRESS, ADDRESS), _dots_finish)
def dots_finish(t: Any, acc: Any, sums: int, stride: int) -> Any:
    """The exact sums of (code - zero) * activation."""
    return acc


@verb(each_i32, (Tag,), lambda b, tag: bundle(b, tag, I32X16, lambda n: const(I32X16, 0)))
def zero_sums_each(t: Any) -> Any:
    return np.zeros((t.tokens, LANES), np.int32)


def _dot4_each(b: Any, tag: Tag, acc: Any, v: Any, x: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        four = b.bitcast(splat_at(b, x, stride, n, I32), CODES)
        return tag.isa_row.lower["dot4"](b, b.extract_value(acc, n), four, v)

    return bundle(b, tag, I32X16, member)


@verb(each_i32, (Tag, each_i32, codes, ADDRESS, ADDRESS), _dot4_each)
def dot4_each(t: Any, acc: Any, v: Any, x: int, stride: int) -> Any:
    """acc[n] + four signed bytes of v times token n's four at x + n * stride, which lie in 0..127."""
    four = np.stack([memory(x + n * stride, np.int8, 4) for n in range(t.tokens)]).astype(np.int32)
    return acc + np.einsum("rc,nc->nr", v.view(np.int8).reshape(LANES, 4).astype(np.int32), four).astype(
        np.int32
    )


def _scaled_add(b: Any, tag: Tag, acc: Any, sums: Any, scale: Any, p: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        both = b.fmul(scale, splat_at(b, p, stride, n, F32))
        return call(
            b,
            "llvm.fma.v16f32",
            F32X16,
            b.sitofp(b.extract_value(sums, n), F32X16),
            both,
            b.extract_value(acc, n),
        )

    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, each_i32, f32, ADDRESS, ADDRESS), _scaled_add)
def scaled_add_each(t: Any, acc: Any, sums: Any, scale: Any, p: int, stride: int) -> Any:
    """acc[n] + float(sums[n]) * (scale * s), s the float32 at p + n * stride, with one fma."""
    rows = [
        fma_meaning(sums[n].astype(np.float32), scale * memory(p + n * stride, np.float32, 1)[0], acc[n])
        for n in range(t.tokens)
    ]
    return np.stack(rows)


def _fma_each(b: Any, tag: Tag, acc: Any, w: Any, x: Any, stride: Any) -> Any:
    def member(n: int) -> Any:
        return call(b, "llvm.fma.v16f32", F32X16, w, splat_at(b, x, stride, n, F32), b.extract_value(acc, n))

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


def _fma_bundles(b: Any, tag: Tag, x: Any, v: Any, acc: Any) -> Any:
    return bundle(
        b,
        tag,
        F32X16,
        lambda n: call(b, "llvm.fma.v16f32", F32X16, b.extract_value(x, n), v, b.extract_value(acc, n)),
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
    (Tag, each_f32, each_f32),
    lambda b, tag, x, y: bundle(
        b, tag, F32X16, lambda n: b.fadd(b.extract_value(x, n), b.extract_value(y, n))
    ),
)
def sum_each(t: Any, x: Any, y: Any) -> Any:
    """x[n] + y[n]."""
    return x + y


@verb(
    each_f32,
    (Tag, ADDRESS, ADDRESS),
    lambda b, tag, p, stride: bundle(b, tag, F32X16, lambda n: at(b, step(b, p, stride, n), F32X16)),
)
def load_each(t: Any, p: int, stride: int) -> Any:
    return np.stack([memory(p + n * stride, np.float32, LANES) for n in range(t.tokens)])


def _store_each(b: Any, tag: Tag, p: Any, stride: Any, x: Any) -> None:
    for n in range(tag.tokens):
        put(b, step(b, p, stride, n), b.extract_value(x, n))


@verb(types.void, (Tag, ADDRESS, ADDRESS, each_f32), _store_each)
def store_each(t: Any, p: int, stride: int, x: Any) -> None:
    """x[n] to p + n * stride."""
    for n in range(t.tokens):
        memory(p + n * stride, np.float32, LANES)[:] = x[n]


def _merge_each(b: Any, tag: Tag, x: Any, p: Any, y: Any, q: Any) -> Any:
    four = ir.Constant(I64, 4)

    def member(n: int) -> Any:
        kept = b.fmul(b.extract_value(x, n), splat_at(b, p, four, n, F32))
        return call(b, "llvm.fma.v16f32", F32X16, b.extract_value(y, n), splat_at(b, q, four, n, F32), kept)

    return bundle(b, tag, F32X16, member)


@verb(each_f32, (Tag, each_f32, ADDRESS, each_f32, ADDRESS), _merge_each)
def merge_each(t: Any, x: Any, p: int, y: Any, q: int) -> Any:
    """x[n] * p[n] + y[n] * q[n], the second product with one fma; p and q are addresses of float32."""
    pn, qn = memory(p, np.float32, t.tokens), memory(q, np.float32, t.tokens)
    return np.stack([fma_meaning(y[n], np.full(LANES, qn[n]), x[n] * pn[n]) for n in range(t.tokens)])

"""Weights, and their integer products with the activations of a tile's tokens: two lines to a step."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from edgeq.errors import UsageError
from edgeq.formats.schemes import ACT_GROUP

from ..isa import vectors
from ..isa.dots import LINE, Dots
from ..isa.vectors import F32X16, I32, I32X16, I64, LANES, at, const, splat
from ..tag import Tag
from .facts import fact
from .registry import (
    ADDRESS,
    MEANING,
    Bundle,
    TagType,
    bundled,
    codes,
    each_i32,
    f32,
    members,
    memory,
    steps,
    verb,
)


@verb(
    codes,
    (Tag, codes, ADDRESS),
    lambda b, tag, v, p: vectors.plane(b, tag.scheme_row.bits, v, p),
)
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


# ---- integer dots ----
def dots_of(tag: Tag) -> Dots:
    """How the tag's instruction set adds up stored codes times signed activations; UsageError where the steps
    it takes do not end with a group of the scheme.
    """
    s = tag.scheme_row
    dots: Dots = tag.isa_row.lower["dots"](s.bits, s.zero)
    columns = dots.lines * 32 // s.bits
    if ACT_GROUP % columns:
        raise UsageError(
            f"scheme {s.name} on {tag.isa}: a step takes {columns} columns, but a group has {ACT_GROUP}; the "
            "scheme needs more bits or the instruction set a shorter step."
        )
    return dots


def signed_of(tag: Tag) -> Dots:
    """How it adds up signed bytes times activations in 0..127."""
    dots: Dots = tag.isa_row.lower["signed_dots"]()
    return dots


def each_dots(t: TagType) -> Bundle:
    return Bundle(dots_of(t.tag).acc, t.tag.tokens)


def each_signed(t: TagType) -> Bundle:
    return Bundle(signed_of(t.tag).acc, t.tag.tokens)


def _start(dots: Dots, b: Any, totals: list[Any]) -> Any:
    return bundled(b, dots.acc, dots.start(b, totals))


def _add(dots: Dots, b: Any, tag: Tag, acc: Any, line: Any, x: Any, stride: Any) -> Any:
    return bundled(b, dots.acc, dots.add(b, members(b, acc), line, steps(b, tag, x, stride)))


def _finish(dots: Dots, b: Any, acc: Any, totals: list[Any]) -> Any:
    return bundled(b, I32X16, dots.finish(b, members(b, acc), totals))


def _totals(b: Any, tag: Tag, sums: Any, stride: Any) -> list[Any]:
    return [at(b, p, I32) for p in steps(b, tag, sums, stride)]


def _nothing(tag: Tag) -> list[Any]:
    return [ir.Constant(I32, 0)] * tag.tokens


def _sums(t: Any, values: list[Any], x: int, stride: int) -> Any:
    """The products of four columns by four of values, 64 to a line, and each token's activations."""
    rows = np.concatenate([v.reshape(LANES, 4).astype(np.int32) for v in values], 1)
    tile = np.stack([memory(x + n * stride, np.int8, rows.shape[1]) for n in range(t.tokens)])
    return tile.astype(np.int32) @ rows.T


@verb(
    each_dots,
    (Tag, ADDRESS, ADDRESS),
    lambda b, tag, sums, stride: _start(dots_of(tag), b, _totals(b, tag, sums, stride)),
)
def dots_start(t: Any, sums: int, stride: int) -> Any:
    """Accumulators of one group for every token; token n's sum of activations is the int32 at sums + n *
    stride.
    """
    return np.zeros((t.tokens, LANES), np.int32)


@verb(
    each_dots,
    (Tag, each_dots, ADDRESS, ADDRESS, ADDRESS),
    lambda b, tag, acc, line, x, stride: _add(dots_of(tag), b, tag, acc, line, x, stride),
)
def dots_add(t: Any, acc: Any, line: int, x: int, stride: int) -> Any:
    """acc after a step: the columns of `step_lines` lines of codes at `line`, for which token n's int8
    activations are at x + n * stride.
    """
    lines = [memory(line + n * LINE, np.uint8, LINE) for n in range(dots_of(t).lines)]
    planes = [MEANING["plane"](t, v, p) for v in lines for p in range(8 // t.scheme_row.bits)]
    return acc + _sums(t, [p.astype(np.int32) - t.scheme_row.zero for p in planes], x, stride)


@verb(
    each_i32,
    (Tag, each_dots, ADDRESS, ADDRESS),
    lambda b, tag, acc, sums, stride: _finish(dots_of(tag), b, acc, _totals(b, tag, sums, stride)),
)
def dots_finish(t: Any, acc: Any, sums: int, stride: int) -> Any:
    """The exact sums of (code - zero) * activation."""
    return acc


@verb(each_signed, (Tag,), lambda b, tag: _start(signed_of(tag), b, _nothing(tag)))
def signed_start(t: Any) -> Any:
    """As dots_start, for signed bytes and activations in 0..127."""
    return np.zeros((t.tokens, LANES), np.int32)


@verb(
    each_signed,
    (Tag, each_signed, ADDRESS, ADDRESS, ADDRESS),
    lambda b, tag, acc, line, x, stride: _add(signed_of(tag), b, tag, acc, line, x, stride),
)
def signed_add(t: Any, acc: Any, line: int, x: int, stride: int) -> Any:
    """acc after a step: the columns of `signed_lines` lines of bytes at `line`, for which token n's
    activations are at x + n * stride.
    """
    lines = [memory(line + n * LINE, np.int8, LINE) for n in range(signed_of(t).lines)]
    return acc + _sums(t, lines, x, stride)


@verb(each_i32, (Tag, each_signed), lambda b, tag, acc: _finish(signed_of(tag), b, acc, _nothing(tag)))
def signed_finish(t: Any, acc: Any) -> Any:
    """The exact sums of value * activation."""
    return acc


# ---- facts ----
def step_lines(t): ...  # type: ignore[no-untyped-def]
def signed_lines(t): ...  # type: ignore[no-untyped-def]


fact(step_lines, lambda tag: dots_of(tag).lines)
fact(signed_lines, lambda tag: signed_of(tag).lines)

"""Attention's integer products: signed bytes in lines by a tile's numbers of 16 bits, 32 columns a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from edgeq.formats.schemes import ACT_GROUP, unpack

from ..isa.parts import LINE
from ..isa.vectors import F32X16, I32X16, LANES, const
from ..isa.wide import Wide
from ..tag import Tag
from .registry import ADDRESS, bundle, bundled, each_f32, each_i32, i32, members, memory, steps, verb


def wide_of(tag: Tag) -> Wide:
    """How the tag's instruction set adds them up."""
    wide: Wide = tag.isa_row.lower["wide"]()
    return wide


@verb(types.void, (Tag, ADDRESS, i32), lambda b, tag, p, v: wide_of(tag).put(b, p, v))
def store_wide(t: Any, p: int, v: Any) -> None:
    """A line of integers in -WIDE_MAX..WIDE_MAX to p, as `wide_dots` wants them: two bytes for each."""
    memory(p, np.uint8, 2 * LANES)[:] = wide_of(t).layout.laid(v)


@verb(each_i32, (Tag,), lambda b, tag: bundle(b, tag, I32X16, lambda n: const(I32X16, 0)))
def no_sums(t: Any) -> Any:
    """Sums of nothing, which `wide_dots` adds to."""
    return np.zeros((t.tokens, LANES), np.int32)


def _wide_dots(b: Any, tag: Tag, sums: Any, line: Any, x: Any, stride: Any) -> Any:
    found = wide_of(tag).added(b, members(b, sums), line, steps(b, tag, x, stride))
    return bundled(b, I32X16, found)


@verb(each_i32, (Tag, each_i32, ADDRESS, ADDRESS, ADDRESS), _wide_dots)
def wide_dots(t: Any, sums: Any, line: int, x: int, stride: int) -> Any:
    """sums[n] + the sums over 32 columns of v * x: v the signed bytes of the 8 lines at `line`, in
    -127..127, x what `store_wide` put at x + n * stride. Exact where an int32 holds it.
    """
    lines = memory(line, np.uint8, ACT_GROUP // 4 * LINE).reshape(1, -1, LINE)
    values = unpack([lines], (8,)).view(np.int8).astype(np.int32)
    rows = np.stack([memory(x + n * stride, np.uint8, 2 * ACT_GROUP) for n in range(t.tokens)])
    return sums + wide_of(t).layout.read(rows) @ values.T


def _floats_each(b: Any, tag: Tag, sums: Any) -> Any:
    return bundle(b, tag, F32X16, lambda n: b.sitofp(b.extract_value(sums, n), F32X16))


@verb(each_f32, (Tag, each_i32), _floats_each)
def floats_each(t: Any, sums: Any) -> Any:
    """The sums as float32, rounded to the nearest."""
    return sums.astype(np.float32)

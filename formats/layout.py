"""How a tensor's bytes are arranged: padding, sizes, places in the file.  Python integers only, no data.

`plain` is row-major.  `lines16` cuts a matrix into tiles of 16 rows; README.md draws both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from edgeq.errors import FormatError, quote

from .schemes import TILE_ROWS, Part, Scheme

LAYOUTS = ("plain", "lines16")
ALIGNMENT = 64  # of every tensor
ALIGNMENT_LARGE = 65536  # of tensors of LARGE_BYTES and more: whole pages on every CPU (4, 16 and 64 KiB)
LARGE_BYTES = 1 << 20
DIMENSION_MAX = (1 << 31) - 1
DIMENSIONS_MAX = 4


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def alignment(nbytes: int) -> int:
    """The alignment in the file of a tensor of `nbytes` bytes."""
    return ALIGNMENT_LARGE if nbytes >= LARGE_BYTES else ALIGNMENT


def place(position: int, nbytes: int) -> int:
    """The offset of a tensor of `nbytes` bytes when everything before it ends at `position`."""
    return round_up(position, alignment(nbytes))


@dataclass(frozen=True)
class Span:
    """Where a part of a tensor lies in its data, and the shape of its array."""

    part: Part
    offset: int  # bytes from the tensor's start
    nbytes: int
    shape: tuple[int, ...]  # [tiles][lines][64] or [tiles][entries][16]; in plain [rows][cols]


@dataclass(frozen=True)
class Geometry:
    """Sizes of one tensor.  In `plain`, columns are the last dimension and rows the product of the others."""

    rows: int
    cols: int
    rows_padded: int
    cols_padded: int
    tiles: int  # of 16 rows; 0 for plain
    nbytes: int
    parts: tuple[Part, ...]

    @cached_property
    def spans(self) -> dict[str, Span]:
        """The parts by their names, one after another."""
        spans, offset = {}, 0
        for part in self.parts:
            shape: tuple[int, ...] = (self.rows, self.cols)
            if self.tiles:
                shape = (self.tiles, *part.tile_shape(self.cols_padded))
            spans[part.name] = Span(part, offset, prod(shape) * part.itemsize, shape)
            offset += spans[part.name].nbytes
        return spans


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple, or FormatError: 1 to 4 dimensions, each an int (no bool) from 1 to 2^31 - 1."""
    if not 1 <= len(shape) <= DIMENSIONS_MAX:
        raise FormatError(f"shape has {len(shape)} dimensions, but 1 to {DIMENSIONS_MAX} are allowed")
    for size in shape:
        if type(size) is not int or not 1 <= size <= DIMENSION_MAX:
            raise FormatError(
                f"shape holds {quote(size)}, but dimensions are integers from 1 to {DIMENSION_MAX}"
            )
    return tuple(shape)


def geometry(scheme: Scheme, layout: str, shape: Sequence[int]) -> Geometry:
    """Sizes of a tensor; FormatError when scheme, layout and shape do not go together."""
    shape = check_shape(shape)
    if layout == "plain":
        if scheme.planes or scheme.row:
            raise FormatError(f"scheme {scheme.name} needs layout lines16, not plain")
        if scheme.name == "bytes" and len(shape) != 1:
            raise FormatError(f"scheme bytes needs one dimension, not {len(shape)}")
        rows, cols = prod(shape[:-1]), shape[-1]
        return Geometry(rows, cols, rows, cols, 0, rows * cols * scheme.itemsize, scheme.parts)
    if layout != "lines16":
        raise FormatError(f"layout {quote(layout)} is not one of {', '.join(LAYOUTS)}")
    if len(shape) != 2:
        raise FormatError(f"layout lines16 needs two dimensions, not {len(shape)}")
    if scheme.name == "bytes":
        raise FormatError("scheme bytes needs layout plain, not lines16")
    rows, cols = shape
    tiles = round_up(rows, TILE_ROWS) // TILE_ROWS
    cols_padded = round_up(cols, scheme.step)
    nbytes = tiles * scheme.tile_bytes(cols_padded)
    return Geometry(rows, cols, tiles * TILE_ROWS, cols_padded, tiles, nbytes, scheme.parts)

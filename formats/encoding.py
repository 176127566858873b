"""Whole tensors to and from the bytes of their data, row block by row block.

`x` may be anything with shape and row slices that convert to float32 (float16, ml_dtypes' bfloat16, …). A
matrix is in lines16, anything else in plain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from edgeq.errors import FormatError, UnsupportedError

from .layout import Geometry, geometry, round_up
from .schemes import (
    NUMBERS,
    TILE_ROWS,
    Array,
    Parts,
    Rounding,
    Scheme,
    dequantize,
    pack,
    round_block,
    scheme_of,
    turn,
    turn_back,
    unpack,
)

BLOCK_VALUES = 1 << 17  # worked on at a time: a block and its temporaries stay in a core's second-level cache


def nbytes(scheme: str | Scheme, layout: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor's data in the file."""
    return geometry(scheme_of(scheme), layout, shape).nbytes


# ---- values -> parts -> bytes ----


def quantize(x: Array, scheme: str | Scheme, rounding: Rounding | None = None) -> dict[str, Array]:
    """The parts (`Scheme.arrays`) of a matrix of float32, rounded; padding columns get the scheme's padding.

    FormatError when a value is not finite or too large for its scale, UnsupportedError where nothing rounds
    to the scheme.
    """
    scheme = scheme_of(scheme)
    if not scheme.planes:
        raise UnsupportedError(f"scheme {scheme.name} has no codes to quantize to")
    blocks = list(_quantized(x, scheme, rounding))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def encode(x: Array, scheme: str | Scheme, rounding: Rounding | None = None) -> Array:
    """A tensor's data as uint8 [nbytes]; see `encode_blocks`."""
    out = np.empty(nbytes(scheme, "lines16" if x.ndim == 2 else "plain", x.shape), np.uint8)
    position = 0
    for chunk in encode_blocks(x, scheme, rounding):
        out[position : position + chunk.size] = chunk
        position += chunk.size
    return out


def encode_blocks(x: Array, scheme: str | Scheme, rounding: Rounding | None = None) -> Iterator[Array]:
    """A tensor's data in uint8 pieces, in file order, codes by the `rounding` (`round_block` where there is
    none). Memory as for `encode_rows`.

    FormatError when a value is not finite or too large for the scheme, UnsupportedError where nothing rounds
    to it.
    """
    scheme = scheme_of(scheme)
    if scheme.name == "bytes":
        yield np.ascontiguousarray(x, np.uint8).reshape(-1)
    elif x.ndim != 2:
        geometry(scheme, "plain", x.shape)  # refuses a scheme with codes
        yield _rounded(np.asarray(x, np.float32).reshape(-1), scheme).view(np.uint8)
    else:
        blocks = _quantized(x, scheme, rounding) if scheme.planes else _plain(x, scheme)
        yield from encode_rows(blocks, scheme)


def encode_parts(parts: Parts, scheme: str | Scheme) -> Iterator[Array]:
    """Like `encode_blocks`, of the ready parts of a matrix (`Scheme.arrays`), columns padded to whole steps.

    FormatError when a scale or a min is not finite, ValueError when names, dtypes or shapes of the parts are
    not those of the scheme.
    """
    scheme = scheme_of(scheme)
    rows, cols = _checked(parts, scheme)
    blocks = row_blocks(rows, cols)
    yield from encode_rows(
        ({name: part[start:stop] for name, part in parts.items()} for start, stop in blocks), scheme
    )


def encode_rows(blocks: Iterable[Parts], scheme: Scheme) -> Iterator[Array]:
    """`encode_parts` of a matrix that comes in blocks of rows: whole tiles, but for the last.

    The first part goes out at once. The others follow it in the file, so all of them are held: of q4 a ninth
    of the matrix, of k6 two fifths.
    """
    later: list[list[Array]] = [[] for _ in scheme.parts[1:]]
    row = 0
    for parts in blocks:
        rows, _ = _checked(parts, scheme)
        _check_floats(parts, scheme, row)
        first, *others = _stored(parts, scheme)
        row += rows
        yield first
        for pieces, data in zip(later, others, strict=True):
            pieces.append(data)
    while later:
        yield from later.pop(0)


def _stored(parts: Parts, scheme: Scheme) -> list[Array]:
    """The bytes of each part of a block of rows, padded to whole tiles."""
    arrays = []
    for array in scheme.arrays:
        found = parts[array.name]
        missing = -len(found) % TILE_ROWS
        if missing:
            value = scheme.padding if array.name == "codes" else 0
            found = np.concatenate([found, np.full((missing, found.shape[1]), value, found.dtype)])
        arrays.append(found)
    lines = pack(arrays.pop(0), scheme.planes) if scheme.planes else []
    return [data.reshape(-1).view(np.uint8) for data in (*lines, *map(turn, arrays))]


def _checked(parts: Parts, scheme: Scheme) -> tuple[int, int]:
    """(rows, columns) of parts that go together; ValueError otherwise."""
    wanted = {array.name: array for array in scheme.arrays}
    if set(parts) != set(wanted):
        raise ValueError(f"scheme {scheme.name} has the parts {', '.join(wanted)}, not {', '.join(parts)}")
    rows, cols = parts[scheme.arrays[0].name].shape
    for name, array in wanted.items():
        found, shape = parts[name], (rows, array.entries(cols))
        if cols % scheme.step or found.shape != shape or found.dtype != array.dtype:
            raise ValueError(
                f"part {name} is {found.dtype} {list(found.shape)}, but {scheme.name} of {rows} rows and "
                f"{cols} columns, in steps of {scheme.step}, needs {np.dtype(array.dtype)} {list(shape)}"
            )
    return rows, cols


def _check_floats(parts: Parts, scheme: Scheme, start: int) -> None:
    """FormatError naming the place when a float of the rows from `start` is not finite."""
    for part in scheme.parts:
        if part.number:
            finite = NUMBERS[part.number].finite(parts[part.name])
            if not finite.all():
                row, entry = np.argwhere(~finite)[0]
                raise FormatError(f"row {start + row}, entry {entry}: a {part.noun} is not finite")


def _quantized(x: Array, scheme: Scheme, rounding: Rounding | None) -> Iterator[Parts]:
    """The parts of a few rows after another. Padding repeats the columns before it while they are rounded, so
    that no scale is made for zeros.
    """
    cols = x.shape[1]
    cols_padded = round_up(cols, scheme.step)
    last = cols - cols % scheme.step  # the first column of the step that padding fills
    repeated = last + np.arange(cols_padded - cols) % max(1, cols - last)
    for start, stop in row_blocks(x.shape[0], cols_padded):
        block = np.empty((stop - start, cols_padded), np.float32)
        block[:, :cols] = x[start:stop]
        block[:, cols:] = block[:, repeated]
        parts = (rounding or round_block)(block, scheme)
        parts["codes"][:, cols:] = scheme.padding
        _check_shared(x, parts, start, scheme)
        yield parts


def _plain(x: Array, scheme: Scheme) -> Iterator[Parts]:
    for start, stop in row_blocks(*x.shape):
        yield {"value": _rounded(np.asarray(x[start:stop], np.float32), scheme, start)}


def _rounded(values: Array, scheme: Scheme, row: int = 0) -> Array:
    """float32 as stored elements of plain numbers; FormatError when one is not finite."""
    number = NUMBERS[scheme.number]
    if number.stored is None:
        raise UnsupportedError(f"nothing rounds to {number.name} yet")
    stored = number.stored(values)
    if not number.finite(stored).all():
        raise FormatError(f"rows from {row}: a value is not finite or too large for {scheme.name}")
    return stored


def _check_shared(x: Array, parts: Parts, start: int, scheme: Scheme) -> None:
    """FormatError naming the place in `x` when a float that its rows from `start` share is not finite."""
    for part in (part for part in scheme.arrays if part.name in scheme.floats):
        bad = ~NUMBERS[part.number].finite(parts[part.name])
        if bad.any():
            row, entry = (int(i) for i in np.argwhere(bad)[0])
            first = entry * part.columns
            values = np.asarray(x[start + row, first : first + (part.columns or x.shape[1])])
            finite = np.isfinite(values.astype(np.float32)).all()
            what = f"too large for a {part.number} {part.noun}" if finite else "not finite"
            raise FormatError(f"row {start + row}, columns from {first}: a value is {what}")


def row_blocks(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of blocks of whole tiles, but for the last, and about BLOCK_VALUES values."""
    step = max(TILE_ROWS, BLOCK_VALUES // cols // TILE_ROWS * TILE_ROWS)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


# ---- bytes -> parts -> values ----


def decode(data: Any, scheme: str | Scheme, shape: Sequence[int], layout: str | None = None) -> Array:
    """float32 of the logical shape from a tensor's data; layout None: what `encode` gives the shape."""
    scheme = scheme_of(scheme)
    sizes = geometry(scheme, layout or ("lines16" if len(shape) == 2 else "plain"), shape)
    raw = np.frombuffer(data, np.uint8)
    if raw.size != sizes.nbytes:
        raise FormatError(f"data has {raw.size} bytes, but {scheme.name} {list(shape)} needs {sizes.nbytes}")
    if scheme.name == "bytes":
        raise UnsupportedError("scheme bytes holds no numbers to decode")
    if not sizes.tiles:
        return dequantize(views(raw, sizes), scheme).reshape(shape)
    return dequantize(split(raw, scheme, sizes), scheme)[: sizes.rows, : sizes.cols]


def split(raw: Array, scheme: Scheme, sizes: Geometry) -> dict[str, Array]:
    """The parts of a matrix's data uint8 [nbytes], row-major and with its padding: see `Scheme.arrays`."""
    stored = views(raw, sizes)
    lines = [stored[part.name] for part in scheme.parts if part.bits]
    parts = {"codes": unpack(lines, scheme.planes)} if lines else {}
    return parts | {part.name: turn_back(stored[part.name]) for part in scheme.parts if not part.bits}


def views(raw: Array, sizes: Geometry) -> dict[str, Array]:
    """The parts of a tensor's data uint8 [nbytes] where they lie, in the file's order: see `layout.Span`."""
    return {
        name: raw[span.offset : span.offset + span.nbytes].view(span.part.dtype).reshape(span.shape)
        for name, span in sizes.spans.items()
    }

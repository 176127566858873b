"""Read a whole .edgeq file and say what is wrong with its data: everything that opening leaves unread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from edgeq.errors import FormatError, UnsupportedError

from .header import PRELUDE_BYTES
from .layout import Span
from .reader import ModelFile, Tensor, open_model
from .schemes import ACT_GROUP, NUMBERS, TILE_ROWS, Array, Part, turn_back, unpack

CHUNK_BYTES = 4 << 20
Progress = Callable[[int, int, str], None]


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> list[str]:
    """Every problem of the file, one sentence each; empty for a sound file.

    Checks what `open_model` checks, then checksums, padding between and inside tensors, and that scales, mins
    and float values are finite.  `progress(bytes done, bytes total, tensor name)` is called as it goes.
    UsageError when the file cannot be opened at all.
    """
    try:
        file = open_model(path)
    except (FormatError, UnsupportedError) as error:
        return [str(error)]
    problems: list[str] = []
    with file:
        position = PRELUDE_BYTES + file.prelude.header_bytes
        for tensor in file.tensors.values():
            if file.view(position, tensor.offset - position).any():
                problems.append(f"padding before tensor {tensor.name} is not zero")
            position = tensor.offset + tensor.nbytes
            found = _tensor_problems(file, tensor, progress)
            problems.extend(f"tensor {tensor.name}: {what}" for what in found)
    return problems


def _tensor_problems(file: ModelFile, tensor: Tensor, progress: Progress | None) -> Iterator[str]:
    from xxhash import xxh3_128

    digest = xxh3_128()
    data = tensor.data
    for start in range(0, tensor.nbytes, CHUNK_BYTES):
        digest.update(data[start : start + CHUNK_BYTES])
        if progress:
            done = min(start + CHUNK_BYTES, tensor.nbytes)
            progress(tensor.offset + done, file.bytes_total, tensor.name)
    if digest.hexdigest() != tensor.xxh3:
        yield f"data is damaged: its XXH3-128 is {digest.hexdigest()}, not {tensor.xxh3}"
    parts = tensor.parts
    for span in tensor.geometry.spans.values():
        yield from _not_finite(tensor, span, parts[span.part.name])
    if tensor.tiles:
        yield from _padding_problems(tensor, parts)


def _not_finite(tensor: Tensor, span: Span, stored: Array) -> Iterator[str]:
    """R10: floats are finite."""
    if span.part.number not in NUMBERS:
        return
    number = NUMBERS[span.part.number]
    flat = stored.reshape(-1)
    count, first = 0, 0
    for start in range(0, flat.size, CHUNK_BYTES):
        bad = np.flatnonzero(~number.finite(flat[start : start + CHUNK_BYTES]))
        if bad.size and not count:
            first = start + int(bad[0])
        count += bad.size
    if count:
        yield f"{count} {span.part.noun}s are not finite, the first in {_place(tensor, span, first)}"


def _place(tensor: Tensor, span: Span, index: int) -> str:
    """Where in a matrix or a vector the number at `index` of a part's array belongs."""
    row, entry = (int(i) for i in np.unravel_index(index, span.shape)[:2])
    if tensor.tiles:
        row = row * TILE_ROWS + index % TILE_ROWS
    if not span.part.columns:
        return f"row {row}"
    return f"row {row}, {'column' if span.part.columns == 1 else 'group'} {entry}"


def _padding_problems(tensor: Tensor, parts: dict[str, Array]) -> Iterator[str]:
    """R9: padding holds the scheme's padding code, numbers of padding alone are 0."""
    rows, cols = tensor.geometry.rows, tensor.geometry.cols
    for array in tensor.scheme.arrays:
        padding = tensor.scheme.padding if array.bits else 0
        what = f"do not hold {array.noun} {padding}"
        real = rows % TILE_ROWS
        if real and (_row_major(tensor, parts, array, slice(-1, None), 0)[real:] != padding).any():
            yield f"padding rows from {rows} {what}"
        if array.bits:
            first = cols // ACT_GROUP * ACT_GROUP  # the columns of whole lines of every plane
            inside = cols - first
        else:
            first = -(-cols // array.columns) if array.columns else 1
            inside = 0
        if tensor.cols_padded > cols:
            last = _row_major(tensor, parts, array, slice(None), first)
            if (last[:rows, inside:] != padding).any():
                yield f"padding columns from {cols} {what}"


def _row_major(tensor: Tensor, parts: dict[str, Array], array: Part, tiles: slice, first: int) -> Array:
    """[rows, entries] of some tiles and of the entries from `first` on, numbers as unsigned integers."""
    if not array.bits:
        numbers = turn_back(parts[array.name][tiles, first:])
        return numbers.view(f"<u{numbers.itemsize}")  # minus zero is not 0
    planes = [part for part in tensor.scheme.parts if part.bits]
    lines = [parts[part.name][tiles, first * part.bits // ACT_GROUP :] for part in planes]
    return unpack(lines, tensor.scheme.planes)

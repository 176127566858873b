"""Read a whole .edgeq file and say what is wrong with its data: everything that opening leaves unread."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from edgeq.errors import FormatError, UnsupportedError

from .header import PRELUDE_BYTES
from .layout import TILE_ROWS
from .reader import ModelFile, Tensor, open_model
from .schemes import unpack

CHUNK_BYTES = 4 << 20
Progress = Callable[[int, int, str], None]


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> list[str]:
    """Every problem of the file, one sentence each; empty for a sound file.

    Checks what `open_model` checks, then checksums, padding between and inside tensors, and that scales and
    float values are finite.  `progress(bytes done, bytes total, tensor name)` is called as it goes.
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


def _tensor_problems(file: ModelFile, tensor: Tensor, progress: Progress | None) -> list[str]:
    from xxhash import xxh3_128

    found = []
    digest = xxh3_128()
    data = tensor.data
    for start in range(0, tensor.nbytes, CHUNK_BYTES):
        digest.update(data[start : start + CHUNK_BYTES])
        if progress:
            done = min(start + CHUNK_BYTES, tensor.nbytes)
            progress(tensor.offset + done, file.bytes_total, tensor.name)
    if digest.hexdigest() != tensor.xxh3:
        found.append(f"data is damaged: its XXH3-128 is {digest.hexdigest()}, not {tensor.xxh3}")
    if tensor.scheme.bits:
        found.extend(_scale_problems(tensor))
        found.extend(_padding_problems(tensor))
    elif tensor.scheme.name != "bytes":
        found.extend(_value_problems(tensor))
    return found


def _scale_problems(tensor: Tensor) -> list[str]:
    bad = np.flatnonzero(~np.isfinite(tensor.scales))
    if not bad.size:
        return []
    row, group = _scale_place(tensor, int(bad[0]))
    return [f"{bad.size} scales are not finite, the first in row {row}, group {group}"]


def _padding_problems(tensor: Tensor) -> list[str]:
    """Padding rows and columns must hold the zero point, padding rows the scale 0."""
    rows, cols = tensor.shape
    shape = tensor.geometry
    found = []
    codes = tensor.codes.reshape(shape.tiles, shape.groups, -1, 64)
    extra_rows = shape.rows_padded - rows
    if extra_rows:
        last = unpack(codes[-1:].reshape(1, -1, 64), tensor.scheme.bits)
        scales = tensor.scales.reshape(shape.tiles, shape.groups, TILE_ROWS)[-1, :, TILE_ROWS - extra_rows :]
        if (last[TILE_ROWS - extra_rows :] != tensor.scheme.zero).any() or scales.view(np.uint16).any():
            found.append(f"padding rows from {rows} do not hold code {tensor.scheme.zero} and scale 0")
    if shape.cols_padded > cols:
        inside = cols - (shape.groups - 1) * tensor.scheme.group
        last = unpack(np.ascontiguousarray(codes[:, -1]), tensor.scheme.bits)
        if (last[:rows, inside:] != tensor.scheme.zero).any():
            found.append(f"padding columns from {cols} do not hold code {tensor.scheme.zero}")
    return found


def _value_problems(tensor: Tensor) -> list[str]:
    values = tensor.values.reshape(-1)
    exponent = {"f32": 0x7F800000, "f16": 0x7C00, "bf16": 0x7F80}[tensor.scheme.name]
    bits = values.view("<u4" if values.itemsize == 4 else "<u2")
    chunks = (bits[start : start + CHUNK_BYTES] for start in range(0, bits.size, CHUNK_BYTES))
    count = sum(int(((chunk & exponent) == exponent).sum()) for chunk in chunks)
    found = [f"{count} values are not finite"] if count else []
    extra_rows = tensor.rows_padded - tensor.geometry.rows
    if extra_rows:
        last = bits[-tensor.cols_padded * TILE_ROWS :].reshape(-1, TILE_ROWS)
        if last[:, TILE_ROWS - extra_rows :].any():
            found.append(f"padding rows from {tensor.geometry.rows} are not zero")
    return found


def _scale_place(tensor: Tensor, index: int) -> tuple[int, int]:
    """(row, group) of a scale by its index in `tensor.scales`."""
    tile, rest = divmod(index, tensor.groups * TILE_ROWS)
    group, row = divmod(rest, TILE_ROWS)
    return tile * TILE_ROWS + row, group

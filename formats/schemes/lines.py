"""Codes <-> lines, numbers <-> tiles: a row-major matrix and the order in which kernels read it.

A tile is 16 rows. A line is 64 bytes: 4 byte columns of the 16 rows, one row in each 32-bit word. A plane
holds some bits of every code; the planes of a code are the powers of two that its bits are the sum of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .numbers import Array
from .scheme import LINE_BYTES, TILE_ROWS


def pack(codes: Array, planes: Sequence[int]) -> list[Array]:
    """Codes uint8 [rows, cols] -> lines uint8 [tiles, cols * bits / 32, 64] of each plane, low bits first.

    Rows are a multiple of 16, columns of what a line of the narrowest plane holds; ValueError otherwise. Byte
    r * 4 + j of line i of a plane of so many bits holds, `bits * p` bits up, its part of the code of row r,
    column i * 32 / bits + 4 * p + j.
    """
    lines, shift = [], 0
    for bits in planes:
        part = codes if len(planes) == 1 else codes >> np.uint8(shift) & np.uint8((1 << bits) - 1)
        lines.append(pack_plane(part, bits))
        shift += bits
    return lines


def unpack(lines: Sequence[Array], planes: Sequence[int]) -> Array:
    """The inverse of `pack`: codes uint8 [tiles * 16, cols] of lines uint8 [tiles, n, 64] of each plane."""
    codes = unpack_plane(lines[0], planes[0])
    shift = planes[0]
    for plane, bits in zip(lines[1:], planes[1:], strict=True):
        codes |= unpack_plane(plane, bits) << np.uint8(shift)
        shift += bits
    return codes


def turn(numbers: Array) -> Array:
    """Row-major [rows, entries], rows a multiple of 16 -> contiguous [tiles, entries, 16]."""
    tiles = numbers.reshape(-1, TILE_ROWS, numbers.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(tiles)


def turn_back(tiles: Array) -> Array:
    """The inverse of `turn`: [tiles, entries, 16] -> contiguous [tiles * 16, entries]."""
    count, entries, _ = tiles.shape
    return np.ascontiguousarray(tiles.transpose(0, 2, 1)).reshape(count * TILE_ROWS, entries)


def pack_plane(codes: Array, bits: int) -> Array:
    rows, cols = codes.shape
    fields = 8 // bits  # codes in one byte
    if rows % TILE_ROWS or cols % (4 * fields):
        raise ValueError(f"codes [{rows}, {cols}] are not whole lines of 16 rows x {4 * fields} columns")
    lines = cols // (4 * fields)
    quads = np.ascontiguousarray(codes).view(np.uint32).reshape(rows // TILE_ROWS, TILE_ROWS, lines, fields)
    packed = quads[..., 0].copy() if fields > 1 else quads[..., 0]
    for field in range(1, fields):
        packed |= quads[..., field] << np.uint32(bits * field)
    turned = np.ascontiguousarray(packed.transpose(0, 2, 1))
    return turned.view(np.uint8).reshape(rows // TILE_ROWS, lines, LINE_BYTES)


def unpack_plane(lines: Array, bits: int) -> Array:
    tiles, count, _ = lines.shape
    fields = 8 // bits
    quads = np.ascontiguousarray(lines).view(np.uint32).transpose(0, 2, 1)  # [tiles, 16, lines]
    mask = np.uint32(((1 << bits) - 1) * 0x01010101)
    codes = np.empty((tiles, TILE_ROWS, count, fields), np.uint32)
    for field in range(fields):
        codes[..., field] = (quads >> np.uint32(bits * field)) & mask
    return codes.view(np.uint8).reshape(tiles * TILE_ROWS, count * fields * 4)

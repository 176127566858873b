"""What a program computes in: buffers of the arena, and where each of them lies.

Two buffers whose lives (in phases: the stretches between barriers) do not overlap may share memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

ALIGNMENT = 64
GAP = 128  # bytes after a buffer: kernels read whole lines past a last row that is shorter


@dataclass(eq=False)
class Buffer:
    """Memory of the arena, or of the program's own when `address` is set."""

    nbytes: int
    address: int = 0
    first: int = -1  # phase of the first and of the last instruction that touches it
    last: int = -1


@dataclass(frozen=True)
class Rows:
    """float32 [limit, columns], rows `stride` bytes apart."""

    buffer: Buffer
    columns: int

    @property
    def stride(self) -> int:
        return row_bytes(self.columns)


@dataclass(frozen=True)
class Quantized:
    """int8 [limit, columns padded to 32] with a float32 scale and int32 sum per 32 columns."""

    x: Buffer
    scale: Buffer
    sums: Buffer

    @property
    def operands(self) -> dict[str, Any]:
        return {"x": self.x, "x_scale": self.scale, "x_sum": self.sums}


@dataclass(frozen=True)
class Input:
    """The input of matrix products, in the forms their weights ask for."""

    columns: int
    int8: Quantized | None
    floats: Rows | None


def room(b: Buffer) -> int:
    """Bytes that a buffer takes in the arena."""
    return (b.nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT + GAP


def row_bytes(columns: int) -> int:
    """Bytes between rows of float32: whole lines of 16, and 32 columns for the quantizer."""
    return (columns + 31) // 32 * 128


def place(buffers: Iterable[Buffer]) -> np.ndarray:
    """Give each buffer its address; the uint8 memory they lie in. First fit, largest first, among those alive
    together.
    """
    placed: list[tuple[int, Buffer]] = []
    for b in sorted(buffers, key=lambda b: (-b.nbytes, b.first)):
        at = 0
        alive = (p for p in placed if p[1].first <= b.last and b.first <= p[1].last)
        for start, other in sorted(alive, key=lambda p: p[0]):
            if at + room(b) <= start:
                break
            at = max(at, start + room(other))
        placed.append((at, b))
    arena = np.zeros(max((at + room(b) for at, b in placed), default=0) + ALIGNMENT, np.uint8)
    base = -(-int(arena.ctypes.data) // ALIGNMENT) * ALIGNMENT
    for at, b in placed:
        b.address = base + at
    return arena

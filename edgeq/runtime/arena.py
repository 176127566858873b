"""What a program computes in: buffers of the arena, and where each of them lies.

Two buffers whose lives (in phases: the stretches between barriers) do not overlap may share memory, so a
buffer begins with whatever another left there. Hence what every kernel keeps to, for all buffers alike:

- Of a buffer of rows, the first `columns` numbers of each token of the pass mean something. What lies behind
  them up to the stride, the rows of tokens that the pass does not have, those behind the last token that a
  pass can have (`spare_rows`), and the SLACK after the last row may be anything: any bits, NaN and infinity
  too.
- A kernel may read that, where whole lines are simpler, but nothing that means something may depend on it:
  it is cut off (`keep`) or goes to lanes that nobody reads. It is not multiplied by zero: 0 * NaN is NaN.
- A kernel may write it, up to the stride. It writes nothing into the slack and reads nothing behind it.
- int8 activations, queries and caches have all the columns of their groups of 32: who writes them puts zeros
  behind the true ones. What of them belongs to no token of the pass or position of the sequence is as above.

`edgeq.runtime.extents` says of each kernel how far it reaches; `tests/arena.py` fills what means nothing with
NaN and other bytes before each pass and each kernel, and compares bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeq import memory
from edgeq.formats.layout import round_up
from edgeq.kernels.catalog import GROUP
from edgeq.memory import ALIGNMENT

SLACK = 128  # bytes after the last row: heads are read in lines of 16, and the last one may end in the middle


def spare_rows(tokens: int) -> int:
    """Rows behind the last that a product with so many tokens to a tile reads: from two on it is full."""
    return max(0, tokens - 2)


@dataclass(eq=False)
class Buffer:
    """Memory of the arena, which has its address once that is planned."""

    nbytes: int
    address: int = 0
    first: int = -1  # phase of the first and of the last instruction that touches it
    last: int = -1

    @property
    def words(self) -> tuple[Buffer]:
        return (self,)


@dataclass(eq=False)
class Held(Buffer):
    """Memory of the program's own, which is no part of the arena: what a pass is given and what it leaves."""

    array: np.ndarray = field(default_factory=lambda: memory.zeros(0))

    @classmethod
    def of(cls, array: np.ndarray) -> Held:
        return cls(array.nbytes, int(array.ctypes.data), array=array)


@dataclass(frozen=True)
class Place:
    """Where in a buffer something begins."""

    buffer: Buffer
    at: int  # bytes

    @property
    def address(self) -> int:
        return self.buffer.address + self.at


@dataclass(frozen=True)
class Rows:
    """float32 [tokens, columns], rows `stride` bytes apart."""

    buffer: Buffer
    columns: int
    apart: int = 0  # bytes, where rows are further apart than their columns need
    at: int = 0  # bytes of the buffer before the first row's

    @property
    def stride(self) -> int:
        return self.apart or row_bytes(self.columns)

    @property
    def words(self) -> tuple[Buffer | Place, int]:
        return Place(self.buffer, self.at) if self.at else self.buffer, self.stride

    def part(self, first: int, columns: int) -> Rows:
        """[tokens, columns]: so many columns from `first` on, where they are."""
        return Rows(self.buffer, columns, self.stride, self.at + 4 * first)


@dataclass(frozen=True)
class Quantized:
    """int8 [tokens, columns padded to 32] with a float32 scale and two int16 sums per 32 columns."""

    columns: int
    x: Buffer
    scale: Buffer
    sums: Buffer

    @property
    def words(self) -> tuple[Buffer, Buffer, Buffer]:
        return self.x, self.scale, self.sums


@dataclass(frozen=True)
class Workspace:
    """Scratch of `stride` bytes for each worker."""

    buffer: Buffer
    stride: int

    @property
    def words(self) -> tuple[Buffer, int]:
        return self.buffer, self.stride


@dataclass(frozen=True)
class Input:
    """The input of matrix products, [tokens, columns], in the forms that their weights ask for."""

    columns: int
    int8: Quantized | None
    floats: Rows | None


def padded(columns: int) -> int:
    """Columns in whole groups: kernels read whole lines of 16, and quantize groups."""
    return round_up(columns, GROUP)


def row_bytes(columns: int) -> int:
    """Bytes between rows of float32."""
    return 4 * padded(columns)


def place(buffers: Sequence[Buffer]) -> list[np.ndarray]:
    """Give each buffer its address; the memory they lie in, uint8. With memory checked each has its own."""
    if memory.checked():
        own = memory.pieces([b.nbytes for b in buffers])
        for b, piece in zip(buffers, own, strict=True):
            b.address = int(piece.ctypes.data)
        return own
    offsets = plan(buffers)
    arena = memory.zeros(max((at + b.nbytes for b, at in zip(buffers, offsets, strict=True)), default=0))
    for b, at in zip(buffers, offsets, strict=True):
        b.address = int(arena.ctypes.data) + at
    return [arena]


def plan(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets of the buffers, multiples of ALIGNMENT: the largest first, each at the first place that is free
    throughout its life.

    A buffer is compared with those of its own phases only. Most live for a few, so that the time grows with
    the length of the program and not with its square.
    """
    offsets = [0] * len(buffers)
    alive: list[list[tuple[int, int]]] = [[] for _ in range(max((b.last for b in buffers), default=0) + 1)]
    for n in sorted(range(len(buffers)), key=lambda n: (-buffers[n].nbytes, buffers[n].first)):
        b = buffers[n]
        room = (b.nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        phases = alive[b.first : b.last + 1]
        at = 0
        for start, end in sorted({taken for phase in phases for taken in phase}):
            if at + room <= start:
                break
            at = max(at, end)
        offsets[n] = at
        for phase in phases:
            phase.append((at, at + room))
    return offsets

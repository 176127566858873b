"""Products of float32 matrices by the kernels of the engine: a pool's threads, and the same bits on every
processor and with any number of threads.

Each sum is added up in the order of the columns with one rounding for each product (`matmul_float`), whatever
instruction set the kernels are compiled for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.cache import Table
from edgeq.errors import UsageError
from edgeq.formats.schemes import TILE_ROWS
from edgeq.kernels.catalog import WORK_AT, Batch
from edgeq.ownership import Unique
from edgeq.packs import store
from edgeq.simd.host import host_isa

from .arena import Held, Rows, padded, spare_rows
from .pool import Pool
from .program import Program, Settings
from .recorder import Recorder
from .weights import Matrix

Array = np.ndarray[Any, Any]

TILED_BYTES = 32 << 20  # of a matrix that are laid out for the kernels at a time
BAND = 512  # rows of a product whose upper half is not wanted, that are computed at a time


class Dense(Unique):
    """A pool that multiplies matrices and runs programs. A context manager."""

    def __init__(self, workers: int, progress: store.Progress | None = None):
        self.isa, self.tokens = host_isa().name, host_isa().tokens
        self._kernels, self._progress = store.kernels(), progress
        self._pool = Pool(workers, self.isa)
        self._spare = spare_rows(self.tokens)

    @property
    def workers(self) -> int:
        """How many there are."""
        return self._pool.workers

    def zeros(self, rows: int, columns: int) -> Array:
        """float32 [rows, columns], laid out as products want their rows: behind each and behind the last is
        room that belongs to it.
        """
        whole = memory.zeros((rows + self._spare + 1, padded(columns)), np.float32)
        return whole[:rows, :columns]

    def rows(self, x: Array) -> Array:
        """x, float32 [rows, columns], as `zeros` lays it out: itself, or a copy."""
        if _has_room(x, self._spare + 1):
            return x
        made = self.zeros(*x.shape)
        made[...] = x
        return made

    def product(self, w: Array, x: Array, *, out: Array | None = None, lower: bool = False) -> Array:
        """x . w', float32 [n, rows] of x [n, columns] and w [rows, columns]; with `out`, of `zeros`, added to
        it. With `lower` only what is at and below the diagonal has a meaning.

        UsageError where the columns differ or out has another shape, or is a part of rows that ends within a
        line of 16 columns: kernels write whole ones.
        """
        y = self.zeros(len(x), len(w)) if out is None else out
        x, add = self.rows(x), out is not None
        step = len(w) if lower else max(1, TILED_BYTES // (64 * max(1, w.shape[1]))) * TILE_ROWS
        if step >= len(w) or y.shape != (len(x), len(w)):
            self._multiply(tiled(w), w.shape, x, y, add=add, lower=lower)
            return y
        for first in range(0, len(w), step):
            part = w[first : first + step]
            self._multiply(tiled(part), part.shape, x, y[:, first : first + step], add=add, lower=False)
        return y

    def gram(self, x: Array, out: Array) -> None:
        """out, [columns, columns] of `zeros`, += x' x of float32 [n, columns]; only what is at and below the
        diagonal is computed. UsageError as of `product`.
        """
        turned = self.rows(np.ascontiguousarray(x.T))
        self._multiply(tiled_columns(x), turned.shape, turned, out, add=True, lower=True)

    def moments(self, left: Array, right: Array, out: Array) -> None:
        """out, [left's columns, right's columns] of `zeros`, += left' right, of float32 [n, …] both.
        UsageError as of `product`.
        """
        turned = self.rows(np.ascontiguousarray(left.T))
        self._multiply(tiled_columns(right), right.shape[::-1], turned, out, add=True, lower=False)

    def _multiply(
        self, tiles: Array, shape: Sequence[int], x: Array, y: Array, *, add: bool, lower: bool
    ) -> None:
        rows, columns = shape
        n = len(x)
        if columns != x.shape[1] or y.shape != (n, rows) or not _takes_lines(y):
            raise UsageError(f"matrices of {(rows, columns)} and {x.shape} have no product there.")
        if not (n and rows and columns):
            return
        for first in range(0, n, BAND if lower else n):
            last = min(first + BAND, n) if lower else n
            wide = min(rows, last) if lower else rows
            count = -(-wide // TILE_ROWS)
            recorder = Recorder(Settings(self.isa, "f32", self.workers, last - first, 1, self.tokens))
            recorder.emit(
                "matmul_float",
                x=rows_of(x[first:last]),
                weights=Matrix("w", "f32", wide, columns, count, int(tiles.ctypes.data), tiles),
                bias=None,
                y=replace(rows_of(y[first:last]), columns=wide),
                add=int(add),
                count_at=Batch.COUNT,
            )
            self.run(self.finish(recorder), last - first)

    def finish(self, recorder: Recorder) -> Program:
        """The program that was recorded for this pool."""
        addresses = self._kernels.load([*Pool.requests(self.isa), *recorder.requests()], self._progress)
        return recorder.finish(addresses)

    def run(
        self,
        program: Program,
        count: int,
        first: int = 0,
        last: int | None = None,
        pages: Table | None = None,
    ) -> None:
        """Run instructions first to last - 1 of a program, for so many rows from position 0 on of a sequence
        with these pages, which may be prepared for as many as the program takes.
        """
        if pages is None:
            program.batch.count(count)
        else:
            program.batch.count(count, pages.addresses, pages.states_at(0, program.settings.limit))
        code = program.code[first:last]
        code[:, WORK_AT // 8] = 0  # nothing of the work is taken yet
        self._pool.run(code)

    def close(self) -> None:
        """Send the threads home."""
        self._pool.close()

    def __enter__(self) -> Dense:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rows_of(x: Array) -> Rows:
    """Rows of a program where they lie."""
    stride = x.strides[0] if len(x) > 1 else 4 * padded(x.shape[1])
    return Rows(Held(stride * len(x), int(x.ctypes.data), array=x), x.shape[1], stride)


def _has_room(x: Array, rows: int) -> bool:
    """Whether x is rows of float32 as kernels read them, and behind it is memory for so many rows more, as
    `Dense.zeros` gives it.
    """
    if x.dtype != np.float32 or x.strides[1] != 4 or x.strides[0] < 4 * padded(x.shape[1]):
        return False
    at, nbytes = int(x.ctypes.data), (len(x) + rows) * x.strides[0]
    if memory.checked():
        return memory.holds(at, nbytes)
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    return at + nbytes <= int(base.ctypes.data) + base.nbytes


def _takes_lines(y: Array) -> bool:
    """Whether whole lines of 16 columns may be written to rows of `Dense.zeros`, or to a part of them."""
    rows, columns = y.shape
    whole = columns % TILE_ROWS == 0 or y.strides[0] == 4 * padded(columns)
    return whole and _has_room(y, 0)


def tiled(w: Array) -> Array:
    """w, float32 [rows, columns], in layout lines16: [tiles, columns, 16]."""
    rows, columns = w.shape
    tiles = -(-rows // TILE_ROWS)
    made = memory.zeros((tiles, columns, TILE_ROWS), np.float32)
    whole = rows // TILE_ROWS
    made[:whole] = w[: whole * TILE_ROWS].reshape(whole, TILE_ROWS, columns).transpose(0, 2, 1)
    if rows % TILE_ROWS:
        made[whole, :, : rows % TILE_ROWS] = w[whole * TILE_ROWS :].T
    return made


def tiled_columns(x: Array) -> Array:
    """x', float32 [columns, n] of x [n, columns], in layout lines16."""
    n, columns = x.shape
    tiles = -(-columns // TILE_ROWS)
    made = memory.zeros((tiles, n, TILE_ROWS), np.float32)
    whole = columns // TILE_ROWS
    made[:whole] = x[:, : whole * TILE_ROWS].reshape(n, whole, TILE_ROWS).transpose(1, 0, 2)
    if columns % TILE_ROWS:
        made[whole, :, : columns % TILE_ROWS] = x[:, whole * TILE_ROWS :]
    return made

"""What a program is told of a pass: which rows of which sequences. `catalog.Batch` says what kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeq import memory
from edgeq.errors import UsageError
from edgeq.kernels import catalog


class Segment(NamedTuple):
    """Rows of one sequence: their token ids, int64 [at least 1]; the position of the first; of how many of
    the last the logits are wanted; where its pages lie, int64 [groups, pages] (`cache.Table.addresses`), and
    those of its state before the pass and behind it.
    """

    ids: np.ndarray
    start: int
    wanted: int
    pages: np.ndarray | None = None
    states: tuple[int, int] = (0, 0)

    @property
    def outputs(self) -> Segment:
        """Those of its rows whose logits are wanted."""
        first = len(self.ids) - self.wanted
        return Segment(self.ids[first:], self.start + first, self.wanted, self.pages)


class Batch:
    """The tables in memory, for up to `limit` rows and `outputs` wanted ones. `words` is what kernels get."""

    def __init__(self, limit: int, outputs: int):
        self.limit, self.outputs = limit, outputs
        self.words = memory.zeros(catalog.Batch.BYTES // 8, np.int64)
        self.rows = memory.zeros((limit, catalog.Batch.ROW_BYTES // 8), np.int64)
        self.wanted = memory.zeros(outputs, np.int64)
        self.segments = memory.zeros((limit, catalog.Batch.SEGMENT_BYTES // 8), np.int64)
        for at, table in (
            (catalog.Batch.ROWS, self.rows),
            (catalog.Batch.WANTED, self.wanted),
            (catalog.Batch.SEGMENT, self.segments),
        ):
            self.words[at // 8] = table.ctypes.data

    @property
    def address(self) -> int:
        return int(self.words.ctypes.data)

    def fill(self, segments: Sequence[Segment]) -> None:
        """Say what the next pass is about. Who runs it holds the segments' pages meanwhile. UsageError where
        they are more than fit.
        """
        count, outputs = sum(len(s.ids) for s in segments), sum(s.wanted for s in segments)
        if not (1 <= count <= self.limit and outputs <= self.outputs):
            raise UsageError(f"{count} rows and {outputs} outputs are no pass of this program.")
        row = output = 0
        for n, s in enumerate(segments):
            length, pages = len(s.ids), 0 if s.pages is None else int(s.pages.ctypes.data)
            self.rows[row : row + length, 0] = np.arange(s.start, s.start + length)
            self.rows[row : row + length, 1] = pages
            self.segments[n] = row, length, s.start, pages, *s.states
            self.wanted[output : output + s.wanted] = np.arange(row + length - s.wanted, row + length)
            row, output = row + length, output + s.wanted
        self.words[catalog.Batch.COUNT // 8] = count
        self.words[catalog.Batch.OUTPUTS // 8] = outputs
        self.words[catalog.Batch.SEGMENTS // 8] = len(segments)

    def count(self, rows: int, pages: np.ndarray | None = None, states: tuple[int, int] = (0, 0)) -> None:
        """So many rows from position 0 on, whatever their ids are, all wanted as far as there is room."""
        self.fill([Segment(memory.zeros(rows, np.int64), 0, min(rows, self.outputs), pages, states)])

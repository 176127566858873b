"""Stochastic rounding (Forsythe, 1950; Gupta and others, 2015): up or down by chance, as near as each is, so
that the expected value is the weight itself where it lies inside the range of its scale.

Its error is about twice that of the nearest in squares. It is here to tell what of a method's gain is more
than chance. Draws are numbers hashed from the seed, the place and the weight: they need no order and no
state, and are the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats import Parts
from edgeq.formats.schemes import ACT_GROUP

from ..task import Array, Task
from .rtn import Table
from .search import search

U64 = np.uint64


def stochastic(task: Task, parts: Parts | None) -> Parts:
    """The parts, or those of a search, with new codes around the same scales."""
    parts = search(task, None) if parts is None else parts
    grid = task.grid
    steps, choices, codes = grid.steps(parts), grid.choice(parts), parts["codes"].copy()
    tables = [Table(values) for values in grid.values]
    columns = task.w.shape[1]

    def drawn(rows: slice) -> None:
        w = np.zeros(codes[rows].shape, np.float32)
        w[:, :columns] = task.w[rows]
        step = np.repeat(steps[rows], ACT_GROUP, axis=1)
        live = step != 0
        x = w / np.where(live, step, np.float32(1))
        u = uniform(task.seed, w, rows.start)
        found = codes[rows]
        for number, table in enumerate(tables):
            here = live & (np.repeat(choices[rows], ACT_GROUP, axis=1) == number)
            here[:, columns:] = False
            found[here] = either(x[here], u[here], table)

    task.by_rows(drawn)
    return {**parts, "codes": codes}


def either(x: Array, u: Array, table: Table) -> Array:
    """uint8 [n]: of each x, float32 [n], the code of the entry above it where u, of 0 <= u < 1, is less than
    its share of the way there, or else of the entry below.
    """
    entries = table.entries
    below = np.searchsorted(entries, x, side="right").astype(np.int64) - 1
    low = np.clip(below, 0, len(entries) - 1)
    high = np.clip(below + 1, 0, len(entries) - 1)
    gap = entries[high] - entries[low]
    share = (x - entries[low]) / np.where(gap > 0, gap, np.float32(1))
    return table.order[np.where(u < share, high, low)]


def uniform(seed: int, w: Array, first: int = 0) -> Array:
    """float32 [rows, columns], 0 <= u < 1 in steps of 2^-24, for float32 w of rows from `first` on."""
    rows, columns = w.shape
    place = np.arange(first * columns, (first + rows) * columns, dtype=U64).reshape(rows, columns)
    bits = np.ascontiguousarray(w, np.float32).view(np.uint32).astype(U64)
    start = mixed(np.array([seed % (1 << 64)], U64))
    return (mixed(mixed(start + place) ^ bits) >> U64(40)).astype(np.float32) * np.float32(2**-24)


def mixed(x: Array) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The output of splitmix64 (Steele and others, 2014) in state x, uint64."""
    x = x + U64(0x9E3779B97F4A7C15)
    x = (x ^ x >> U64(30)) * U64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> U64(27)) * U64(0x94D049BB133111EB)
    return x ^ x >> U64(31)

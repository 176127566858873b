"""Clipping by search, as AWQ's (Lin and others, 2023): the range of each group is made smaller by steps of a
twentieth, down to 0.55 of it, and the one counts with the least error of the group's part of the outputs,
e H e' over its columns. OmniQuant (Shao and others, 2024) learns the same ranges by gradients.

It is for schemes with a float scale for each group. Where scales are integers `importance` tries such ranges
already, signs and zero points among them; it counts the diagonal of H alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgeq.errors import UnsupportedError
from edgeq.formats import NUMBERS, Parts
from edgeq.formats.layout import round_up

from ..grid import code_of
from ..task import Task
from .rtn import Table, rtn

SHRINKS = tuple(np.float32(1 - k / 20) for k in range(10))


def clip(task: Task, parts: Parts | None) -> Parts:
    """The parts that are found around those of `rtn`."""
    assert task.seen is not None
    scheme = task.scheme
    if scheme.scale is None or scheme.sub or scheme.min or scheme.row:
        raise UnsupportedError(
            f"scheme {scheme.name} has not one float scale for each group and nothing else: clip is for such "
            "ones, and importance for scales that are integers"
        )
    width, columns = scheme.scale.columns, task.w.shape[1]
    number = NUMBERS[scheme.scale.number]
    assert number.stored is not None
    found = {name: array.copy() for name, array in rtn(task, None).items()}
    values, table = scheme.values[0].astype(np.float32), Table(scheme.values[0])
    padded = round_up(columns, scheme.step)
    h = np.zeros((padded, padded), np.float32)
    h[:columns, :columns] = task.seen.h
    unit = np.float32(scheme.unit)
    first = number.floats(found["scale"])
    tried = np.stack([number.stored(first * shrink) for shrink in SHRINKS])
    scales = number.floats(tried) * unit

    def clipped(rows: slice) -> None:
        w = np.zeros((len(task.w[rows]), padded), np.float32)
        w[:, :columns] = task.w[rows]
        places = np.zeros(first[rows].shape, np.int64)
        least(w, scales[:, rows], values, table.nearest, table.low, h, width, places)
        stored = np.take_along_axis(tried[:, rows], places[None], axis=0)[0]
        step = np.repeat(number.floats(stored) * unit, width, axis=1)
        found["scale"][rows] = stored
        codes = table.codes(w / np.where(step == 0, np.float32(1), step))
        codes[step == 0] = scheme.padding
        codes[:, columns:] = scheme.padding
        found["codes"][rows] = codes

    task.by_rows(clipped)
    return found


@njit(nogil=True)
def least(w: Any, scales: Any, values: Any, nearest: Any, low: Any, h: Any, width: Any, places: Any) -> None:
    """Of scales float32 [tried, rows, groups] the number of the best for each row and group, int64."""
    off = np.zeros(width, np.float32)
    for r in range(len(w)):
        for g in range(scales.shape[2]):
            start = g * width
            best = np.inf
            for t in range(len(scales)):
                scale = scales[t, r, g]
                if scale == 0:
                    continue
                for i in range(width):
                    x = w[r, start + i]
                    off[i] = values[code_of(x / scale, nearest, low)] * scale - x
                error = 0.0
                for i in range(width):
                    row = np.float32(0)
                    for j in range(i):
                        row += h[start + i, start + j] * off[j]
                    error += off[i] * (np.float32(2) * row + h[start + i, start + i] * off[i])
                if error < best:
                    places[r, g], best = t, error

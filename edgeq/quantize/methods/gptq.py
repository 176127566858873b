"""GPTQ: column after column is rounded, and those that are left take the error (Frantar and others, 2022).

The scales stay what the method before left them ("static groups"), so columns may come in any order: those
with the largest inputs first. With L L' = H in that order, reversed, the best rounding of a weight, given
what the weights before it are off by, is that of w_i + sum_j e_j L_ji / L_ii: the same as GPTQ's updates with
the inverse of H, and without an inverse (Babai's nearest plane; Chen and others, 2025).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgeq.formats import Parts
from edgeq.formats.schemes import ACT_GROUP

from ..grid import code_of
from ..task import Task


def gptq(task: Task, parts: Parts | None) -> Parts:
    """The parts with new codes."""
    assert parts is not None and task.seen is not None
    factor, grid = task.seen.factor, task.grid
    lower, order, dense = factor.lower, factor.order, task.dense
    w = np.ascontiguousarray(task.w[:, order])
    left = dense.zeros(*w.shape)  # sum_j e_j L_ji
    step, choice, codes = grid.steps(parts), grid.choice(parts), parts["codes"].copy()
    for s, e in factor.blocks()[::-1]:
        off = dense.zeros(len(w), e - s)

        def rounded(rows: slice, s: int = s, e: int = e, off: Any = off) -> None:
            round_columns(
                w[rows], left[rows], lower, order, s, e, step[rows], choice[rows], grid.values, grid.nearest,
                grid.low, codes[rows], off[rows],
            )  # fmt: skip

        task.by_rows(rounded)
        if s:
            dense.product(lower[s:e, :s].T, off, out=left[:, :s])
    return {**parts, "codes": codes}


@njit(nogil=True)
def round_columns(
    w: Any, left: Any, lower: Any, order: Any, s: Any, e: Any, step: Any, choice: Any, values: Any,
    nearest: Any, low: Any, codes: Any, off: Any,
) -> None:  # fmt: skip
    """Columns e - 1 down to s of rows; what each leaves goes into off [rows, e - s] and on to those below."""
    for r in range(len(w)):
        for i in range(e - 1, s - 1, -1):
            k = order[i]
            g = k // ACT_GROUP
            a = step[r, g]
            q = np.float32(0)
            if a != 0:
                x = (w[r, i] + left[r, i] / lower[i, i]) / a
                c = code_of(x, nearest[choice[r, g]], low)
                codes[r, k] = c
                q = values[choice[r, g], c] * a
            error = w[r, i] - q
            off[r, i - s] = error
            for j in range(s, i):
                left[r, j] += error * lower[i, j]

"""Coordinate descent on the error of the outputs: a code at a time, then a scale at a time, then the row's
float.

With e = q - w and D = e H, another q_k by d changes e H e' by d (2 D_k + d H_kk): the best code is the
nearest to q_k - D_k / H_kk. The error never grows (`descent`: codes alone; `refit`: scales alone, for given
codes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import njit

from edgeq.formats import Parts
from edgeq.formats.schemes import ACT_GROUP
from edgeq.formats.schemes.values import sub_scales

from ..grid import code_of, mean
from ..task import Array, Task

PASSES = 3
DAMPING = np.float32(0.01)  # of the mean of the diagonal: as GPTQ's


def descent(task: Task, parts: Parts | None) -> Parts:
    """The parts with codes that no single change makes better, or nearly so, and their scales refitted."""
    assert parts is not None and task.seen is not None
    with damped(task.seen.h, np.float32(DAMPING * mean(task.seen.squares))) as h:
        return _descended(task, parts, h)


@contextmanager
def damped(h: Array, added: np.float32) -> Iterator[Array]:
    """h itself with a number added to its diagonal for a while: a copy may be a tenth of all memory."""
    squares = np.array(np.diagonal(h))
    try:
        h.flat[:: len(h) + 1] += added
        yield h
    finally:
        h.flat[:: len(h) + 1] = squares


def _descended(task: Task, parts: Parts, h: Array) -> Parts:
    grid, dense = task.grid, task.dense
    wh = dense.product(h, task.w)
    pull = dense.product(h, task.values(parts)) - wh
    step, choice, codes = grid.steps(parts), grid.choice(parts), parts["codes"].copy()
    scheme = task.scheme
    kind = scheme.sub_kind
    fits = kind is not None and set(scheme.floats) == {"row"}
    sub = sub_scales(parts["sub"], scheme) if fits else np.zeros_like(step)
    row = parts["row"].astype(np.float32).copy() if fits else np.ones((len(step), 1), np.float32)
    high = np.float32(kind.high) if kind is not None else np.float32(0)
    signed = kind is not None and kind.low < 0

    def descended(rows: slice) -> None:
        for _ in range(PASSES):
            moved = descend(
                pull[rows], h, step[rows], choice[rows], grid.values, grid.nearest, grid.low, codes[rows]
            )
            if fits:
                refit_groups(
                    pull[rows], h, step[rows], sub[rows], row[rows], choice[rows], grid.values, codes[rows],
                    high, signed,
                )  # fmt: skip
                refit_rows(
                    pull[rows], wh[rows], step[rows], row[rows], choice[rows], grid.values, codes[rows]
                )
            elif not moved:
                break

    task.by_rows(descended)
    if not fits:
        return {**parts, "codes": codes}
    stored = sub.astype(np.int16)
    if kind is not None and kind.chooses:
        stored = stored & 63 | choice.astype(np.int16) << 6
    return {"codes": codes, "sub": stored.astype(np.uint8).view(parts["sub"].dtype), "row": row}


@njit(nogil=True)
def descend(
    pull: Any, h: Any, step: Any, choice: Any, values: Any, nearest: Any, low: Any, codes: Any
) -> int:
    """Each code of some rows once; how many changed. pull, [rows, columns], is e H and is kept so."""
    moved = 0
    for k in range(len(h)):
        g = k // ACT_GROUP
        own = h[k, k]
        for r in range(len(pull)):
            a = step[r, g]
            bend = own * a
            if bend == 0:  # no step, or inputs so small that no change counts
                continue
            table = choice[r, g]
            old = values[table, codes[r, k]]
            c = code_of(old - pull[r, k] / bend, nearest[table], low)
            change = (values[table, c] - old) * a
            if change != 0 and change * (np.float32(2) * pull[r, k] + change * own) < 0:
                codes[r, k] = c
                moved += 1
                for j in range(len(h)):
                    pull[r, j] += change * h[k, j]
    return moved


@njit(nogil=True)
def refit_groups(
    pull: Any,
    h: Any,
    step: Any,
    sub: Any,
    row: Any,
    choice: Any,
    values: Any,
    codes: Any,
    high: Any,
    signed: Any,
) -> None:
    """The integer scale of each group once: the best for the codes, or the next to it."""
    z = np.zeros(ACT_GROUP, np.float32)
    for g in range(step.shape[1]):
        first = g * ACT_GROUP
        count = min(ACT_GROUP, len(h) - first)
        for r in range(len(pull)):
            up = along = np.float32(0)
            for i in range(count):
                z[i] = values[choice[r, g], codes[r, first + i]] * row[r, 0]
                up += z[i] * pull[r, first + i]
            for i in range(count):
                inner = np.float32(0)
                for j in range(count):
                    inner += h[first + i, first + j] * z[j]
                along += z[i] * inner
            if not along > 0:
                continue
            new = np.rint(sub[r, g] - up / along)
            new = min(max(new, -high if signed else np.float32(0)), high)
            change = new - sub[r, g]
            if new != 0 and change != 0 and change * (np.float32(2) * up + change * along) < 0:
                sub[r, g] = new
                step[r, g] = new * row[r, 0]
                for i in range(count):
                    d = change * z[i]
                    for j in range(len(h)):
                        pull[r, j] += d * h[first + i, j]


@njit(nogil=True)
def refit_rows(pull: Any, wh: Any, step: Any, row: Any, choice: Any, values: Any, codes: Any) -> None:
    """The float of each row: q becomes (1 + t) q with t = - q D / q H q, and q H = D + w H."""
    for r in range(len(pull)):
        up = along = np.float64(0)
        for k in range(pull.shape[1]):
            g = k // ACT_GROUP
            q = values[choice[r, g], codes[r, k]] * step[r, g]
            up += q * pull[r, k]
            along += q * (pull[r, k] + wh[r, k])
        if not along > 0:
            continue
        old = row[r, 0]
        row[r, 0] = old * np.float32(1 - up / along)
        t = row[r, 0] / old - np.float32(1)
        for k in range(pull.shape[1]):
            pull[r, k] += t * (pull[r, k] + wh[r, k])
        for g in range(step.shape[1]):
            step[r, g] *= np.float32(1) + t

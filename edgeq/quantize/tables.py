"""A table of integers learned for one matrix, in the place of the one that its scheme has for all.

A file holds no such tables: this is to see what they would give (as in SqueezeLLM, Kim and others, 2024,
whose tables are for rows; weighted k-means in turns with the search for scales).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.errors import UnsupportedError
from edgeq.formats import Scheme

from .methods.search import importance, search
from .task import Task

Array = np.ndarray[Any, Any]

ROUNDS = 6
ENTRY_MAX = 63  # of magnitudes, as the schemes' own tables have them


def learned(task: Task, rounds: int = ROUNDS) -> Scheme:
    """The task's scheme with the table that leaves the matrix the least squared error, columns counted as
    their inputs' squares where these are known: each entry is the mean, weighted by scales, of what gets it,
    for the scales that a search finds, in turns.

    UnsupportedError for a scheme that has not one table.
    """
    scheme = task.scheme
    if len(scheme.table) != 1 << scheme.bits or scheme.sub is None:
        raise UnsupportedError(f"scheme {scheme.name} has not one table that could be learned")
    find = search if task.seen is None else importance
    counts = np.ones(task.w.shape[1], np.float32) if task.seen is None else task.seen.squares
    best = (np.inf, scheme)
    for _ in range(rounds + 1):
        trial = replace(task, scheme=scheme)
        parts = find(trial, None)
        off = trial.values(parts) - task.w
        error = float(np.cumsum((off * off * counts).sum(axis=1), dtype=np.float64)[-1])
        if error >= best[0]:
            break
        best = error, scheme
        scheme = replace(scheme, table=entries(trial, parts, counts))
    return best[1]


def entries(task: Task, parts: Any, counts: Array) -> tuple[int, ...]:
    """The best integers for the codes, scales and zero points that there are, ascending as they were."""
    columns = task.w.shape[1]
    step = np.repeat(task.grid.steps(parts), 32, axis=1)[:, :columns].astype(np.float64)
    zeros = np.array(task.scheme.zeros, np.float64)[task.grid.choice(parts)]
    zero = np.repeat(zeros, 32, axis=1)[:, :columns]
    codes = parts["codes"][:, :columns].reshape(-1)
    number = 1 << task.scheme.bits
    up = np.bincount(codes, (counts * step * (task.w + zero * step)).reshape(-1), number)
    along = np.bincount(codes, (counts * step * step).reshape(-1), number)
    found = np.where(along > 0, up / np.where(along > 0, along, 1), task.scheme.table)
    return tuple(int(v) for v in np.clip(np.rint(found), -ENTRY_MAX, ENTRY_MAX))

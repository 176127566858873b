"""Matrices of experts, which stand one after another in one: each expert's rows are quantized on what comes
to that expert, and without calibration where too little does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from edgeq.formats import Parts, Scheme
from edgeq.runtime.dense import Dense

from .ladder import Found, Judge, climb
from .methods import METHODS
from .task import Seen, Task

Array = np.ndarray[Any, Any]

JUDGED_MIN = 16  # rows that were kept apart, by which an expert's steps are judged
LEARNT_SHARE = 8  # an expert is learnt from if so many of its columns have a row each


class Known(NamedTuple):
    """What is known of the rows that come to an expert, and of how many its steps are judged by."""

    seen: Seen
    judge: Judge
    judged: int


def known_of(learnt: int, h: Array, judged: int, apart: Array, dense: Dense) -> Known | None:
    """What is known by the mean of x x' of so many rows that are learnt from, and of as many as were kept
    apart; None where these are too few to tell of an expert.
    """
    if judged < JUDGED_MIN or learnt * LEARNT_SHARE < len(h):
        return None
    return Known(Seen(h, dense), Judge(apart, None, dense), judged)


def without_data(steps: Sequence[str]) -> tuple[str, ...]:
    """Of steps those before the first that goes by inputs; a search where that is the first."""
    return tuple(takewhile(lambda step: not METHODS[step].data, steps)) or ("search",)


def quantize_experts(
    matrices: Mapping[str, Array],
    schemes: Mapping[str, Scheme],
    steps: Sequence[str],
    known: Iterable[Known | None],
    experts: int,
    dense: Dense,
    seed: int,
) -> dict[str, Found]:
    """Matrices by their names, float32 [experts * rows, columns], that read the same rows; what is known of
    each expert is asked for once, and let go of.
    """
    found: dict[str, list[tuple[Found, int]]] = {name: [] for name in matrices}
    for expert, each in enumerate(known):
        for name, w in matrices.items():
            rows = len(w) // experts
            own = np.ascontiguousarray(w[expert * rows : (expert + 1) * rows])
            if each is None:
                made = blind(Task(own, schemes[name], None, dense, seed), steps)
            else:
                made = climb(Task(own, schemes[name], each.seen, dense, seed), steps, each.judge)
            found[name].append((made, 0 if each is None else each.judged))
    return {name: joined(pieces) for name, pieces in found.items()}


def blind(task: Task, steps: Sequence[str]) -> Found:
    """By the steps that need no data, unjudged."""
    parts: Parts | None = None
    chosen = without_data(steps)
    for step in chosen:
        parts = METHODS[step].run(task, parts)
    assert parts is not None
    return Found(parts, chosen, (), math.nan, unseen=1)


def joined(pieces: Sequence[tuple[Found, int]]) -> Found:
    """Experts one after another, each with the rows that it was judged by."""
    if len(pieces) == 1:
        return pieces[0][0]
    seen = [(found, rows) for found, rows in pieces if not found.unseen]
    told = [found for found, _ in seen] or [found for found, _ in pieces]
    tried = dict.fromkeys(step for found in told for step in (*found.helped, *found.undone))
    helped = [step for step in tried if 2 * sum(step in found.helped for found in told) > len(told)]
    total = sum(rows for _, rows in seen)
    return Found(
        {name: np.concatenate([found.parts[name] for found, _ in pieces]) for name in told[0].parts},
        tuple(helped),
        tuple(step for step in tried if step not in helped),
        sum(found.error * rows for found, rows in seen) / total if total else math.nan,
        unseen=sum(found.unseen for found, _ in pieces),
    )

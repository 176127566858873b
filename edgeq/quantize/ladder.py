"""Steps, of which each is held against the one before on inputs that it has not seen, and undone where it
does not help.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgeq.errors import FormatError
from edgeq.formats import Parts, Scheme
from edgeq.runtime.dense import Dense

from .factor import Factor
from .grid import inner
from .methods import METHODS
from .task import Seen, Task

Array = np.ndarray[Any, Any]

RIDGES = (0.01, 0.1, 1.0)  # of the mean square of the inputs, that hold a target back


@dataclass(frozen=True)
class Judge:
    """The moments of inputs x that were kept apart, [columns, columns] the mean of x x'; and, where the
    inputs are not those that the outputs are to be of, [rows, columns] the mean of (t - w x) x', t what is
    wanted.
    """

    h: Array
    pull: Array | None
    dense: Dense = field(repr=False)

    def loss(self, off: Array) -> float:
        """What weights that are `off`, float32 [rows, columns], add to the mean squared error of the outputs,
        summed over them: it may be less than nothing.
        """
        total = inner(off, self.dense.product(self.h, off))
        return total if self.pull is None else total - 2 * inner(off, self.pull)


@dataclass(frozen=True)
class Found:
    """A quantized matrix: its parts, the steps that helped and those that were undone, the ridge of its
    target (None: the weights themselves), and the error of the outputs on what was kept apart, relative to
    their size. Of the matrices of experts, in one: what was so for most of them, the mean error, and how many
    were rounded without calibration; these have no say in the rest, and where they are all the error is NaN.
    """

    parts: Parts
    helped: tuple[str, ...]
    undone: tuple[str, ...]
    error: float
    ridge: float | None = None
    unseen: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """For the file's header."""
        found: dict[str, Any] = {"method": "+".join(self.helped)}
        if not math.isnan(self.error):
            found["error"] = significant(self.error)
        if self.undone:
            found["undone"] = "+".join(self.undone)
        if self.ridge is not None:
            found["ridge"] = self.ridge
        if self.unseen:
            found["experts_unseen"] = self.unseen
        return found


def significant(value: float) -> float:
    """Four digits: what is told is the same wherever the last bits differ."""
    return float(f"{value:.4g}")


def climb(task: Task, steps: Sequence[str], judge: Judge, around: Array | None = None) -> Found:
    """The best that the steps make of a task, by the judge; around, float32 [rows, columns], are the weights
    whose error it judges where the task's are others (a target).
    """
    w = task.w if around is None else around
    size = inner(w, judge.dense.product(judge.h, w)) or 1.0
    parts: Parts | None = None
    best, helped, undone = np.inf, list[str](), list[str]()
    for name in steps:
        if parts is None and not METHODS[name].begins:
            break
        new = METHODS[name].run(task, parts)
        loss = judge.loss(task.values(new) - w)
        if loss < best:
            parts, best = new, loss
        (helped if parts is new else undone).append(name)
    if parts is None:
        raise FormatError("the error of its outputs is not finite")
    return Found(parts, tuple(helped), tuple(undone), best / size)


def target(w: Array, learnt: Array, pull: Array, judge: Judge) -> tuple[float | None, Array]:
    """The weights whose outputs, of the inputs that there are, come nearest to those that are wanted, and the
    ridge with which the judge finds them best; None, and w itself, where it finds none better.

    learnt, [columns, columns], and pull, [rows, columns], are as the judge's, of what may be learnt from: the
    least squares solution is w + pull inv(learnt + ridge).
    """
    best: tuple[float, float | None, Array] = (0.0, None, w)
    for ridge in RIDGES:
        moved = Factor(judge.dense, learnt, ridge).solve(pull)
        loss = judge.loss(moved)
        if loss < best[0]:
            best = loss, ridge, (w + moved).astype(np.float32)
    return best[1:]


def quantize_matrix(
    w: Array, scheme: Scheme, steps: Sequence[str], seen: Seen, judge: Judge, pull: Array | None, seed: int
) -> Found:
    """A matrix by steps and, with a pull (see `target`), both itself and its target: the better of them."""
    task = Task(w, scheme, seen, seen.dense, seed)
    found = climb(task, steps, judge)
    if pull is None:
        return found
    ridge, wanted = target(w, seen.h, pull, judge)
    if ridge is not None:
        other = climb(Task(wanted, scheme, seen, seen.dense, seed), steps, judge, w)
        if other.error < found.error:
            return replace(other, helped=("target", *other.helped), ridge=ridge)
    return replace(found, undone=("target", *found.undone))

"""AWQ (Lin and others, 2023): columns with large inputs are made large before they are rounded.

A column gets the factor mean|x|^a / mean|W|^(1 - a) (the paper's has no weights in it; AutoAWQ's has). a is
one number for the matrices that read the same rows: the one of GRID with the least error when they are
rounded as they will be. With steps that search for their scales, such as `importance`, factors and clipping
are chosen together. The error is that of the matrices' own outputs, tr(E H E'), the paper's that of the block
that they are in. No factors at all are one of the choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..methods import METHODS
from ..task import Seen, Task
from .base import Place, Scaling
from .source import Array

GRID = tuple(a / 10 for a in range(11))


@dataclass(frozen=True)
class Awq(Scaling):
    name = "awq"
    data = True
    steps: tuple[str, ...] = ("importance",)  # names of METHODS
    grid: tuple[float, ...] = GRID

    def factors(self, place: Place) -> Array:
        assert place.moments is not None
        if not any(scheme.planes for scheme in place.schemes.values()):
            return np.ones(place.columns, np.float32)
        h = place.moments.mean
        inputs = place.moments.absolute.astype(np.float64) / max(1, place.moments.count)
        stacked = np.abs(place.stacked)
        weights = np.cumsum(stacked, axis=0, dtype=np.float64)[-1] / len(stacked)
        live = (weights > 0) & (inputs > 0)
        best = place.evened(np.ones(place.columns))
        least = self.loss(place, h, best)
        for a in self.grid:
            s = np.where(live, inputs, 1) ** a / np.where(live, weights, 1) ** (1 - a)
            factors = place.evened(np.where(live, s, 0))
            loss = self.loss(place, h, factors)
            if loss < least:
                best, least = factors, loss
        return best

    def loss(self, place: Place, h: Array, s: Array) -> float:
        """The mean squared error of the outputs, summed over them, with columns times s; h is that of the
        inputs as they were.
        """
        seen = Seen(h / s / s[:, None], place.dense)
        total = 0.0
        for name, w in place.matrices.items():
            if not place.schemes[name].planes:
                continue
            task = Task(w * s, place.schemes[name], seen, place.dense, place.seed)
            parts = None
            for step in self.steps:
                parts = METHODS[step].run(task, parts)
            assert parts is not None
            total += task.error(parts, seen.h)
        return total

"""The factors of columns of SINQ (Müller and others, 2025), folded into what feeds them: no data is needed.

Columns and rows are divided in turn by their standard deviations until these are even. The factors of the
rows are not kept: the scales of edgeq's schemes belong to rows already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Place, Scaling
from .source import Array

STEP = 0.7, 2.0  # that a factor changes by in a round, at the most


@dataclass(frozen=True)
class Sinq(Scaling):
    name = "sinq"
    rounds: int = 16

    def factors(self, place: Place) -> Array:
        w = place.stacked.astype(np.float64)
        column, row = np.ones(w.shape[1]), np.ones(len(w))
        best, least = column.copy(), np.inf
        for _ in range(self.rounds):
            even = w / column / row[:, None]
            across, along = deviations(even, 0), deviations(even, 1)
            uneven = max(across.max(), along.max()) / max(min(across.min(), along.min()), 1e-30)
            if uneven < least:
                best, least = column.copy(), uneven
            column *= np.clip(across / mean(across), *STEP)
            row *= np.clip(along / mean(along), *STEP)
        return place.evened(1 / best)


def deviations(x: Array, axis: int) -> Array:
    """Standard deviations along an axis of a matrix, in one order of adding up."""
    count = x.shape[axis]
    off = x - np.cumsum(x, axis=axis).take([-1], axis) / count
    found: Array = np.sqrt(np.cumsum(off * off, axis=axis).take(-1, axis) / count)
    return found


def mean(x: Array) -> float:
    """Of a vector, in one order."""
    return float(np.cumsum(x)[-1] / len(x))

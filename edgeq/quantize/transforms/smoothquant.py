"""SmoothQuant (Xiao and others, 2023): the range of activations is shared with the weights.

A column gets the factor max|x|^alpha / max|W|^(1 - alpha), its inputs the inverse. Meant for activations that
have one scale for a token or a tensor; those of edgeq have one for 32 columns, and gain little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Place, Scaling
from .source import Array


@dataclass(frozen=True)
class SmoothQuant(Scaling):
    name = "smoothquant"
    data = True
    alpha: float = 0.5  # the share of the range that weights take

    def factors(self, place: Place) -> Array:
        assert place.moments is not None
        weights = np.abs(place.stacked).max(axis=0).astype(np.float64)
        inputs = place.moments.largest.astype(np.float64)
        live = (weights > 0) & (inputs > 0)
        s = np.where(live, inputs, 1) ** self.alpha / np.where(live, weights, 1) ** (1 - self.alpha)
        return place.evened(np.where(live, s, 0))

"""The numbers that the codes of a scheme stand for, given its scales: what methods choose codes from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgeq.errors import UnsupportedError
from edgeq.formats import NUMBERS, Parts, Scheme
from edgeq.formats.schemes import ACT_GROUP
from edgeq.formats.schemes.values import choices, sub_scales

Array = np.ndarray[Any, Any]
F32 = np.float32


def has_grid(scheme: Scheme) -> bool:
    """Whether each 32 columns of a row have one step and one table of integers, without a min."""
    whole = scheme.sub is None or scheme.sub.columns == ACT_GROUP
    return bool(scheme.planes) and scheme.min is None and whole and scheme.group == ACT_GROUP


class Grid:
    """A weight is step[row, group] * values[choice[row, group], code], for groups of 32 columns.

    nearest, uint8 [choices, n], has the code whose integer is nearest to x at place floor(2 * (x - low)): the
    halfway points of integers are multiples of a half, so that none lies within a place.
    """

    def __init__(self, scheme: Scheme):
        if not has_grid(scheme):
            raise UnsupportedError(
                f"scheme {scheme.name} has other scales than one for each 32 columns, and methods choose "
                "codes for these alone"
            )
        self.scheme = scheme
        self.values = scheme.values.astype(F32)
        self.low = F32(self.values.min())
        middles = self.low + (np.arange(2 * int(self.values.max() - self.low) + 2) + F32(0.5)) / F32(2)
        self.nearest = np.abs(self.values[:, None, :] - middles[:, None]).argmin(axis=2).astype(np.uint8)

    def steps(self, parts: Parts) -> Array:
        """float32 [rows, groups]."""
        rows, columns = parts["codes"].shape
        step = np.ones((rows, columns // ACT_GROUP), F32)
        if self.scheme.sub:
            step *= sub_scales(parts["sub"], self.scheme)
        return step * self.unit(parts)

    def unit(self, parts: Parts) -> Array:
        """float32 [rows, groups], or [rows, 1]: what an integer scale of 1 stands for."""
        unit = np.ones((len(parts["codes"]), 1), F32)
        for name, floats in self.scheme.floats.items():
            found = NUMBERS[floats.number].floats(parts[name])
            unit = unit * (np.repeat(found, floats.columns // ACT_GROUP, axis=1) if floats.columns else found)
        return unit * F32(self.scheme.unit)

    def choice(self, parts: Parts) -> Array:
        """uint8 [rows, groups]."""
        if len(self.values) > 1:
            return choices(parts["sub"])
        return np.zeros((len(parts["codes"]), parts["codes"].shape[1] // ACT_GROUP), np.uint8)


@njit(nogil=True)
def code_of(x: Any, nearest: Any, low: Any) -> Any:
    """Of x, in steps, the nearest code by a row of `Grid.nearest`; of NaN the first."""
    place = np.float32(2) * (x - low)
    if not place > np.float32(0):
        return nearest[0]
    last = len(nearest) - 1
    return nearest[int(place) if place < np.float32(last) else last]


@njit(nogil=True)
def inner(a: Any, b: Any) -> float:
    """The sum of the products of two float32 matrices, in float64 and in one order."""
    total = 0.0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += np.float64(a[i, j]) * np.float64(b[i, j])
    return total


def mean(x: Array) -> float:
    """Of a vector, in float64 and in one order."""
    return float(np.cumsum(x, dtype=np.float64)[-1] / len(x))

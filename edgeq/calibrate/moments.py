"""What is learnt of the inputs of products: their second moments, magnitudes and extremes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.calibrate.layers import Layer, Tap
from edgeq.runtime.dense import Dense

Array = np.ndarray[Any, Any]

BAND = 256  # rows of a matrix at a time


@dataclass
class Moments:
    """Of the rows x that went through a tap, so many: sums of x x', of |x|, and the largest |x|."""

    matrices: tuple[str, ...]
    count: int
    products: Array  # float32 [columns, columns], at and below the diagonal
    absolute: Array  # float32 [columns]
    largest: Array  # float32 [columns]

    @classmethod
    def empty(cls, tap: Tap, dense: Dense) -> Moments:
        n = tap.columns
        return cls(tap.matrices, 0, dense.zeros(n, n), np.zeros(n, np.float32), np.zeros(n, np.float32))

    def add(self, x: Array, dense: Dense) -> None:
        """Some rows more, float32 [n, columns]."""
        if not len(x):
            return
        dense.gram(x, self.products)
        size = np.abs(x)
        self.absolute += size.sum(axis=0)
        np.maximum(self.largest, size.max(axis=0), out=self.largest)
        self.count += len(x)

    def merge(self, other: Moments) -> None:
        """What another has seen."""
        self.products += other.products
        self.absolute += other.absolute
        np.maximum(self.largest, other.largest, out=self.largest)
        self.count += other.count

    @property
    def mean(self) -> Array:
        """float32 [columns, columns], symmetric: the mean of x x'."""
        return symmetric(self.products) / np.float32(max(1, self.count))


def symmetric(lower: Array) -> Array:
    """A symmetric matrix from what is at and below its diagonal: lower itself, where it has no gaps."""
    found = np.ascontiguousarray(lower)
    for first in range(
        0, len(found), BAND
    ):  # a few rows at a time: a whole copy may be a tenth of the memory
        last = min(first + BAND, len(found))
        found[first:last, last:] = found[last:, first:last].T
        own = found[first:last, first:last]
        own[...] = np.tril(own) + np.tril(own, -1).T
    return found


Shares = tuple[Moments, ...]  # of what comes to each expert; of a tap of no experts all in one


def learn(layer: Layer, rows: Array, dense: Dense) -> list[Shares]:
    """The moments of each tap of a layer over windows of rows, float32 [windows, tokens, hidden], which are
    behind the layer afterwards.
    """
    found = [tuple(Moments.empty(tap, dense) for _ in range(max(1, tap.experts))) for tap in layer.taps]
    for n, window in enumerate(rows):
        for shares, (tap, _) in zip(found, passed(layer, window), strict=True):
            for each, x in zip(shares, layer.shared(tap), strict=True):
                each.add(x, dense)
        rows[n] = layer.x[: len(window)]
    return found


def passed(layer: Layer, x: Array) -> Iterator[tuple[Tap, Array]]:
    """Run a window x, float32 [n, hidden], through a layer: each tap with the rows that come to it, float32
    [n * picked, columns], a view. At the end `layer.x` is what comes of the window.
    """
    layer.start(x)
    for tap in layer.taps:
        layer.until(tap.first)
        yield tap, layer.read(tap)
    layer.until()

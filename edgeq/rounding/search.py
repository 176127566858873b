"""A search for the integer scale of each 32 columns, for what its byte chooses, a zero point or a table, and
for the float of each row.

It makes the squared error of the weights small, each column's counted as its importance says, in three steps:

1. Of some real scales for 32 columns, of each sign and with each choice, the one with the least error.
2. The row's float is the largest of them divided by the largest integer, or a little more: what leaves less.
3. With it, of the integers beside each scale and of the choices, those with the least error; or 0.

A weight gets the code whose integer is nearest. Where one ends and the next begins lies on half steps, so the
nearest of any number is looked up. Sums have one order, and nothing is fused or reordered: the parts have the
same bits on every processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from edgeq.formats import Parts, Scheme
from edgeq.formats.schemes import ACT_GROUP, Array

F32 = np.float32
ENDS, ENDS_OF_FOUR = (0.8, 1.15), (0.6, 1.1)  # of the scale that takes the largest magnitude to the end; the
# ends of four codes lie further inside
HALVES = 512  # half steps that are told apart, from -128 on
CENTRE, LAST = F32(256), F32(HALVES - 1)
ZERO, TWO = F32(0), F32(2)


@dataclass(frozen=True)
class Effort:
    """How much is tried: real scales between the ends, integers on each side of the nearest, and by how much
    the row's float may be larger than the largest scale needs.
    """

    trials: int
    beside: int
    room: tuple[float, ...]

    def scales(self, ends: tuple[float, float]) -> Array:
        """float32 [trials] between the ends."""
        return np.linspace(*ends, self.trials).astype(F32)

    @property
    def near(self) -> Array:
        """float32: the nearest integer first, then those beside it."""
        return np.array([0, *(side * n for n in range(1, self.beside + 1) for side in (-1, 1))], F32)


USUAL = Effort(7, 1, (1.0, 1.06))
FINER = Effort(13, 3, (1.0, 1.03, 1.06, 1.1))


def search(x: Array, scheme: Scheme, importance: Array | None = None, effort: Effort = USUAL) -> Parts:
    """The parts of float32 [rows, cols], whole steps. A row's float is NaN where a value is not finite.

    importance, float32 [cols], of which none is negative: what the squared error of each column counts; None:
    all count 1.
    """
    kind = scheme.sub_kind
    assert kind is not None
    even, exponents = evened(x)
    counts = np.ones(x.shape[1], F32) if importance is None else importance.astype(F32)
    fitting = Fitting(even.reshape(-1, ACT_GROUP), scheme, counts.reshape(-1, ACT_GROUP), effort)
    real = fitting.real(signed=kind.low < 0).reshape(len(x), -1)
    largest = np.abs(real).max(axis=1, keepdims=True)
    tried = []
    for room in effort.room:
        unit = largest / F32(kind.high) * F32(room)
        sub, choice, error = fitting.integers(real, unit, -kind.high if kind.low < 0 else 0, kind.high)
        total = np.cumsum(error, axis=1, dtype=np.float64)[:, -1]  # in one order, whatever the processor
        tried.append((total, unit, sub, choice))
    least = np.argmin([total for total, *_ in tried], axis=0), np.arange(len(x))
    _, unit, sub, choice = (np.stack(each)[least] for each in zip(*tried, strict=True))
    codes = fitting.codes(sub * unit, choice)
    codes[sub.reshape(-1) == 0] = scheme.padding
    stored = sub.astype(np.int16)
    if kind.chooses:
        stored = stored & 63 | choice.astype(np.int16) << 6
    return {
        "codes": codes.reshape(x.shape),
        "sub": stored.astype(np.uint8).view(kind.dtype),
        "row": np.where(np.isfinite(x).all(axis=1, keepdims=True), np.ldexp(unit, exponents), F32(np.nan)),
    }


def evened(x: Array) -> tuple[Array, Array]:
    """Rows divided by powers of two so that the largest magnitude of each is 0.5 ... 1, exactly: no square is
    too large or too small. Their exponents, [rows, 1]. Rows that are not finite become zeros.
    """
    top = np.abs(x).max(axis=1, keepdims=True)
    finite = np.isfinite(top)
    exponents = np.frexp(np.where(finite, top, ZERO))[1]
    return (np.where(finite, x, ZERO) * np.ldexp(1.0, -exponents)).astype(F32), exponents


class Fitting:
    """Blocks float32 [n, 32] and the integers that a scheme's codes stand for: those of a table, less a zero
    point, for each choice. The columns of block i count as counts[i % m], float32 [m, 32], say.
    """

    def __init__(self, blocks: Array, scheme: Scheme, counts: Array, effort: Effort = USUAL):
        choices = len(scheme.values)
        tables = np.broadcast_to(scheme.tables, scheme.values.shape).astype(F32)
        middles = (np.arange(HALVES) + 0.5) / 2 - 128  # of half steps: no integer ends inside
        self.nearest = np.abs(middles[:, None] - tables[:, None]).argmin(axis=2).astype(np.uint8)
        self.grids = TWO * np.take_along_axis(tables, self.nearest.astype(np.int64), axis=1) + CENTRE
        self.zeros = np.broadcast_to(np.array(scheme.zeros, F32), choices).copy()
        self.blocks, self.counts, self.largest = blocks, counts, np.abs(tables).max()
        self.trials = effort.scales(ENDS if tables.shape[1] > 4 else ENDS_OF_FOUR)
        self.near = effort.near

    def real(self, signed: bool) -> Array:
        """The best real scale of each block, [n]."""
        trials = np.concatenate([self.trials, -self.trials]) if signed else self.trials
        scales = np.abs(self.blocks).max(axis=1, keepdims=True) / self.largest * trials
        return self.best(scales, scales)[0]

    def integers(self, real: Array, unit: Array, low: int, high: int) -> tuple[Array, Array, Array]:
        """The best integers of unit [rows, 1] beside the real scales [rows, groups], with the numbers of
        their choices and the errors, all [rows, groups].
        """
        centre = np.rint(real / np.where(unit > 0, unit, F32(1)))
        integers = np.clip(centre[..., None] + self.near, F32(low), F32(high))
        scales = integers * unit[..., None]
        found = self.best(integers.reshape(-1, len(self.near)), scales.reshape(-1, len(self.near)))
        best, choice, error = (part.reshape(real.shape) for part in found)
        return best, choice, error

    def best(self, names: Array, scales: Array) -> tuple[Array, Array, Array]:
        """Of scales [n, k] the best of each block, by its name, with the number of its choice and the error;
        0 where none is better than to make all 0.
        """
        n = len(self.blocks)
        at, choice, error = np.empty(n, np.int64), np.empty(n, np.uint8), np.empty(n, F32)
        fit(self.blocks, self.counts, scales, self.zeros, self.grids, at, choice, error)
        return np.where(at < 0, ZERO, names[np.arange(n), at]), choice, error

    def codes(self, scale: Array, choice: Array) -> Array:
        """uint8 [n, 32], of the nearest integers."""
        with np.errstate(divide="ignore", invalid="ignore"):  # where a scale is 0
            halves = self.blocks * (TWO / scale.reshape(-1, 1)) + (
                TWO * self.zeros[choice.reshape(-1, 1)] + CENTRE
            )
            places = np.clip(np.nan_to_num(halves), ZERO, LAST).astype(np.int64)
        return self.nearest[choice.reshape(-1, 1), places]


@njit(nogil=True)
def fit(x: Any, counts: Any, scales: Any, zeros: Any, grids: Any, at: Any, choice: Any, least: Any) -> None:
    """Of each block of x float32 [n, 32] the scale, of float32 [n, k], and the choice with the least squared
    error, of which each column counts what row n % m of counts, [m, 32], says: their numbers and the error,
    [n]. -1: none is better than to make all 0.
    """
    for n in range(len(x)):
        count = counts[n % len(counts)]
        at[n], choice[n], least[n] = -1, 0, ZERO
        for i in range(ACT_GROUP):
            least[n] += x[n, i] * x[n, i] * count[i]
        for k in range(scales.shape[1]):
            if scales[n, k] == ZERO:
                continue
            factor = TWO / scales[n, k]
            for z in range(len(zeros)):
                shift, grid = TWO * zeros[z] + CENTRE, grids[z]
                a, b, c, d = ZERO, ZERO, ZERO, ZERO  # four sums, so that one need not wait for another
                for i in range(0, ACT_GROUP, 4):
                    a = added(a, x[n, i] * factor + shift, count[i], grid)
                    b = added(b, x[n, i + 1] * factor + shift, count[i + 1], grid)
                    c = added(c, x[n, i + 2] * factor + shift, count[i + 2], grid)
                    d = added(d, x[n, i + 3] * factor + shift, count[i + 3], grid)
                error = ((a + b) + (c + d)) / (factor * factor)
                if error < least[n]:
                    at[n], choice[n], least[n] = k, z, error


@njit(nogil=True)
def added(total: Any, halves: Any, count: Any, grid: Any) -> Any:
    """The total and what the squared distance from the nearest integer, in half steps, counts."""
    distance = halves - grid[int(min(max(halves, ZERO), LAST)) & HALVES - 1]
    return total + distance * distance * count

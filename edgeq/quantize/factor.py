"""Cholesky factors of matrices of second moments, and what is solved with them, in blocks whose products the
engine's kernels compute: the same bits on every processor and with any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgeq.errors import FormatError
from edgeq.runtime.dense import Dense

from .grid import mean

Array = np.ndarray[Any, Any]

BLOCK = 128  # columns that are factored at a time
DAMPING = 0.01  # of the mean of the diagonal, that is added to it
DAMPINGS_MAX = 20  # doublings


class Factor:
    """L, lower, float32 [n, n], with L L' = h[order][:, order] + a I, h symmetric and not negative.

    `damping` is a over the mean of h's diagonal: what was asked for, doubled until the factor exists. order,
    int64 [n]: None is as they stand.
    """

    def __init__(self, dense: Dense, h: Array, damping: float = DAMPING, order: Array | None = None):
        average = mean(np.diagonal(h))
        if not np.isfinite(average):
            raise FormatError("the moments of a matrix's inputs are not finite")
        self.dense, self.size = dense, len(h)
        self.order = np.arange(self.size) if order is None else order
        for _ in range(DAMPINGS_MAX):
            added = np.float32(damping * average if average > 0 else 1.0)
            if self._factored(h, added):
                self.damping = damping
                return
            damping *= 2
        raise FormatError(f"no damping up to {damping:g} makes the moments of a matrix's inputs positive")

    def blocks(self) -> list[tuple[int, int]]:
        """(first, last + 1) of the columns that are handled together."""
        return [(first, min(first + BLOCK, self.size)) for first in range(0, self.size, BLOCK)]

    def _factored(self, h: Array, added: np.float32) -> bool:
        n = self.size
        lower = self.dense.zeros(n, n)
        inverses = []
        for s, e in self.blocks():
            panel = self.dense.zeros(n - s, e - s)
            panel[...] = -h[np.ix_(self.order[s:], self.order[s:e])]
            panel[np.arange(e - s), np.arange(e - s)] -= added
            if s:
                self.dense.product(lower[s:e, :s], lower[s:, :s], out=panel)
            np.negative(panel, out=panel)
            own, inverse = np.zeros((e - s, e - s)), np.zeros((e - s, e - s))
            if not factor(panel[: e - s].astype(np.float64), own, inverse):
                return False
            lower[s:e, s:e] = own
            inverses.append(inverse.astype(np.float32))
            if e < n:
                lower[e:, s:e] = self.dense.product(inverses[-1], panel[e - s :])
        self.lower, self.inverses = lower, inverses
        return True

    def solve(self, c: Array) -> Array:
        """x, float32 [rows, n], with x (h + a I) = c, float32 [rows, n]."""
        dense, lower, blocks = self.dense, self.lower, self.blocks()
        x = dense.zeros(*c.shape)
        x[...] = -c[:, self.order]
        for (s, e), inverse in zip(blocks, self.inverses, strict=True):
            if s:
                part = dense.zeros(len(x), e - s)
                part[...] = x[:, s:e]
                x[:, s:e] = dense.product(lower[s:e, :s], x[:, :s], out=part)
            x[:, s:e] = dense.product(inverse, -x[:, s:e])
        for (s, e), inverse in zip(blocks[::-1], self.inverses[::-1], strict=True):
            part = dense.zeros(len(x), e - s)
            part[...] = -x[:, s:e]
            if e < self.size:
                dense.product(lower[e:, s:e].T, x[:, e:], out=part)
            x[:, s:e] = dense.product(inverse.T, -part)
        found = np.empty_like(c)
        found[:, self.order] = x
        return found


@njit(nogil=True)
def factor(a: Any, lower: Any, inverse: Any) -> bool:
    """Fill lower, float64 [n, n] of zeros, with lower lower' = a, and inverse with its inverse; False where a
    is not positive.
    """
    n = len(a)
    for i in range(n):
        for j in range(i + 1):
            total = a[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i > j:
                lower[i, j] = total / lower[j, j]
            elif total > 1e-7 * a[i, i]:
                lower[i, i] = np.sqrt(total)
            else:
                return False
    for j in range(n):
        inverse[j, j] = 1.0 / lower[j, j]
        for i in range(j + 1, n):
            total = 0.0
            for k in range(j, i):
                total -= lower[i, k] * inverse[k, j]
            inverse[i, j] = total / lower[i, i]
    return True

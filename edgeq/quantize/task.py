"""What a method is given: a matrix, the scheme it is to have, and what is known of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from edgeq.errors import FormatError
from edgeq.formats import Parts, Scheme, dequantize
from edgeq.formats.layout import round_up
from edgeq.runtime.dense import Dense

from .factor import DAMPING, Factor
from .grid import Grid, inner, mean

Array = np.ndarray[Any, Any]
ROWS = 32  # that a thread works on at a time


@dataclass(frozen=True)
class Seen:
    """The second moments of a matrix's inputs: h, float32 [columns, columns], symmetric, the mean of x x',
    and its factor for GPTQ, made once for all matrices that read the same. FormatError where they are not
    finite.
    """

    h: Array
    dense: Dense = field(repr=False)
    damping: float = DAMPING

    def __post_init__(self) -> None:
        if not np.isfinite(mean(self.squares)):
            raise FormatError("the moments of a matrix's inputs are not finite")

    @property
    def squares(self) -> Array:
        """float32 [columns]: the mean of x^2."""
        return np.ascontiguousarray(np.diagonal(self.h))

    @cached_property
    def factor(self) -> Factor:
        """Columns that are large come last, so that GPTQ, which goes from the last to the first, begins with
        them.
        """
        return Factor(self.dense, self.h, self.damping, np.argsort(self.squares, kind="stable"))


@dataclass(frozen=True)
class Task:
    """Bring w, float32 [rows, columns], into a scheme. `seen` None: nothing is known of its inputs."""

    w: Array
    scheme: Scheme
    seen: Seen | None
    dense: Dense = field(repr=False)
    seed: int = 0

    @cached_property
    def grid(self) -> Grid:
        return Grid(self.scheme)

    @property
    def columns_padded(self) -> int:
        return round_up(self.w.shape[1], self.scheme.step)

    def values(self, parts: Parts) -> Array:
        """float32 [rows, columns] that parts stand for."""
        return dequantize(parts, self.scheme)[:, : self.w.shape[1]]

    def error(self, parts: Parts, h: Array) -> float:
        """The sum over rows of e h e', e what a row is off by: the squared error of the outputs, summed."""
        off = self.values(parts) - self.w
        return float(inner(off, self.dense.product(h, off)))

    def by_rows(self, work: Callable[[slice], object]) -> None:
        """work(rows) for all rows, a few at a time, by the pool's number of threads."""
        pieces = list(self.pieces())
        if self.dense.workers == 1:
            for piece in pieces:
                work(piece)
            return
        with ThreadPoolExecutor(self.dense.workers) as threads:
            try:
                for done in [threads.submit(work, piece) for piece in pieces]:
                    done.result()
            except BaseException:  # Ctrl-C waits for what is begun, not for all
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def pieces(self) -> Iterator[slice]:
        for first in range(0, len(self.w), ROWS):
            yield slice(first, min(first + ROWS, len(self.w)))


# From the parts that another method left, or None, to parts.
Method = Callable[[Task, Parts | None], Parts]

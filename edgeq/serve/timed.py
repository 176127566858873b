"""What forms cost, told to whoever counts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Told = Callable[[float], object]  # seconds


@contextmanager
def told(seconds: Told) -> Iterator[None]:
    """Tell how long the block takes, where it comes to its end."""
    began = time.perf_counter()
    yield
    seconds(time.perf_counter() - began)


SLOW_S, SLOW_MASKS = 0.02, 16  # in the median of so many


class TimedMask:
    """A mask of a grammar, each of whose answers is timed. slow(seconds): the median of its first ones is
    such that it holds up everybody."""

    def __init__(self, mask: Any, seconds: Told, slow: Told) -> None:
        self._mask, self._told, self._slow = mask, seconds, slow
        self._first: list[float] = []

    def _seconds(self, seconds: float) -> None:
        self._told(seconds)
        if len(self._first) < SLOW_MASKS:
            self._first.append(seconds)
            if len(self._first) == SLOW_MASKS and (median := sorted(self._first)[SLOW_MASKS // 2]) > SLOW_S:
                self._slow(median)

    @property
    def complete(self) -> bool:
        complete: bool = self._mask.complete
        return complete

    @property
    def over(self) -> bool:
        over: bool = self._mask.over
        return over

    def copy(self) -> TimedMask:
        return TimedMask(self._mask.copy(), self._told, self._slow)

    def fill(self, bits: NDArray[np.uint32]) -> bool:
        with told(self._seconds):
            filled: bool = self._mask.fill(bits)
        return filled

    def accept(self, id: int) -> None:
        self._mask.accept(id)

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


class TimedMask:
    """A mask of a grammar, each of whose answers is timed."""

    def __init__(self, mask: Any, seconds: Told) -> None:
        self._mask, self._seconds = mask, seconds

    @property
    def complete(self) -> bool:
        complete: bool = self._mask.complete
        return complete

    @property
    def over(self) -> bool:
        over: bool = self._mask.over
        return over

    def copy(self) -> TimedMask:
        return TimedMask(self._mask.copy(), self._seconds)

    def fill(self, bits: NDArray[np.uint32]) -> bool:
        with told(self._seconds):
            filled: bool = self._mask.fill(bits)
        return filled

    def accept(self, id: int) -> None:
        self._mask.accept(id)

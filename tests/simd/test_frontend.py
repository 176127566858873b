"""numba as a front end for kernels, beside what else uses it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.kernels import sources
from edgeq.simd import compile
from edgeq.simd.tag import Tag


def test_numba_users_are_left_alone() -> None:
    """Kernels have a target of their own: numba's functions for this CPU are compiled and run as ever, arrays
    and reference counts included, before and after.
    """
    from numba import njit

    @njit
    def doubled(x: Any) -> Any:
        return np.concatenate((x, x))

    assert doubled(np.arange(3.0)).tolist() == [0, 1, 2, 0, 1, 2]
    compile.typed(sources.entry("argmax", Tag("generic")))
    assert doubled(np.arange(2)).tolist() == [0, 1, 0, 1]

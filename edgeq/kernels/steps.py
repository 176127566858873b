"""The steps of symmetric rounding: numbers of at most `top` become integers of at most `most`."""

from __future__ import annotations

from numba import float32

from edgeq.simd.isa.wide import WIDE_MAX
from edgeq.simd.verbs import native

from .activations import SMALLEST, ZERO

BYTE_MAX = float32(127.0)
NUMBER_MAX = float32(WIDE_MAX)


@native
def factor_of(top, most):
    """What numbers are multiplied by before they are rounded: 0 for a top that is next to nothing."""
    return most / top if top > SMALLEST else ZERO


@native
def step_of(top, most):
    """What an integer is worth: 0 for a top that is next to nothing, NaN for one that is no number."""
    return top / most if not top <= SMALLEST else ZERO

"""Rounding float32 to the parts of a scheme: what is done where nothing is known of how a matrix is used.

Symmetric codes with one float for each group have ggml's two rules, operation by operation in float32: its
Q8_0's for 8 bits, its Q4_0's (and Q5_0's) for fewer. Other schemes are brought numbers into by a `Rounding`
from elsewhere, as `edgeq.quantize` has them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq.errors import UnsupportedError

from .numbers import Array
from .scheme import Parts, Scheme

Rule = Callable[
    [Array, Scheme], tuple[Array, Array]
]  # float32 [n, group], overwritten -> (codes, d float32 [n])

# float32 [rows, cols_padded], whole steps, may be overwritten -> its parts (`Scheme.arrays`). A float is not
# finite where a value of its columns is not, or is too large.
Rounding = Callable[[Array, Scheme], Parts]


def rounds_to(scheme: Scheme) -> Rule | None:
    """The rule that a scheme's codes are found by; None where nothing rounds to it."""
    if not scheme.planes or scheme.table or scheme.sub or scheme.min or scheme.row or scheme.unit != 1:
        return None
    if scheme.scale is None or scheme.scale.format.stored is None or scheme.zero != 1 << (scheme.bits - 1):
        return None
    return by_magnitude if scheme.bits == 8 else by_extreme


def round_block(x: Array, scheme: Scheme) -> Parts:
    """The parts of float32 [rows, cols_padded], which is overwritten.

    A scale is not finite where a value is not, or is too large. UnsupportedError where nothing rounds to the
    scheme.
    """
    rule = rounds_to(scheme)
    if rule is None:
        raise UnsupportedError(
            f"nothing rounds to scheme {scheme.name} yet; it takes numbers that are in it or in a part of it"
        )
    assert scheme.scale is not None and scheme.scale.format.stored is not None
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # the caller checks the scales
        codes, d = rule(x.reshape(-1, scheme.scale.columns), scheme)
        scales = scheme.scale.format.stored(d)
    return {"codes": codes.reshape(x.shape), "scale": scales.reshape(len(x), -1)}


def by_magnitude(x: Array, scheme: Scheme) -> tuple[Array, Array]:
    """Codes from -127 to 127: the largest magnitude gets 127."""
    high, low = _extremes(x)
    d = np.abs(np.maximum(high, -low)) / np.float32(127)  # abs: no minus zero
    x *= _inverse(d)[:, None]
    # Adding the float just below a half and cutting off rounds halves away from zero, without lifting
    # 0.49999997 to 1 as a half would.
    x += np.copysign(np.float32(0.49999997), x)
    return x.astype(np.int8).view(np.uint8) ^ np.uint8(0x80), d


def by_extreme(x: Array, scheme: Scheme) -> tuple[Array, Array]:
    """Codes from -zero to zero - 1: the value of largest magnitude gets -zero, so the scale has its sign."""
    d = _signed_maximum(x, *_extremes(x)) / np.float32(-scheme.zero)
    x *= _inverse(d)[:, None]
    x += np.float32(scheme.zero + 0.5)
    codes = x.astype(np.uint8)
    np.minimum(codes, (1 << scheme.bits) - 1, out=codes)
    return codes, d


def _inverse(d: Array) -> Array:
    inverse: Array = np.float32(1) / d
    inverse[~np.isfinite(inverse)] = 0
    return inverse


def _extremes(x: Array) -> tuple[Array, Array]:
    """Largest and smallest value of each row of [n, group], by halving: NumPy reduces short rows slowly."""
    high = low = x
    while high.shape[1] % 2 == 0:
        half = high.shape[1] // 2
        high = np.maximum(high[:, :half], high[:, half:])
        low = np.minimum(low[:, :half], low[:, half:])
    return high.max(axis=1), low.min(axis=1)


def _signed_maximum(x: Array, high: Array, low: Array) -> Array:
    """The value of largest magnitude of each row, its sign kept; of two equal ones the first."""
    result = np.where(high > -low, high, low)
    ties = np.nonzero((high == -low) & (high != 0))[0]
    if ties.size:
        rows = x[ties]
        result[ties] = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    # A NaN anywhere in the row must show in the scale; `where` may have picked the other side.
    return np.where(np.isnan(high), high, result)

"""Rounding float32 to the parts of a scheme: what is done where nothing is known of how a matrix is used.

Rows without sub-scales have the rules of this page. Integers with one float for each group have ggml's,
operation by operation in float32: its Q8_0's for 8 bits, its Q4_0's (and Q5_0's) for fewer, its Q4_1's (and
Q5_1's) where there is a min. Other schemes are brought numbers into by a `Rounding` from elsewhere, as
`edgeq.rounding` has them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq.errors import UnsupportedError

from .numbers import NUMBERS, Array
from .scheme import Parts, Scheme

# float32 [rows, cols_padded], whole steps, may be overwritten -> its parts (`Scheme.arrays`). A float is not
# finite where a value of its columns is not, or is too large. That of a scheme for whole tensors is given the
# largest and the smallest value of the matrix as well.
Rounding = Callable[..., Parts]

# Of float32 [n, values that share floats], overwritten, and the largest and the smallest of each row [n]: the
# codes, or plain numbers as they are stored, and the floats that go with them, float32 [n], by name.
Rule = Callable[[Array, Scheme, Array, Array], tuple[Array, dict[str, Array]]]


def rounds_to(scheme: Scheme) -> Rule | None:
    """The rule that a scheme's numbers are found by; None where nothing rounds to it."""
    numbers = (scheme.number, *(floats.number for floats in scheme.floats.values()))
    if scheme.sub or scheme.unit != 1 or any(NUMBERS[name].stored is None for name in numbers if name):
        return None
    if scheme.min:
        same = scheme.scale and scheme.scale.columns == scheme.min.columns
        return by_range if same and not (scheme.table or scheme.zero or scheme.row) else None
    if len(scheme.floats) != 1:
        return None
    if not scheme.planes:
        return by_number
    if scheme.table == (-1, 1):
        return None if scheme.tensor else by_mean
    if scheme.table:
        return by_table if min(scheme.table) < 0 < max(scheme.table) else None
    if scheme.zero != 1 << (scheme.bits - 1):
        return None
    if scheme.bits == 8:
        return by_magnitude
    return None if scheme.tensor else by_extreme


def round_block(x: Array, scheme: Scheme, extremes: tuple[float, float] | None = None) -> Parts:
    """The parts of float32 [rows, cols_padded], which is overwritten. Where the scheme has one float for a
    matrix, of which x is but some rows, `extremes` are the matrix's largest and smallest value.

    A float is not finite where a value is not, or is too large. UnsupportedError where nothing rounds to the
    scheme.
    """
    rule = rounds_to(scheme)
    if rule is None:
        raise UnsupportedError(
            f"nothing rounds to scheme {scheme.name} yet; it takes numbers that are in it or in a part of it"
        )
    shared = next(iter(scheme.floats.values())).columns
    groups = x.reshape(-1, shared or x.shape[1])
    high, low = _extremes(groups)
    if scheme.tensor:
        most, least = extremes or (high.max(), low.min())
        high, low = np.full_like(high, most), np.full_like(low, least)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # the caller checks the floats
        found, floats = rule(groups, scheme, high, low)
        stored = {name: _stored(floats[name], of.number) for name, of in scheme.floats.items()}
    first = scheme.arrays[0].name
    return {first: found.reshape(x.shape), **{name: d.reshape(len(x), -1) for name, d in stored.items()}}


def by_magnitude(x: Array, scheme: Scheme, high: Array, low: Array) -> tuple[Array, dict[str, Array]]:
    """Codes from -127 to 127: the largest magnitude gets 127."""
    d = _magnitude(high, low) / np.float32(127)
    x *= _inverse(d)[:, None]
    # Adding the float just below a half and cutting off rounds halves away from zero, without lifting
    # 0.49999997 to 1 as a half would.
    x += np.copysign(np.float32(0.49999997), x)
    return x.astype(np.int8).view(np.uint8) ^ np.uint8(0x80), _only(scheme, d)


def by_extreme(x: Array, scheme: Scheme, high: Array, low: Array) -> tuple[Array, dict[str, Array]]:
    """Codes from -zero to zero - 1: the value of largest magnitude gets -zero, so the scale has its sign."""
    d = _signed_maximum(x, high, low) / np.float32(-scheme.zero)
    x *= _inverse(d)[:, None]
    x += np.float32(scheme.zero + 0.5)
    return _codes(x, scheme), _only(scheme, d)


def by_range(x: Array, scheme: Scheme, high: Array, low: Array) -> tuple[Array, dict[str, Array]]:
    """Codes from 0, the smallest value, to all ones, the largest."""
    d = (high - low) / np.float32((1 << scheme.bits) - 1)
    x -= low[:, None]
    x *= _inverse(d)[:, None]
    x += np.float32(0.5)
    return _codes(x, scheme), {"scale": d, "min": low}


def by_table(x: Array, scheme: Scheme, high: Array, low: Array) -> tuple[Array, dict[str, Array]]:
    """The nearest entry, of two the lower one. The float is the smallest with which no value lies outside of
    the table: of one with the same ends the largest magnitude divided by the largest entry.
    """
    (values,) = scheme.values
    order = np.argsort(values, kind="stable")
    entries = values[order].astype(np.float32)
    d = np.abs(np.maximum(high / entries[-1], low / entries[0]))  # abs: no minus zero
    x *= _inverse(d)[:, None]
    middles = (entries[:-1] + entries[1:]) / np.float32(2)
    return order.astype(np.uint8)[np.searchsorted(middles, x)], _only(scheme, d)


def by_mean(x: Array, scheme: Scheme, high: Array, low: Array) -> tuple[Array, dict[str, Array]]:
    """Signs, and the mean magnitude: of all floats the one with the least squared error (Rastegari and
    others, XNOR-Net, 2016, section 3.1).
    """
    total = np.cumsum(np.abs(x), axis=1, dtype=np.float64)[:, -1]  # in one order, whatever the processor
    return (x >= 0).view(np.uint8), _only(scheme, (total / x.shape[1]).astype(np.float32))


def by_number(x: Array, scheme: Scheme, high: Array, low: Array) -> tuple[Array, dict[str, Array]]:
    """Plain numbers: the largest magnitude gets the largest of their format."""
    most = np.float32(NUMBERS[scheme.number].largest)
    d = _magnitude(high, low) / most
    x /= np.where(d > 0, d, np.float32(1))[:, None]
    np.clip(x, -most, most, out=x)  # the quotient of the smallest floats is inexact
    return _stored(x, scheme.number), _only(scheme, d)


def _only(scheme: Scheme, d: Array) -> dict[str, Array]:
    """The only float of a scheme, by its name."""
    (name,) = scheme.floats
    return {name: d}


def _codes(x: Array, scheme: Scheme) -> Array:
    codes = x.astype(np.uint8)
    np.minimum(codes, (1 << scheme.bits) - 1, out=codes)
    return codes


def _stored(x: Array, number: str) -> Array:
    stored = NUMBERS[number].stored
    assert stored is not None
    return stored(x)


def _magnitude(high: Array, low: Array) -> Array:
    largest: Array = np.abs(np.maximum(high, -low))  # abs: no minus zero
    return largest


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

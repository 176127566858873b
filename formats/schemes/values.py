"""What the parts of a matrix mean: float32 of them, as `scheme` defines a value."""

from __future__ import annotations

import numpy as np

from .numbers import NUMBERS, Array
from .scheme import Floats, Parts, Scheme
from .table import scheme_of


def dequantize(parts: Parts, scheme: str | Scheme) -> Array:
    """float32 [rows, cols_padded] of a matrix's parts, row-major as `Scheme.arrays` lists them."""
    scheme = scheme_of(scheme)
    values = _unscaled(parts, scheme)
    if scheme.row:
        values = values * _floats(parts["row"], scheme.row)
    return values


def _unscaled(parts: Parts, scheme: Scheme) -> Array:
    """What the row's floats are multiplied with."""
    if not scheme.planes:
        return NUMBERS[scheme.number].floats(parts["value"])
    values: Array
    if scheme.table:
        values = scheme.values.astype(np.float32)[parts["codes"]]
    else:
        values = parts["codes"].astype(np.float32)
        values -= np.float32(scheme.zero)
    # float32 holds v, sub and their product exactly: the first rounding is that of the product with the scale
    if scheme.zeros != (0,):
        _groups(values, parts["sub"])[...] -= zero_points(parts["sub"], scheme)[:, :, None]
    if scheme.sub:
        _groups(values, parts["sub"])[...] *= sub_scales(parts["sub"], scheme)[:, :, None]
        values += np.float32(0)  # the product of integers has no minus zero
    if scheme.scale:
        scale = _floats(parts["scale"], scheme.scale) * np.float32(scheme.unit)
        _groups(values, scale)[...] *= scale[:, :, None]
    if scheme.min:
        _add_min(values, parts, scheme)
    return values


def sub_scales(sub: Array, scheme: Scheme) -> Array:
    """float32, the integer scales in the part "sub"."""
    kind = scheme.sub_kind
    assert kind is not None
    if kind.submin == "nibble":
        return (sub & np.uint8(15)).astype(np.float32)
    if kind.zeros:  # the lower six bits, signed where the smallest is
        low = (sub.view(np.uint8) & np.uint8(63)).astype(np.int8)
        return np.where(low > kind.high, low - np.int8(64), low).astype(np.float32)
    return sub.astype(np.float32)


def sub_mins(parts: Parts, scheme: Scheme) -> Array | None:
    """float32, the integers that mins are multiplied by; None where a scheme has none."""
    kind = scheme.sub_kind
    if kind is None or not kind.submin:
        return None
    stored = parts["submin"] if kind.submin == "byte" else parts["sub"] >> np.uint8(4)
    return stored.astype(np.float32)


def zero_points(sub: Array, scheme: Scheme) -> Array:
    """float32, what the upper two bits of each byte of the part "sub" choose of the scheme's zeros."""
    return np.array(scheme.zeros, np.float32)[sub.view(np.uint8) >> np.uint8(6)]


def _floats(stored: Array, floats: Floats) -> Array:
    return floats.format.floats(stored)


def _groups(values: Array, entries: Array) -> Array:
    """A view [rows, entries, columns that share one] of values [rows, columns]."""
    return values.reshape(len(values), entries.shape[1], -1)


def _add_min(values: Array, parts: Parts, scheme: Scheme) -> None:
    assert scheme.min is not None
    low = _floats(parts["min"], scheme.min)
    submin = sub_mins(parts, scheme)
    if submin is not None:
        low = (_groups(submin, low) * low[:, :, None]).reshape(submin.shape)
    _groups(values, low)[...] += low[:, :, None]

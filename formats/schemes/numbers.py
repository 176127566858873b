"""Formats of stored numbers: their bits, float32 of them, and rounding to them. Knows nothing of schemes.

A number has a sign bit or none, an exponent and a mantissa. Where all bits of the exponent are set it is not
finite; in a format without infinity, only where those of the mantissa are set as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Number:
    """A row: how one number is stored, and its value."""

    name: str
    dtype: str  # NumPy's word for a stored element
    sign: int  # bits
    exponent: int  # bits
    mantissa: int  # bits that are stored
    floats: Callable[[Array], Array]  # stored elements -> float32, exactly
    stored: Callable[[Array], Array] | None = None  # float32 -> the nearest, of two the even one
    infinity: bool = True  # whether it has one

    @property
    def nbytes(self) -> int:
        """Bytes of a stored element."""
        return np.dtype(self.dtype).itemsize

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return self._value(self._special - 1)

    @property
    def smallest_normal(self) -> float:
        """The smallest number above 0 that has all bits of its mantissa."""
        return self._value(1 << self.mantissa) if self.mantissa else self.smallest

    @property
    def smallest(self) -> float:
        """The smallest number above 0."""
        return self._value(0) or self._value(1)

    @property
    def _special(self) -> int:
        """The smallest bits, the sign left out, that are no finite number."""
        return (1 << self.exponent + self.mantissa) - (1 << self.mantissa if self.infinity else 1)

    def _value(self, bits: int) -> float:
        stored = np.array([bits], f"<u{self.nbytes}").view(self.dtype)
        return float(self.floats(stored)[0])

    def finite(self, stored: Array) -> Array:
        """bool, for each stored element: whether it is a number, and not infinite."""
        unsigned = np.ascontiguousarray(stored).view(f"<u{self.nbytes}")
        magnitude = unsigned & unsigned.dtype.type((1 << 8 * self.nbytes - self.sign) - 1)
        finite: Array = magnitude < self._special
        return finite


def _float32(stored: Array) -> Array:
    return stored.astype(np.float32)


def _bf16(stored: Array) -> Array:
    """The upper half of a float32."""
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _to_bf16(values: Array) -> Array:
    bits = np.ascontiguousarray(values).view(np.uint32)
    nearest = bits >> np.uint32(16)
    nearest &= np.uint32(1)  # of two equally near the even one
    nearest += bits
    nearest += np.uint32(0x7FFF)
    nearest >>= np.uint32(16)
    stored = nearest.astype("<u2")
    # A NaN whose bits are all in the lower half, or all set, would come out as a number.
    stored[np.isnan(values)] = 0x7FC0
    return stored


def _e8m0(stored: Array) -> Array:
    """2 to the (e - 127); 255 is NaN (OCP Microscaling Formats 1.0, 5.4.1)."""
    values = np.ldexp(np.float32(1), np.minimum(stored, 254).astype(np.int32) - 127)
    return np.where(stored == 255, np.float32(np.nan), values)


def _e4m3(stored: Array) -> Array:
    """127 and 255 are NaN (OCP 8-bit Floating Point Specification 1.0, table 1)."""
    magnitude = stored & np.uint8(0x7F)
    values = (magnitude.astype(np.uint32) << np.uint32(20)).view(np.float32) * np.float32(2.0**120)  # exact
    values[magnitude == 0x7F] = np.nan
    return np.copysign(values, stored.view(np.int8))


def _ue4m3(stored: Array) -> Array:
    """An e4m3 without a sign; with its bit set no number."""
    return np.where(stored >= 0x80, np.float32(np.nan), _e4m3(stored))


def _e5m2(stored: Array) -> Array:
    """The upper half of a float16."""
    return (stored.astype("<u2") << np.uint16(8)).view("<f2").astype(np.float32)


def _to_byte(mantissa: int, special: int) -> Callable[[Array], Array]:
    """Rounding to a sign, an exponent and so many bits of mantissa, 8 in all; what no finite number is near
    to becomes `special`, NaN 127.
    """
    bias, cut = (1 << 6 - mantissa) - 1, 23 - mantissa
    smallest_normal = np.uint32(128 - bias << 23)
    shift, rebias, half = np.uint32(cut), np.uint32(127 - bias << 23), np.uint32((1 << cut - 1) - 1)
    magic = np.float32(2.0 ** (24 - bias - mantissa))  # its last bit is worth the smallest number

    def stored(values: Array) -> Array:
        bits = np.ascontiguousarray(values).view(np.uint32)
        size = bits & np.uint32(0x7FFFFFFF)
        even = size >> shift & np.uint32(1)
        code = size - rebias + even + half >> shift
        with np.errstate(invalid="ignore"):  # a NaN, which gets its code below
            small = (size.view(np.float32) + magic).view(np.uint32) - magic.view(np.uint32)
        code = np.minimum(np.where(size < smallest_normal, small, code), np.uint32(special))
        code[np.isnan(values)] = 0x7F
        return (code | bits >> np.uint32(24) & np.uint32(0x80)).astype(np.uint8)

    return stored


def _cast(dtype: str) -> Callable[[Array], Array]:
    def stored(values: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite, which `finite` tells
            return values.astype(dtype)

    return stored


NUMBERS: dict[str, Number] = {
    row.name: row
    for row in (
        Number("f32", "<f4", 1, 8, 23, _float32, _cast("<f4")),
        Number("f16", "<f2", 1, 5, 10, _float32, _cast("<f2")),
        Number("bf16", "<u2", 1, 8, 7, _bf16, _to_bf16),
        Number("e8m0", "|u1", 0, 8, 0, _e8m0),
        Number("e4m3", "|u1", 1, 4, 3, _e4m3, _to_byte(3, 0x7F), infinity=False),
        Number("e5m2", "|u1", 1, 5, 2, _e5m2, _to_byte(2, 0x7C)),
        Number("ue4m3", "|u1", 0, 4, 3, _ue4m3, infinity=False),
    )
}

"""Formats of stored numbers, and float32 of them. Knows nothing of schemes or files."""

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
    floats: Callable[[Array], Array]  # stored elements -> float32, exactly

    @property
    def nbytes(self) -> int:
        """Bytes of a stored element."""
        return np.dtype(self.dtype).itemsize


def _bf16(stored: Array) -> Array:
    """The upper half of a float32."""
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _e8m0(stored: Array) -> Array:
    """2 to the (e - 127); 255 is NaN (OCP Microscaling Formats 1.0, 5.4.1)."""
    values = np.ldexp(np.float32(1), stored.astype(np.int32) - 127)
    return np.where(stored == 255, np.float32(np.nan), values)


NUMBERS: dict[str, Number] = {
    row.name: row
    for row in (
        Number("f32", "<f4", lambda stored: stored.astype(np.float32)),
        Number("f16", "<f2", lambda stored: stored.astype(np.float32)),
        Number("bf16", "<u2", _bf16),
        Number("e8m0", "|u1", _e8m0),
    )
}

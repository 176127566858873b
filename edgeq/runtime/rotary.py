"""Tables of cosine and sine for rotary embeddings, the same bits on every machine.

The angle is float32(position) * inverse frequency in float32, as transformers computes it. NumPy's own cos
and sin differ between CPUs in the last bit, so these are made of additions and products of float64 alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq import memory
from edgeq.errors import FormatError

ANGLE_MAX = 1 << 26  # radians, up to which cosine_sine is exact

_HALF_PI = (
    1.570796325802803,
    9.920935739593517e-10,
    5.721188726109832e-18,
)  # the first two have 27 bits: turns * them is exact
_SIN = (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800, -1 / 1307674368000)
_COS = (-1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600, -1 / 87178291200)


def _series(x2: np.ndarray, terms: tuple[float, ...]) -> np.ndarray:
    total = np.full_like(x2, terms[-1])
    for term in terms[-2::-1]:
        total = total * x2 + term
    return total * x2 + 1.0


def cosine_sine(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of float32 angles below ANGLE_MAX, each as float32 within half a unit in the last place and
    1e-9.
    """
    a = angle.astype(np.float64)
    turns = np.rint(a * (2 / np.pi))
    r = ((a - turns * _HALF_PI[0]) - turns * _HALF_PI[1]) - turns * _HALF_PI[2]
    r2 = r * r
    cos, sin = _series(r2, _COS), r * _series(r2, _SIN)
    quarter = turns.astype(np.int64) % 4
    swap, odd = quarter % 2 == 1, quarter >= 2
    c = np.where(swap, -sin, cos)
    s = np.where(swap, cos, sin)
    return np.where(odd, -c, c).astype(np.float32), np.where(odd, -s, s).astype(np.float32)


@np.errstate(all="ignore")  # a signalling NaN is not worth a warning: it is refused
def checked(inverse_frequencies: np.ndarray, positions: int) -> np.ndarray:
    """A file's inverse frequencies as float32; FormatError where one of so many positions would turn by
    ANGLE_MAX and more, or by no number.
    """
    found = inverse_frequencies.astype(np.float32)
    good = np.abs(found.astype(np.float64)) * positions < ANGLE_MAX
    if not good.all():
        raise FormatError(
            f"the inverse frequencies of the rotary embedding hold {found[~good][0]:.6g}; for {positions} "
            f"positions less than {ANGLE_MAX / positions:.6g} is needed"
        )
    return found


class Tables:
    """float32 [positions, len(inverse_frequencies)] cosines and sines, times `factor`, computed as far as
    `ensure` was asked. growth(float32 [n] positions) gives what those of each position are multiplied by as
    well.

    Most sequences end long before the context does.
    """

    BLOCK = 256  # positions computed at a time

    def __init__(
        self,
        inverse_frequencies: np.ndarray,
        positions: int,
        factor: float = 1.0,
        growth: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self._frequencies = checked(inverse_frequencies, positions)
        self._factor, self._growth = np.float32(factor), growth
        shape = positions, len(inverse_frequencies)
        self.cosine, self.sine = (memory.zeros(shape, np.float32) for _ in range(2))
        self._ensured = 0

    @property
    def positions(self) -> int:
        return len(self.cosine)

    @property
    def columns(self) -> int:
        """Of the heads that they turn."""
        return 2 * self.cosine.shape[1]

    @property
    def words(self) -> tuple[int, int]:
        return int(self.cosine.ctypes.data), int(self.sine.ctypes.data)

    def ensure(self, positions: int) -> None:
        """Make the first `positions` rows valid, as far as there are any."""
        if positions > self._ensured:
            first, last = self._ensured, -(-positions // self.BLOCK) * self.BLOCK
            rows = np.arange(first, min(last, len(self.cosine)), dtype=np.float32)
            angle = rows[:, None] * self._frequencies[None, :]
            factor = self._factor if self._growth is None else self._factor * self._growth(rows)[:, None]
            for table, values in zip((self.cosine, self.sine), cosine_sine(angle), strict=True):
                table[first:last] = values * factor
            self._ensured = last

    @np.errstate(
        all="ignore"
    )  # heads that are no numbers, or too large, show in the logits, which are refused
    def mean(self, x: np.ndarray, positions: int) -> np.ndarray:
        """About the mean of heads x [..., head_dim] as turned at so many positions from 0.

        A pair that turns slowly stays nearly what it is halfway; of one that goes round often nothing
        remains.
        """
        half = checked(self._frequencies, positions) * np.float32(positions / 2)
        cosine, sine = cosine_sine(half)
        rest = np.divide(sine, half, out=np.ones_like(half), where=half != 0) * self._factor
        low, high, kept = np.split(x, [len(half), 2 * len(half)], axis=-1)
        return np.concatenate(
            [(low * cosine - high * sine) * rest, (high * cosine + low * sine) * rest, kept], -1
        )

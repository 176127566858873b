"""The float of a row whose weights are -1, 0 or 1 of it, with the least squared error."""

from __future__ import annotations

import numpy as np

from edgeq.formats import Parts, Scheme
from edgeq.formats.schemes import Array


def ternary(x: Array, scheme: Scheme) -> Parts:
    """The parts of float32 [rows, cols] in a scheme whose first codes mean -1, 0 and 1.

    Of n weights that are not 0 the best float is their mean magnitude, and it takes sum^2 / n from the error;
    the n largest are the best to choose. It is not finite where a value is not.
    """
    size = np.abs(x)
    with np.errstate(invalid="ignore"):  # the caller checks the floats
        sums = np.cumsum(np.sort(size, axis=1)[:, ::-1], axis=1, dtype=np.float64)
        counts = np.arange(1, x.shape[1] + 1)
        best = np.argmax(sums * sums / counts, axis=1)
        row = (sums[np.arange(len(x)), best] / counts[best]).astype(np.float32)[:, None]
        codes = 1 + np.sign(x) * (size > row / 2)
        return {"codes": codes.astype(np.uint8), "row": row}

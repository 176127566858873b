"""How far a quantized model's predictions are from the float model's, by the rows before their heads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.calibrate.layers import Head
from edgeq.converters.source import Source
from edgeq.errors import FormatError
from edgeq.evaluate.windows import kld_of_rows
from edgeq.runtime.dense import Dense

Array = np.ndarray[Any, Any]


def divergence(
    dense: Dense, source: Source, exact: Array, rounded: Array, w: Array, rounded_w: Array
) -> tuple[float, int]:
    """Mean KLD, in nats, over the second halves of windows, and the tokens that it is of.

    exact and rounded are rows behind the last layer, float32 [windows, tokens, hidden], of the float model
    and of the quantized one; w and rounded_w their heads' matrices. FormatError where predictions are not
    finite.
    """
    half = exact.shape[1] // 2
    heads = Head(dense, source, w), Head(dense, source, rounded_w)
    total, count = 0.0, 0
    for a, b in zip(exact, rounded, strict=True):
        for p, q in zip(heads[0].logits(a[half:-1]), heads[1].logits(b[half:-1]), strict=True):
            total += float(kld_of_rows(p, q).sum())
            count += len(p)
    if not math.isfinite(total):
        raise FormatError("the model's predictions are not finite, so it cannot be calibrated")
    return total / count, count

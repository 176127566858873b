"""What a row of logits says without options: how likely each token is, and which are the likeliest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.sampling import native
from edgeq.sampling.candidates import Candidates, not_finite
from edgeq.sampling.elementary import log
from edgeq.sampling.native import Floats


def check_logits(logits: NDArray[np.floating]) -> None:
    """Raise FormatError when a logit is NaN or infinite, which a sound model file cannot produce."""
    if not np.isfinite(logits).all():
        raise not_finite()


def log_sum_exp(logits: Floats) -> float:
    """log(sum(exp(logits))), exact to 1e-13: a logit less this is the logarithm of a probability. FormatError
    where a logit is not finite."""
    row = np.ascontiguousarray(logits, np.float32)
    room = native.room(len(row))
    tops = room.tops(row)
    if tops is None:
        raise not_finite()
    return tops.top + log(room.exponential_sum(row, tops.top))


def largest(logits: Floats, k: int) -> NDArray[np.int64]:
    """The ids of the `k` largest logits, by falling logit, equal logits by rising id. k is at least 1.
    FormatError where a logit is not finite."""
    best = Candidates.of(np.ascontiguousarray(logits, np.float32)).best(k).settled()
    return best.sorted(most=len(best)).token_ids.astype(np.int64)

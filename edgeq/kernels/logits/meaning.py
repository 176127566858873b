"""What the kernels of rows of logits compute, in plain NumPy: see `edgeq.kernels.meaning`. Rows are float32
of any length; each function is called as its kernel and gives what that writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.kernels.meaning import exp, fold

Array = np.ndarray[Any, Any]
F32 = np.float32
BLOCK, LANES, STEPS, WAYS = 128, 16, 1024, 4
LOWEST, ABSENT = F32(-87.0), F32(-3.4028235e38)
LEAST = exp(np.array([LOWEST]))[0]
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.4286068203094172e-06


def lines(row: Array, other: Any) -> Array:
    """[blocks, lines of a block, LANES], `other` behind the end."""
    blocks = -(-len(row) // BLOCK)
    padded = np.full(blocks * BLOCK, other, row.dtype)
    padded[: len(row)] = row
    return padded.reshape(blocks, -1, LANES)


def in_blocks(each: Array) -> Array:
    """The sums of blocks: lanes first, each from its first line to its last; zeros change nothing."""
    return fold(np.add.accumulate(each, axis=1)[:, -1]).astype(np.float64)


def one_by_one(values: Array) -> float:
    """The sum, each added to that of those before it."""
    return float(np.add.accumulate(np.concatenate([[0.0], values]))[-1])


def block_tops(row: Array) -> tuple[Array, Array]:
    """(tops, found)"""
    finite = bool(np.isfinite(row).all())
    tops = lines(row, row[0]).max((1, 2))
    return tops, np.array([row.max(), row.min(), not finite], np.float64)


def exp_f64(x: Array) -> Array:
    x = np.maximum(x, -87.0)
    n = np.rint(x * 1.4426950408889634)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = np.full(x.shape, 1.0 / 39916800.0)
    for c in (3628800.0, 362880.0, 40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0):
        p = p * r + 1.0 / c
    return p * np.ldexp(1.0, n.astype(np.int64))


def exponential_sum(row: Array, top: float) -> float:
    padded = np.pad(row.astype(np.float64), (0, -len(row) % LANES))
    each = exp_f64(padded - np.float64(F32(top)))
    each[len(row) :] = 0.0
    return float(fold(np.add.accumulate(each.reshape(-1, LANES))[-1]))


def exponents(row: Array, top: float, factor: float) -> Array:
    with np.errstate(over="ignore"):
        return np.maximum(LOWEST, (row - F32(top)) * F32(factor))


def weigh(
    row: Array, top: float, factor: float, bound: float, last: int, above: float
) -> tuple[Array, Array, float]:
    """(weights, sums, found)"""
    a = exponents(row, top, factor)
    floor = np.where(np.arange(len(row)) <= last, F32(bound), F32(above))
    weights = np.where(row >= floor, exp(a) - LEAST, F32(0.0))
    sums = in_blocks(lines(weights, 0.0))
    return weights, sums, one_by_one(in_blocks(lines(weights * a, 0.0)))


def typicality(
    row: Array, top: float, factor: float, mean: float, bound: float, last: int, above: float
) -> tuple[Array, Array]:
    """(typical, tops); in the last block's top, what its last line holds behind the end counts as logits of
    ABSENT."""
    floor = np.where(np.arange(len(row)) <= last, F32(bound), F32(above))
    typical = F32(0.0) - np.abs(exponents(row, top, factor) - F32(mean))
    typical, behind = np.where(row >= floor, typical, ABSENT), np.array(ABSENT)
    if len(row) % LANES and (above if len(row) > last else bound) <= ABSENT:
        behind = F32(0.0) - np.abs(exponents(behind, top, factor) - F32(mean))
    return typical, lines(typical, behind).max((1, 2))


def blank(
    row: Array, logits: Array, bound: float, last: int, above: float, weights: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """(blanked, weights, tops, sums, found)"""
    kept = row >= np.where(np.arange(len(row)) <= last, F32(bound), F32(above))
    blanked, weights = np.where(kept, logits, ABSENT), np.where(kept, weights, F32(0.0))
    tops, sums = lines(blanked, ABSENT).max((1, 2)), in_blocks(lines(weights, 0.0))
    return blanked, weights, tops, sums, np.array([logits[kept].max(), logits[kept].min()], np.float64)


def spread(row: Array, centre: float) -> Array:
    away = row - F32(centre)
    return np.array([one_by_one(in_blocks(lines(x, 0.0))) for x in (away, away * away)])


def adapt(weights: Array, share: float, target: float) -> Array:
    away = np.abs((weights * F32(share) - F32(target)) * F32(1.0 / 0.3))
    return F32(5.0) - F32(10.0) * away * away / (F32(1.0) + away)


def descend(row: Array, weights: Array | None, top: float, scale: float) -> tuple[Array, Array]:
    """(steps, histogram)"""
    with np.errstate(over="ignore"):
        down = np.maximum((row - F32(top)) * F32(scale), F32(1 - STEPS))
    steps = np.rint(F32(0.0) - down).astype(np.int32)
    each = np.ones(len(row)) if weights is None else weights
    ways = [np.bincount(steps[n::WAYS], each[n::WAYS], STEPS) for n in range(WAYS)]
    return steps, np.array(ways)


def at_step(steps: Array, step: int) -> Array:
    return np.flatnonzero(steps == step)


def collect(
    row: Array, logits: Array, ids: Array, bound: float, last: int, above: float
) -> tuple[Array, Array]:
    """(kept_logits, kept_ids)"""
    kept = row >= np.where(np.arange(len(row)) <= last, F32(bound), F32(above))
    return logits[kept], ids[kept]


def allowed(mask: Array, logits: Array) -> tuple[Array, Array]:
    """(kept_logits, kept_ids)"""
    ids = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[: len(logits)])
    return logits[ids], ids


def tally(text: Array) -> tuple[Array, Array]:
    """(ids, times)"""
    ids, first, times = np.unique(text, return_index=True, return_counts=True)
    order = np.argsort(first)
    return ids[order], times[order]


def penalize(logits: Array, times: Array, repeat: float, frequency: float, presence: float) -> Array:
    values = logits.astype(np.float64)
    values = np.where(values > 0, values / repeat, values * repeat) - (times * frequency + presence)
    return values.clip(float(ABSENT), -float(ABSENT)).astype(F32)


def repeats(text: Array) -> Array:
    backwards = text[::-1]

    def common(n: int) -> int:
        same = backwards[: len(text) - n] == backwards[n:]
        return int(same.argmin()) if not same.all() else len(same)

    return np.array([common(n) for n in range(len(text))], np.int32)

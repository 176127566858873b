"""What the kernels of the cache and of attention compute, in plain NumPy, by the conventions of `meaning`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import numpy as np

from .catalog import CHUNK, GROUP
from .meaning import F32, LANES, Array, exp, exp2, fma, fold, steps, tanh

MASKED = F32(-1e30)


# ---- the cache ----
WIDE_MAX = 32639
LOG2_E = F32(1.4426950408889634)


class Query(NamedTuple):
    """Turned queries of an INT8 cache: x int32 [count, heads, head_dim padded to 32] in -WIDE_MAX..WIDE_MAX,
    and their scales [count, heads].
    """

    x: Array
    x_scale: Array


class Stored(NamedTuple):
    """Turned keys and values of an INT8 cache: int8 [positions, kv_heads, head_dim padded to 32] with the
    keys' scales [positions, kv_heads, groups] and the values' [positions, kv_heads]. Values were divided by
    their block.
    """

    keys: Array
    key_scales: Array
    values: Array
    value_scales: Array


def block(dims: int) -> int:
    """How many neighbouring dimensions are turned together: the largest power of two that divides dims."""
    return dims & -dims


def turn(x: Array) -> Array:
    """float32 [..., dims], dims a multiple of 32, times the Hadamard matrix of each block; not normalized."""
    shape = x.shape
    stride = 1
    while stride < block(shape[-1]):
        pairs = x.reshape(*shape[:-1], -1, 2, stride)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([low + high, low - high], -2).reshape(shape)
        stride *= 2
    return x


def padded(x: Array) -> Array:
    """float32 [..., columns] with zeros up to a multiple of 32 columns."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % GROUP)])


def between(head_dim: int) -> Array:
    """float32 [head_dim padded to 32], what is added before rounding: zeros, but where a block's columns are
    equal copies, a number for each copy.
    """
    dims = -(-head_dim // GROUP) * GROUP
    size = block(dims)
    copy = max(8, 1 << (head_dim - (dims - size) - 1).bit_length())
    if copy >= size:
        return np.zeros(dims, F32)
    copies = size // copy
    steps = (np.arange(copies) + 0.5) / copies - 0.5
    return np.concatenate([np.zeros(dims - size), np.repeat(steps, copy)]).astype(F32)


def rounded(x: Array, most: int, add: Array | None = None) -> tuple[Array, Array]:
    """int32 x and the scale of its last axis, so that no integer is larger than `most`."""
    scale, factor = steps(np.abs(x).max(-1), F32(most))
    x = x * factor[..., None]
    return np.rint(x if add is None else x + add).astype(np.int32), scale


def store_int8(k: Array, v: Array, centre: Array) -> Stored:
    """Keys less `centre` [kv_heads, head_dim] and values, both [count, kv_heads, head_dim]."""
    k = turn(padded(k - centre))
    add = between(v.shape[-1])
    grouped = *k.shape[:-1], k.shape[-1] // GROUP, GROUP
    keys, key_scales = rounded(k.reshape(grouped), 127, add.reshape(grouped[-2:]))
    inverse = F32(1.0 / block(k.shape[-1]))
    values, value_scales = rounded(turn(padded(v * inverse)), 127, add)
    return Stored(keys.reshape(k.shape).astype(np.int8), key_scales, values.astype(np.int8), value_scales)


def lay_int8(a: Array, scaling: float) -> Query:
    """Queries a [count, heads, head_dim] times `scaling`."""
    inverse = F32(1.0 / block(padded(a).shape[-1]))
    return Query(*rounded(turn(padded(a * F32(F32(scaling) * inverse))), WIDE_MAX))


def lay_float(a: Array, scaling: float) -> Array:
    """The same of floats."""
    return a * F32(scaling)


def store_float(k: Array, v: Array, centre: Array, dtype: Any) -> tuple[Array, Array]:
    """Keys less `centre` and values in the cache's dtype."""
    with np.errstate(over="ignore"):
        return (k - centre).astype(dtype), v.astype(dtype)


# ---- attention ----
class Head(Protocol):
    """What the queries of a head meet in a chunk."""

    scale: Array  # [count], what a step of each query's scores is

    def scores(self, at: slice) -> Array:
        """[count, positions], in these steps."""
        ...

    def exponentials(self, below: Array, scale: Array) -> Array:
        """Of what scores are below the largest of their query, in steps of `scale` [count]."""
        ...

    def weighted(self, p: Array, seen: Array, at: slice) -> tuple[Array, Array]:
        """The sums [count, dims] of values times p [count, positions], and what a step of each query's is."""
        ...


def key_scores(x: Array, keys: Array, scales: Array) -> Array:
    """[count, positions]: integers x [count, dims] by int8 keys [positions, dims] with scales [positions,
    groups].
    """
    total = np.zeros((len(x), len(keys)), F32)
    for g in range(keys.shape[1] // GROUP):
        part = slice(g * GROUP, (g + 1) * GROUP)
        sums = x[:, part].astype(np.int64) @ keys[:, part].astype(np.int64).T
        total = fma(sums.astype(F32), scales[None, :, g], total)
    return total


class NearHead:
    """An INT8 cache; parts of `q` and `held` without the axis of heads."""

    def __init__(self, q: Query, held: Stored):
        self.q, self.held, self.scale = q, held, q.x_scale

    def scores(self, at: slice) -> Array:
        return key_scores(self.q.x, self.held.keys[at], self.held.key_scales[at])

    def exponentials(self, below: Array, scale: Array) -> Array:
        return exp2(below * (scale * LOG2_E)[:, None])

    def weighted(self, p: Array, seen: Array, at: slice) -> tuple[Array, Array]:
        scales = np.where(seen, self.held.value_scales[None, at], F32(0.0))
        step, factor = steps(scales.max(1), F32(WIDE_MAX))
        numbers = np.rint(p * (scales * factor[:, None])).astype(np.int64)
        return (numbers @ self.held.values[at].astype(np.int64)).astype(F32), step


class FloatHead:
    """A cache of floats: q [count, dims], key and value [positions, dims]."""

    def __init__(self, q: Array, key: Array, value: Array):
        self.q, self.key, self.value, self.scale = q, key, value, np.ones(len(q), F32)

    def scores(self, at: slice) -> Array:
        total = np.zeros((len(self.q), len(self.key[at])), F32)
        for d in range(self.q.shape[1]):
            total = fma(self.key[None, at, d], self.q[:, d, None], total)
        return total

    def exponentials(self, below: Array, scale: Array) -> Array:
        return exp(below)

    def weighted(self, p: Array, seen: Array, at: slice) -> tuple[Array, Array]:
        total = np.zeros(self.q.shape, F32)
        for n, row in enumerate(self.value[at]):
            total = np.where(seen[:, n, None], fma(row[None, :], p[:, n, None], total), total)
        return total, self.scale


class Softmax(NamedTuple):
    """What a layer makes of its scores. A query sees `window` positions up to its own, or all where that is
    0; scores become cap * tanh(score / cap) where there is a cap; and of each query head a number in `sinks`,
    float32 [heads], takes part in the softmax as the score of something whose value is zeros. With `whole` a
    query sees what the last one sees.
    """

    window: int = 0
    cap: float = 0.0
    sinks: Array | None = None
    whole: bool = False


PLAIN = Softmax()


def attend_int8(q: Query, cache: Stored, position: int, softmax: Softmax = PLAIN) -> Array:
    """float32 [count, heads, head_dim padded]: queries of positions from `position` on over all they may see.

    q is [count, heads, ...]; head h sees key-value head h // (heads / kv_heads).
    """
    count, heads, dims = q.x.shape
    share = heads // cache.keys.shape[1]
    out = np.empty((count, heads, dims), F32)
    for h in range(heads):
        held = Stored(*(part[:, h // share] for part in cache))
        head = NearHead(Query(*(part[:, h] for part in q)), held)
        sums, total = attend_chunks(repeat(head), count, dims, position, h, softmax)
        out[:, h] = turn(sums) / total[:, None]
    return out


def attend_float(q: Array, keys: Array, values: Array, position: int, softmax: Softmax = PLAIN) -> Array:
    """float32 [count, heads, head_dim] over keys and values [positions, kv_heads, head_dim] of floats."""
    count, heads, dims = q.shape
    share = heads // keys.shape[1]
    out = np.empty((count, heads, dims), F32)
    for h in range(heads):
        head = FloatHead(q[:, h], keys[:, h // share].astype(F32), values[:, h // share].astype(F32))
        sums, total = attend_chunks(repeat(head), count, dims, position, h, softmax)
        out[:, h] = sums / total[:, None]
    return out


def attend_chunks(
    heads: Iterable[Head], count: int, dims: int, position: int, h: int, softmax: Softmax
) -> tuple[Array, Array]:
    """Softmax over chunks of positions, merged as they come; one not seen changes nothing. The sums of values
    [count, dims] and of exponentials [count]. `heads` is what each chunk holds in turn for query head h.
    """
    own = position + np.arange(count)[:, None]  # the last position that each query sees
    own = np.full_like(own, position + count - 1) if softmax.whole else own
    top = np.full(count, MASKED, F32)
    total = np.zeros(count, F32)
    out = np.zeros((count, dims), F32)
    for base, head in zip(range(0, position + count, CHUNK), heads, strict=False):
        at = slice(base, min(base + CHUNK, position + count))
        there = np.arange(at.start, at.stop)[None, :]
        seen = there <= own
        if softmax.window:
            seen &= there > own - softmax.window
        found, scale = head.scores(at), head.scale
        if softmax.cap:
            found, scale = capped(found, scale, F32(softmax.cap)), np.ones_like(scale)
        chunk_top = np.where(seen, found, MASKED).max(1)
        below = np.where(seen, found - chunk_top[:, None], F32(0.0))
        p = np.where(seen, head.exponentials(below, scale), F32(0.0)).astype(F32)
        chunk_top = np.where(seen.any(1), chunk_top * scale, MASKED)
        lanes = np.zeros((count, LANES), F32)
        whole = padded(p)
        for i in range(0, whole.shape[1], LANES):
            lanes = lanes + whole[:, i : i + LANES]
        new = np.maximum(top, chunk_top)
        kept, added = exp(top - new), exp(chunk_top - new)
        total = total * kept + fold(lanes) * added
        sums, step = head.weighted(p, seen, at)
        out = fma(sums * step[:, None], added[:, None], out * kept[:, None])
        top = new
    if softmax.sinks is not None:
        total = total + exp(np.minimum(softmax.sinks[h] - top, F32(88.0)))
    return out, total


def capped(scores: Array, scale: Array, cap: Any) -> Array:
    """cap * tanh(score / cap) of scores [count, positions] in steps of `scale` [count]."""
    return cap * tanh(scores * (scale / cap)[:, None])

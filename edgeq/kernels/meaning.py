"""What every kernel computes, in plain NumPy: arrays in, arrays out, one function of the kernel's name.

This is the definition that the kernels are tested against, bit for bit: the functions add up in the same
order and round where the kernels round. It knows nothing of addresses, tiles, workers or instruction sets,
and is in no hurry. Rows of activations are float32 [count, columns]; int8 activations are the triple (x int8
[count, columns padded to 32], x_scale float32 [count, groups] and x_sum int16 [count, groups, 2]); weights
are the parts of a scheme as `formats.schemes` means them, row-major, or float32 values [rows, columns].
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgeq.formats.schemes import Floats, Parts, Scheme, dequantize
from edgeq.formats.schemes.values import integers, sub_mins, sub_scales

from .catalog import CHUNK, GROUP

Array = np.ndarray[Any, Any]
F32 = np.float32
LANES = 16
SMALLEST = F32(1e-30)
MASKED = F32(-1e30)


# ---- arithmetic that NumPy lacks ----
def fma(x: Any, y: Any, z: Any) -> Array:
    """x * y + z of float32, rounded once."""
    with np.errstate(all="ignore"):
        product = np.multiply(x, y, dtype=np.float64)  # exact
        addend = np.asarray(z, np.float64)
        total = product + addend
        back = total - product
        error = (product - (total - back)) + (addend - back)  # exact: total + error is the sum
        bits = np.atleast_1d(total).view(np.int64)
        grows = np.atleast_1d((error > 0) == (total > 0))
        inexact = np.atleast_1d((error != 0) & np.isfinite(total)) & (bits & 1 == 0)
        odd = bits + np.where(inexact, np.where(grows, 1, -1), 0)  # rounded to odd: float32 sees what is lost
        return odd.view(np.float64).reshape(np.shape(total)).astype(F32)


def fold(x: Array) -> Array:
    """The sum over the last axis of 16 lanes by halves: lane i + lane i + 8, then 4, 2, 1."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = x[..., :half] + x[..., half:]
    return x[..., 0]


def exp(x: Any) -> Array:
    """e to the x for x <= 88, and exp(-87) below -87; NaN of NaN."""
    x = np.where(F32(-87.0) > np.asarray(x, F32), F32(-87.0), np.asarray(x, F32))
    n = np.rint(x * F32(1.4426950408889634)).astype(F32)
    r = fma(n, F32(2.12194440e-4), fma(n, F32(-0.693359375), x))
    p = np.full(x.shape, 1.0 / 720.0, F32)
    for c in (1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0):
        p = fma(p, r, F32(c))
    return p * np.ldexp(F32(1.0), n.astype(np.int32))


def exp2(x: Any) -> Array:
    """2 to the x for x < 128, and 2**-126 below -126; NaN of NaN."""
    x = np.where(F32(-126.0) > np.asarray(x, F32), F32(-126.0), np.asarray(x, F32))
    n = np.rint(x).astype(F32)
    r = x - n
    p = np.full(x.shape, 0.001326472731307149, F32)
    for c in (0.009671512991189957, 0.05550733581185341, 0.24022242426872253, 0.6931470036506653, 1.0):
        p = fma(p, r, F32(c))
    return p * np.ldexp(F32(1.0), n.astype(np.int32))


def silu(x: Array) -> Array:
    """x / (1 + exp(-x)), the exponent at most 87."""
    return x / (F32(1.0) + exp(np.minimum(F32(0.0) - x, F32(87.0))))


def tanh(x: Array) -> Array:
    """Of |x| < 0.625 a polynomial, else 1 - 2 / (exp(2 x) + 1)."""
    with np.errstate(all="ignore"):
        square = x * x
        p = np.full(x.shape, -5.70498872745e-3, F32)
        for c in (2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1):
            p = fma(p, square, F32(c))
        large = F32(1.0) - F32(2.0) / (exp(np.minimum(x + x, F32(40.0))) + F32(1.0))
        return np.where(square < F32(0.390625), fma(x * square, p, x), large)


# ---- activations ----
class Int8(NamedTuple):
    """Quantized rows: the last axis of x is in groups of 32, each with a scale and the sums of its halves."""

    x: Array
    x_scale: Array
    x_sum: Array


def quantize(a: Array) -> Int8:
    """float32 [..., columns] to int8 [..., columns padded to 32], scales [..., groups], sums [..., groups,
    2].
    """
    groups = -(-a.shape[-1] // GROUP)
    padded = np.zeros((*a.shape[:-1], groups * GROUP), F32)
    padded[..., : a.shape[-1]] = a
    grouped = padded.reshape(*a.shape[:-1], groups, GROUP)
    top = np.abs(grouped).max(-1)
    some = top > SMALLEST
    with np.errstate(divide="ignore", over="ignore"):
        factor = np.where(some, F32(127.0) / top, F32(0.0)).astype(F32)
    scale = eleven_bits(np.where(some, top * F32(1.0 / 127.0), F32(0.0)).astype(F32))
    x = np.rint(grouped * factor[..., None]).astype(np.int8)
    return Int8(x.reshape(padded.shape), scale, halves(x))


def halves(x: Array) -> Array:
    """int16 [..., 2]: the sums of both halves of int8 [..., 32]."""
    return x.reshape(*x.shape[:-1], 2, GROUP // 2).sum(-1, dtype=np.int16)


def eleven_bits(x: Array) -> Array:
    """x >= 0 rounded to the 11 significant bits of a float16, ties to even, with float32's range."""
    word = x.view(np.uint32)
    odd = (word >> np.uint32(13)) & np.uint32(1)
    return ((word + odd + np.uint32(0xFFF)) & np.uint32(0xFFFFE000)).view(F32)


def _steps(top: Array, most: F32) -> tuple[Array, Array]:
    """The scale and the factor that take numbers of at most `top` to -most..most; zeros below SMALLEST."""
    with np.errstate(divide="ignore", over="ignore"):
        some = top > SMALLEST
        factor = np.where(some, most / top, F32(0.0)).astype(F32)
        return np.where(some, top / most, F32(0.0)).astype(F32), factor


def swiglu(gate: Array, up: Array) -> Array:
    """silu(gate) * up."""
    return silu(gate) * up


def swiglu_quantize(gate: Array, up: Array) -> Int8:
    return quantize(swiglu(gate, up))


# ---- embedding and norms ----
def embed(ids: Array, parts: Parts, scheme: Scheme) -> Array:
    """Rows of a quantized matrix, float32 [count, columns padded]."""
    return dequantize({name: part[ids] for name, part in parts.items()}, scheme)


def embed_float(ids: Array, weights: Array, row: Array | None = None) -> Array:
    """Rows of a matrix of floats, each times its float of `row` [rows] where there are such."""
    y = weights[ids].astype(F32)
    return y if row is None else y * row[ids, None]


def norm(x: Array, weight: Array, epsilon: float) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis; squares add up in 16 lanes."""
    dim = x.shape[-1]
    padded = np.zeros((*x.shape[:-1], -(-dim // LANES) * LANES), F32)
    padded[..., :dim] = x
    total = np.zeros((*x.shape[:-1], LANES), F32)
    for i in range(0, padded.shape[-1], LANES):
        v = padded[..., i : i + LANES]
        total = fma(v, v, total)
    factor = F32(1.0) / np.sqrt(fold(total) / F32(dim) + F32(epsilon))
    return x * factor[..., None] * weight


def argmax(y: Array) -> Array:
    """int64 [count]: the first of the largest of each row, or -1 where a value is not finite."""
    return np.where(np.isfinite(y).all(-1), np.nan_to_num(y).argmax(-1), -1)


def norm_quantize(a: Array, weight: Array, epsilon: float) -> Int8:
    return quantize(norm(a, weight, epsilon))


def norm_heads(x: Array, weight: Array, epsilon: float) -> Array:
    """x float32 [count, heads, head_dim], every head normalized."""
    return norm(x, weight, epsilon)


def rotate(x: Array, cosine: Array, sine: Array) -> Array:
    """x float32 [count, heads, head_dim] turned by its rows of the tables [count, head_dim / 2]."""
    half = x.shape[-1] // 2
    low, high = x[..., :half], x[..., half:]
    c, s = cosine[:, None, :], sine[:, None, :]
    return np.concatenate([low * c - high * s, high * c + low * s], axis=-1)


# ---- matrix products ----
def _finish(y: Array, row: Array | None, bias: Array | None, add: Array | None) -> Array:
    if row is not None:
        y = y * row
    if bias is not None:
        y = y + bias
    return y if add is None else add + y


class Codes(NamedTuple):
    """A matrix of codes, group by group of its scheme: what its value is the products and the sum of."""

    v: Array  # int64 [rows, columns padded]
    sub: Array  # int64 [rows, entries], ones where the scheme has none
    scale: Array  # float32 [rows, groups], the scheme's unit in it; ones where the scheme has none
    submin: Array  # int64 [rows, entries]
    min: Array | None  # float32 [rows, groups]
    row: Array | None  # float32 [rows]

    @classmethod
    def of(cls, parts: Parts, scheme: Scheme) -> Codes:
        v = integers(parts, scheme).astype(np.int64)
        rows, columns = v.shape
        groups = columns // scheme.group
        ones = np.ones((rows, groups), np.int64)
        sub = sub_scales(parts["sub"], scheme).astype(np.int64) if scheme.sub else ones
        submin = sub_mins(parts, scheme) if scheme.min else None
        submin = ones if submin is None else submin.astype(np.int64)
        scale = ones.astype(F32) * F32(scheme.unit)
        if scheme.scale:
            scale = scale * _floats(parts, "scale", scheme.scale, groups)
        low = _floats(parts, "min", scheme.min, groups) if scheme.min else None
        row = _floats(parts, "row", scheme.row, 1)[:, 0] if scheme.row else None
        return cls(v, sub, scale, submin, low, row)


def _floats(parts: Parts, name: str, floats: Floats, count: int) -> Array:
    """The floats of a part, float32 [rows, count]."""
    return _spread(floats.format.floats(parts[name]), count)


def _spread(entries: Array, count: int) -> Array:
    """[rows, entries] repeated to [rows, count]."""
    return np.repeat(entries, count // entries.shape[1], axis=1)


def matmul(
    x: Int8, parts: Parts, scheme: Scheme, bias: Array | None = None, add: Array | None = None
) -> Array:
    """y [count, rows] = W . x (+ bias) (+ add): exact integer sums of sub * v * x, one for each group of the
    scheme, added in order with one fma, and where there is a min one more for each sub-scale, of min * submin
    and the sum of x times its scale. What comes of all groups is multiplied by the row's float.
    """
    w = Codes.of(parts, scheme)
    y = np.zeros((len(x.x), len(w.v)), F32)
    columns, half = w.v.shape[1], GROUP // 2
    weights, shared = w.v * _spread(w.sub, columns), columns // w.submin.shape[1]
    x_sum = x.x_sum.reshape(len(x.x), x.x.shape[1] // half)
    for g, first in enumerate(range(0, x.x.shape[1], scheme.group)):
        end, scale = first + scheme.group, x.x_scale[:, first // GROUP, None]
        sums = x.x[:, first:end].astype(np.int64) @ weights[:, first:end].T
        y = fma(sums.astype(F32), w.scale[None, :, g] * scale, y)
        if w.min is not None:
            for start in range(first, end, shared):
                total = x_sum[:, start // half : (start + shared) // half].sum(1, dtype=np.int64)
                low = w.min[:, g] * w.submin[:, start // shared].astype(F32)
                y = fma(low[None], total[:, None].astype(F32) * scale, y)
    return _finish(y, w.row, bias, add)


def matmul_float(
    x: Array,
    weights: Array,
    bias: Array | None = None,
    add: Array | None = None,
    row: Array | None = None,
) -> Array:
    """y [count, rows] = W . x (* row) (+ bias) (+ add), columns added in order with one fma each."""
    y = np.zeros((len(x), len(weights)), F32)
    for c in range(weights.shape[1]):
        y = fma(weights[None, :, c], x[:, c, None], y)
    return _finish(y, row, bias, add)


def matmul_act(
    x: Array, parts: Parts, scheme: Scheme, bias: Array | None = None, add: Array | None = None
) -> Array:
    """y [count, rows] = W . x (+ bias) (+ add), x float32 [count, columns], W stored as codes: columns that
    share a sub-scale, or a group, are added up in order and then scaled, and where there is a min x alone as
    well; the row's float comes last.
    """
    w = Codes.of(parts, scheme)
    y = np.zeros((len(x), len(w.v)), F32)
    values = w.v.astype(F32)
    size = w.v.shape[1] // w.sub.shape[1]
    for n, first in enumerate(range(0, x.shape[1], size)):
        part, total, g = np.zeros_like(y), np.zeros_like(y), first // scheme.group
        for c in range(first, min(first + size, x.shape[1])):
            part = fma(values[None, :, c], x[:, c, None], part)
            total = total + x[:, c, None]
        y = fma(part, (w.scale[:, g] * w.sub[:, n].astype(F32))[None], y)
        if w.min is not None:
            y = fma(total, (w.min[:, g] * w.submin[:, n].astype(F32))[None], y)
    return _finish(y, w.row, bias, add)


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
    scale, factor = _steps(np.abs(x).max(-1), F32(most))
    x = x * factor[..., None]
    return np.rint(x if add is None else x + add).astype(np.int32), scale


def store_int8(a: Array, k: Array, v: Array, centre: Array, scaling: float) -> tuple[Query, Stored]:
    """Queries a [count, heads, head_dim] times `scaling`, keys less `centre` [kv_heads, head_dim] and values
    [count, kv_heads, head_dim].
    """
    k = turn(padded(k - centre))
    add = between(v.shape[-1])
    grouped = *k.shape[:-1], k.shape[-1] // GROUP, GROUP
    keys, key_scales = rounded(k.reshape(grouped), 127, add.reshape(grouped[-2:]))
    inverse = F32(1.0 / block(k.shape[-1]))
    values, value_scales = rounded(turn(padded(v * inverse)), 127, add)
    query = Query(*rounded(turn(padded(a * F32(F32(scaling) * inverse))), WIDE_MAX))
    stored = keys.reshape(k.shape).astype(np.int8), key_scales, values.astype(np.int8), value_scales
    return query, Stored(*stored)


def store_float(
    a: Array, k: Array, v: Array, centre: Array, scaling: float, dtype: Any
) -> tuple[Array, Array, Array]:
    """Queries times `scaling` as float32, keys less `centre` and values in the cache's dtype."""
    with np.errstate(over="ignore"):
        return a * F32(scaling), (k - centre).astype(dtype), v.astype(dtype)


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
        step, factor = _steps(scales.max(1), F32(WIDE_MAX))
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
    float32 [heads], takes part in the softmax as the score of something whose value is zeros.
    """

    window: int = 0
    cap: float = 0.0
    sinks: Array | None = None


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
    own = position + np.arange(count)[:, None]  # the position of each query
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

"""What every kernel computes, in plain NumPy: arrays in, arrays out, one function of the kernel's name.

This is the definition that the kernels are tested against, bit for bit: the functions add up in the same
order and round where the kernels round. It knows nothing of addresses, tiles, workers or instruction sets,
and is in no hurry. Rows of activations are float32 [count, columns]; int8 activations are the triple (x int8
[count, columns padded to 32], x_scale float32 [count, groups] and x_sum int16 [count, groups, 2]); weights
are the parts of a scheme as `formats.schemes` means them, row-major, or float32 values [rows, columns].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgeq.formats.schemes import Floats, Parts, Scheme, dequantize
from edgeq.formats.schemes.values import integers, sub_mins, sub_scales

from .catalog import GROUP

Array = np.ndarray[Any, Any]
F32 = np.float32
LANES = 16
SMALLEST = F32(1e-30)


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


def steps(top: Array, most: F32) -> tuple[Array, Array]:
    """The scale and the factor that take numbers of at most `top` to -most..most; zeros below SMALLEST."""
    with np.errstate(divide="ignore", over="ignore"):
        some = top > SMALLEST
        factor = np.where(some, most / top, F32(0.0)).astype(F32)
        return np.where(some, top / most, F32(0.0)).astype(F32), factor


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


def norm_heads(x: Array, weight: Array | None, epsilon: float) -> Array:
    """x float32 [count, heads, head_dim], every head normalized, by one weight or each by its own."""
    return norm(x, np.ones(x.shape[-1], F32) if weight is None else weight, epsilon)


def rotate(x: Array, cosine: Array, sine: Array) -> Array:
    """x float32 [count, heads, head_dim], the first `turned` of each head turned by the rows of the tables
    [count, turned / 2].
    """
    half = cosine.shape[-1]
    low, high, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    c, s = cosine[:, None, :], sine[:, None, :]
    return np.concatenate([low * c - high * s, high * c + low * s, rest], axis=-1)


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

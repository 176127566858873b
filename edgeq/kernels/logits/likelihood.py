"""How likely tokens are: tops, sums of exponentials, weights, and what weights are turned into."""

from __future__ import annotations

from numba import float32, float64

from edgeq.kernels.mathematics import LOWEST, exp
from edgeq.simd.verbs import (
    float_bits,
    keep,
    larger,
    larger_f64,
    larger_magnitude,
    load_f32,
    max_f32,
    native,
    peek_f32,
    poke_f32,
    poke_f64,
    power2_f64,
    splat_f32,
    splat_f64,
    store_f32,
    sum_f32,
    sum_f64,
    where_at_least,
    whole_f64,
    widen_f32,
)

BLOCK = 128  # logits whose top and sum are kept
ZERO = float32(0.0)
ABSENT = float32(-3.4028235e38)  # what stands for logits behind the end

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.693145751953125  # 16 bits: n * LN2_HIGH is exact
LN2_LOW = 1.4286068203094172e-06
UNLIKELY = -87.0  # a logit so far below the top counts for nothing in a sum of float32


@native
def line(row, i, count, tail, other=ABSENT):
    """Logits i.. < i + 16 of the row, `other` from `count` on; `tail` is a line of room."""
    if i + 16 <= count:
        return load_f32(row + i * 4)
    store_f32(tail, splat_f32(other))
    for n in range(i, count):
        poke_f32(tail + (n - i) * 4, peek_f32(row + n * 4))
    return load_f32(tail)


@native
def block_tops(t, row, count, tops, tail, found):
    """tops [blocks] float32: the largest logit of each block. found [3]: the largest of all, the smallest;
    0, or 1 where a logit is no finite number.
    """
    zero, some = splat_f32(ZERO), peek_f32(row)
    most, least, check = splat_f32(ABSENT), splat_f32(ABSENT), zero
    for block in range(0, count, BLOCK):
        top = splat_f32(ABSENT)
        for i in range(block, min(block + BLOCK, count), 16):
            v = line(row, i, count, tail, some)
            top = larger(v, top)
            least = larger(zero - v, least)
            check = check + v * zero  # 0 times what is not finite is NaN
        poke_f32(tops + block // BLOCK * 4, max_f32(top))
        most = larger(top, most)
    poke_f64(found, float64(max_f32(most)))
    poke_f64(found + 8, -float64(max_f32(least)))
    poke_f64(found + 16, 0.0 if sum_f32(check) == ZERO else 1.0)
    return 0


@native
def exp_f64(x):
    """e to the x for x <= 700; below -87 it stays at exp(-87). Relative error below 1e-14."""
    x = larger_f64(splat_f64(UNLIKELY), x)
    n = whole_f64(x * splat_f64(LOG2_E))
    r = (x - n * splat_f64(LN2_HIGH)) - n * splat_f64(LN2_LOW)
    p = splat_f64(1.0 / 39916800.0)
    p = p * r + splat_f64(1.0 / 3628800.0)
    p = p * r + splat_f64(1.0 / 362880.0)
    p = p * r + splat_f64(1.0 / 40320.0)
    p = p * r + splat_f64(1.0 / 5040.0)
    p = p * r + splat_f64(1.0 / 720.0)
    p = p * r + splat_f64(1.0 / 120.0)
    p = p * r + splat_f64(1.0 / 24.0)
    p = p * r + splat_f64(1.0 / 6.0)
    p = p * r + splat_f64(0.5)
    p = p * r + splat_f64(1.0)
    p = p * r + splat_f64(1.0)
    return p * power2_f64(n)


@native
def exponential_sum(t, row, count, top_bits, tail, found):
    """found [1]: the sum of exp(logit - top), each of float64, where `top` is the largest logit."""
    top = splat_f64(float64(float_bits(top_bits)))
    total = splat_f64(0.0)
    for i in range(0, count, 16):
        p = exp_f64(widen_f32(line(row, i, count, tail)) - top)
        if i + 16 > count:
            p = p * widen_f32(keep(splat_f32(float32(1.0)), 0, count - i, ZERO))
        total = total + p
    poke_f64(found, sum_f64(total))
    return 0


@native
def where_above(row, i, bound, last, above, v, other):
    """v, a line of what belongs to places i.. of the row, and `other` where the row's line is below the
    bound, or behind place `last` below `above`.
    """
    if i > last:
        return where_at_least(row, splat_f32(above), v, splat_f32(other))
    kept = where_at_least(row, splat_f32(bound), v, splat_f32(other))
    if i + 16 <= last:
        return kept
    split = last + 1 - i
    rest = where_at_least(row, splat_f32(above), v, splat_f32(other))
    return keep(kept, 0, split, ZERO) + keep(rest, split, 16, ZERO)


@native
def weigh(t, row, count, top_bits, factor_bits, bound_bits, last, above_bits, weights, sums, tail, found):
    """weights [whole lines] float32: exp((logit - top) * factor), 0 where that is below exp(-87), behind the
    end, and for logits below the bound, or behind place `last` below `above`. sums [blocks] float64: of each
    block's weights. found [1]: the sum of weight * exponent over all.
    """
    top, factor = splat_f32(float_bits(top_bits)), splat_f32(float_bits(factor_bits))
    bound, above = float_bits(bound_bits), float_bits(above_bits)
    lowest = splat_f32(LOWEST)
    least = exp(lowest)  # what `exp` gives for all that is too small for it
    mean = 0.0
    for block in range(0, count, BLOCK):
        weight_sum, exponent_sum = splat_f32(ZERO), splat_f32(ZERO)
        for i in range(block, min(block + BLOCK, count), 16):
            v = line(row, i, count, tail)
            a = larger(lowest, (v - top) * factor)
            w = where_above(v, i, bound, last, above, exp(a) - least, ZERO)
            store_f32(weights + i * 4, w)
            weight_sum = weight_sum + w
            exponent_sum = exponent_sum + w * a
        poke_f64(sums + block // BLOCK * 8, float64(sum_f32(weight_sum)))
        mean += float64(sum_f32(exponent_sum))
    poke_f64(found, mean)
    return 0


@native
def typicality(
    t, row, count, top_bits, factor_bits, mean_bits, bound_bits, last, above_bits, typical, tops, tail
):
    """typical [whole lines] float32: how far (logit - top) * factor is from `mean`, times -1; ABSENT for
    logits below the bound, or behind place `last` below `above`. tops [blocks] float32: the largest of each
    block of them.
    """
    top, factor = splat_f32(float_bits(top_bits)), splat_f32(float_bits(factor_bits))
    bound, above = float_bits(bound_bits), float_bits(above_bits)
    mean, zero, lowest = splat_f32(float_bits(mean_bits)), splat_f32(ZERO), splat_f32(LOWEST)
    for block in range(0, count, BLOCK):
        nearest_mean = splat_f32(ABSENT)
        for i in range(block, min(block + BLOCK, count), 16):
            v = line(row, i, count, tail)
            away = larger(lowest, (v - top) * factor) - mean
            near = where_above(v, i, bound, last, above, zero - larger_magnitude(away, zero), ABSENT)
            store_f32(typical + i * 4, near)
            nearest_mean = larger(near, nearest_mean)
        poke_f32(tops + block // BLOCK * 4, max_f32(nearest_mean))
    return 0


@native
def blank(t, row, logits, count, bound_bits, last, above_bits, weights, blanked, tops, sums, tail, found):
    """blanked [whole lines] float32: the logits, and ABSENT where the row is below the bound, or behind place
    `last` below `above`; there the weights [whole lines] float32 become 0. tops [blocks] float32: the largest
    of each block of `blanked`. sums [blocks] float64: of each block's weights. found [2]: the largest of all
    logits that are left, and the smallest.
    """
    bound, above = float_bits(bound_bits), float_bits(above_bits)
    zero, most, least = splat_f32(ZERO), splat_f32(ABSENT), splat_f32(ABSENT)
    for block in range(0, count, BLOCK):
        top, weight_sum = splat_f32(ABSENT), splat_f32(ZERO)
        for i in range(block, min(block + BLOCK, count), 16):
            v = line(row, i, count, tail)
            logit = line(logits, i, count, tail)
            left = where_above(v, i, bound, last, above, logit, ABSENT)
            least = larger(where_above(v, i, bound, last, above, zero - logit, ABSENT), least)
            w = where_above(v, i, bound, last, above, load_f32(weights + i * 4), ZERO)
            store_f32(blanked + i * 4, left)
            store_f32(weights + i * 4, w)
            top = larger(left, top)
            weight_sum = weight_sum + w
        poke_f32(tops + block // BLOCK * 4, max_f32(top))
        poke_f64(sums + block // BLOCK * 8, float64(sum_f32(weight_sum)))
        most = larger(top, most)
    poke_f64(found, float64(max_f32(most)))
    poke_f64(found + 8, -float64(max_f32(least)))
    return 0


@native
def spread(t, row, count, centre_bits, tail, found):
    """found [2]: the sum of logit - centre, and that of its squares."""
    centre = splat_f32(float_bits(centre_bits))
    first, second = 0.0, 0.0
    for block in range(0, count, BLOCK):
        once, twice = splat_f32(ZERO), splat_f32(ZERO)
        for i in range(block, min(block + BLOCK, count), 16):
            away = keep(line(row, i, count, tail) - centre, 0, count - i, ZERO)
            once = once + away
            twice = twice + away * away
        first += float64(sum_f32(once))
        second += float64(sum_f32(twice))
    poke_f64(found, first)
    poke_f64(found + 8, second)
    return 0


@native
def adapt(t, weights, count, share_bits, target_bits, row):
    """row [whole lines] float32: logits that are largest where weight * share, a probability, is `target`.

    They are those of adaptive-p: a parabola near the target, straight lines far from it.
    """
    share, target = splat_f32(float_bits(share_bits)), splat_f32(float_bits(target_bits))
    zero, one = splat_f32(ZERO), splat_f32(float32(1.0))
    scale, peak, steep = (
        splat_f32(float32(1.0 / 0.3)),
        splat_f32(float32(5.0)),
        splat_f32(float32(10.0)),
    )
    for i in range(0, count, 16):
        away = larger_magnitude((load_f32(weights + i * 4) * share - target) * scale, zero)
        store_f32(row + i * 4, peak - steep * away * away / (one + away))
    return 0

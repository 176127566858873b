"""From scores to the numbers of 16 bits that multiply an INT8 cache's values.

A value's scale goes into the number of its position: number = exp(score - top) * weight, rounded, where the
positions' weights are their scales, times what makes the largest of those that a query sees in the chunk
WIDE_MAX. What a number is worth (the step) is a factor of the chunk's sums of values. So the largest scale is
all that has to be known before the exponentials, which are made, summed up and rounded in one go.
"""

from __future__ import annotations

from edgeq.simd.verbs import (
    keep,
    larger_magnitude,
    load_f32,
    max_magnitude,
    native,
    nearest,
    peek_f32,
    poke_f32,
    splat_f32,
    store_f32,
    store_wide,
    sum_f32,
)

from .activations import ZERO
from .catalog import CHUNK, Scratch
from .mathematics import LOG2_E, exp2
from .softmax import MASKED, chunk_top
from .steps import NUMBER_MAX, factor_of, step_of

SCORES, WEIGHTS, WEIGHT_STEP = Scratch.SCORES, Scratch.WEIGHTS, Scratch.WEIGHT_STEP
ADDED, CHUNK_TOP, CHUNK_SUM, STEP = Scratch.ADDED, Scratch.CHUNK_TOP, Scratch.CHUNK_SUM, Scratch.STEP


@native
def seen(x, i, low, high):
    """A line of x [CHUNK] from i on, zero but for positions low <= i < high: the scale of one that is not
    seen may be anything, and 0 * infinity is no number.
    """
    v = load_f32(x + i * 4)
    return keep(v, low - i, high - i, ZERO) if i < low or i + 16 > high else v


@native
def chunk_weights(value_scales, low, high, scratch):
    """The weights of positions low <= i < high of the chunk and their step; others of their groups of 32 get
    zeros.
    """
    top = splat_f32(ZERO)
    for i in range(low // 16 * 16, high, 16):
        top = larger_magnitude(seen(value_scales, i, low, high), top)
    most = max_magnitude(top)
    factor = splat_f32(factor_of(most, NUMBER_MAX))
    for i in range(low // 32 * 32, (high + 31) // 32 * 32, 16):
        store_f32(scratch + WEIGHTS + i * 4, seen(value_scales, i, low, high) * factor)
    poke_f32(scratch + WEIGHT_STEP, step_of(most, NUMBER_MAX))


@native
def chunk_probabilities(t, scratch, n, q_scale, low, high, end, p):
    """Query n's scores of the chunk, in steps of q_scale, to numbers at p up to `end`, a multiple of 32;
    zeros where a position is not seen. Their top, the sum of their exponentials and their step are kept.
    """
    scores, weights = scratch + SCORES + n * CHUNK * 4, scratch + WEIGHTS
    top = chunk_top(scores, low, high)
    total, first, scale = splat_f32(ZERO), splat_f32(top), splat_f32(q_scale * LOG2_E)
    for i in range(0, end, 32):
        a, b = splat_f32(ZERO), splat_f32(ZERO)
        if i < high and i + 32 > low:
            a = exp2((load_f32(scores + i * 4) - first) * scale)
            b = exp2((load_f32(scores + i * 4 + 64) - first) * scale)
            if i < low or i + 32 > high:
                a = keep(a, low - i, high - i, ZERO)
                b = keep(b, low - i - 16, high - i - 16, ZERO)
            total = total + a + b
            a = a * load_f32(weights + i * 4)
            b = b * load_f32(weights + i * 4 + 64)
        store_wide(t, p + i * 2, nearest(a))
        store_wide(t, p + i * 2 + 32, nearest(b))
    poke_f32(scratch + CHUNK_TOP + n * 4, top * q_scale if low < high else MASKED)
    poke_f32(scratch + CHUNK_SUM + n * 4, sum_f32(total))
    poke_f32(scratch + STEP + n * 4, peek_f32(scratch + WEIGHT_STEP))


@native
def in_steps(scratch):
    """Make the factor of the chunk's sums of values one of integers."""
    store_f32(scratch + ADDED, load_f32(scratch + ADDED) * load_f32(scratch + STEP))

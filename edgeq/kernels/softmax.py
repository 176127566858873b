"""The softmax of attention, chunk by chunk, for a tile of queries: tops, exponentials, merges, the way out.

Everything here is float32 and the same for every kind of cache. Scratch is described in `catalog.Scratch`.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    keep,
    lane,
    larger,
    load_each,
    load_f32,
    max_f32,
    merge_each,
    native,
    peek_f32,
    poke_f32,
    splat_f32,
    store_each,
    store_f32,
    sum_f32,
    tokens,
)

from .activations import ZERO
from .catalog import CHUNK, Scratch
from .mathematics import exp, tanh

TOP, SUM, OUT, KEPT, ADDED = Scratch.TOP, Scratch.SUM, Scratch.OUT, Scratch.KEPT, Scratch.ADDED
SCORES, CHUNK_TOP, CHUNK_SUM = Scratch.SCORES, Scratch.CHUNK_TOP, Scratch.CHUNK_SUM
MASKED = float32(-1e30)
LARGEST = float32(88.0)  # of what `exp` takes


@native
def bounds(position, window, base):
    """The positions low <= i < high of the chunk at `base` that a query at `position` sees."""
    low = 0
    if window > 0:
        low = max(0, position - window + 1 - base)
    return min(low, CHUNK), max(0, min(position + 1 - base, CHUNK))


@native
def first_chunk(position, window):
    """Where the first chunk begins that a query at `position` sees something of."""
    return 0 if window == 0 else max(0, position - window + 1) // CHUNK * CHUNK


@native
def cap_scores(scores, step, cap, low, high):
    """Turn scores in steps of `step`, of positions low <= i < high and others of their lines, into
    cap * tanh(score / cap) (Gemma 2).
    """
    inverse = splat_f32(step / cap)
    for i in range(low // 16 * 16, high, 16):
        store_f32(scores + i * 4, splat_f32(cap) * tanh(load_f32(scores + i * 4) * inverse))


@native
def chunk_top(scores, low, high):
    """The largest score among positions low <= i < high of the chunk; MASKED when there is none."""
    top = splat_f32(MASKED)
    for i in range(low // 16 * 16, high, 16):
        v = load_f32(scores + i * 4)
        if i < low or i + 16 > high:
            v = keep(v, low - i, high - i, MASKED)
        top = larger(v, top)
    return max_f32(top)


@native
def exponentials(scores, top, low, high, end):
    """Turn the scores up to `end` (a multiple of 32) into exp(score - top), masked ones into 0; return their
    sum.
    """
    total = splat_f32(ZERO)
    for i in range(0, end, 16):
        p = splat_f32(ZERO)
        if i < high and i + 16 > low:
            p = exp(load_f32(scores + i * 4) - splat_f32(top))
            if i < low or i + 16 > high:
                p = keep(p, low - i, high - i, ZERO)
            total = total + p
        store_f32(scores + i * 4, p)
    return sum_f32(total)


@native
def chunk_exponentials(scratch, n, low, high, end):
    """Turn query n's scores of the chunk into exponentials; keep their top and sum."""
    scores = scratch + SCORES + n * CHUNK * 4
    top = chunk_top(scores, low, high)
    poke_f32(scratch + CHUNK_TOP + n * 4, top)
    poke_f32(scratch + CHUNK_SUM + n * 4, exponentials(scores, top, low, high, end))


@native
def merge_sums(scratch, tile, top, total):
    """Merge tops and sums into the tile's; leave the factors of the two sums of values.

    One lane per query: one that they do not concern keeps all, and adds nothing to it.
    """
    old = load_f32(tile + TOP)
    new = larger(old, top)
    kept, added = exp(old - new), exp(top - new)
    store_f32(tile + TOP, new)
    store_f32(tile + SUM, load_f32(tile + SUM) * kept + total * added)
    store_f32(scratch + KEPT, kept)
    store_f32(scratch + ADDED, added)


@native
def merge_chunk(scratch, tile):
    """Merge the chunk's tops and sums into the tile's, as `merge_sums`."""
    merge_sums(scratch, tile, load_f32(scratch + CHUNK_TOP), load_f32(scratch + CHUNK_SUM))


@native
def merge_values(t, scratch, to, stride, acc):
    """Merge the chunk's sums of values for 16 dimensions into the tile's at `to`, queries `stride` apart."""
    old = load_each(t, to, stride, tokens(t))
    store_each(t, to, stride, merge_each(t, old, scratch + KEPT, acc, scratch + ADDED), tokens(t))


@native
def merge_tile(t, scratch, tile, other, dims):
    """Merge another tile, into which one chunk was merged and nothing before, as that chunk would be."""
    merge_sums(scratch, tile, load_f32(other + TOP), load_f32(other + SUM))
    for i in range(0, dims * 4, 64):
        acc = load_each(t, other + OUT + i, dims * 4, tokens(t))
        merge_values(t, scratch, tile + OUT + i, dims * 4, acc)


@native
def clear_tile(t, tile, dims):
    store_f32(tile + TOP, splat_f32(MASKED))
    for i in range(SUM, OUT + tokens(t) * dims * 4, 64):
        store_f32(tile + i, splat_f32(ZERO))


@native
def with_sink(total, top, sink):
    """The sum of exponentials, which are of scores less `top`, with that of a sink."""
    below = larger(splat_f32(-LARGEST), splat_f32(top - sink))  # all else is next to nothing beside more
    return total + lane(exp(splat_f32(ZERO) - below), 0)


@native
def emit_tile(tile, dims, y, y_stride, sinks, first, last, head, share, head_dim):
    """out / sum of queries first.. < last to their places in y: token row, head `head` + row % share. At
    `sinks`, if not 0, is a score for each head that takes part in its queries' sums (gpt-oss).
    """
    for n in range(last - first):
        total = peek_f32(tile + SUM + n * 4)
        row = first + n
        if sinks != 0:
            sink = peek_f32(sinks + (head + row % share) * 4)
            total = with_sink(total, peek_f32(tile + TOP + n * 4), sink)
        to = y + (row // share) * y_stride + (head + row % share) * head_dim * 4
        source = tile + OUT + n * dims * 4
        whole = head_dim // 16 * 16
        for i in range(0, whole, 16):
            store_f32(to + i * 4, load_f32(source + i * 4) / splat_f32(total))
        for i in range(whole, head_dim):
            poke_f32(to + i * 4, peek_f32(source + i * 4) / total)

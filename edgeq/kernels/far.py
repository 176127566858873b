"""Attention over far pages (`narrow`): keys and values in few bits, by the products that weights have.

A query of chunk c reads the first chunk and the chunks c - 1 and c in the near form, those between in the far
one: which form a position has depends on positions alone, and so do the bits. All queries of a pass of one
sequence are of one chunk. Far products are of bytes: a row of queries (`cache`) holds, behind its numbers of
16 bits and their scale, the same query as any activation is quantized, and probabilities are quantized like
that per 32 positions. The error of either is a tenth of what the codes leave.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    add_group_each,
    float_bits,
    fma_each,
    group_parts,
    keep,
    load_f32,
    native,
    peek_f32,
    poke_f32,
    prefetch_group,
    single,
    splat_f32,
    store_each,
    store_f32,
    sum_f32,
    tile_parts,
    tokens,
    zeros_each,
)

from .activations import ZERO, quantize_group
from .attention import AHEAD, ONE, attend_chunk_int8, chunk_scores, key_scores, turn_back
from .catalog import CHUNK, GROUP, TILE, Scratch
from .coarse import query_scales
from .mathematics import LOG2_E, exp2
from .narrow import BLOCKS, matrix_bytes
from .scratch import scratch_p
from .sharing import share_queries
from .softmax import MASKED, bounds, cap_scores, chunk_top, merge_chunk, merge_values
from .turn import block

ADDED, CHUNK_TOP, CHUNK_SUM = Scratch.ADDED, Scratch.CHUNK_TOP, Scratch.CHUNK_SUM
SCORES, OUT = Scratch.SCORES, Scratch.OUT


# ---- a chunk ----
@native
def is_far(base, own):
    """Whether a query at position `own` reads the chunk at `base` in the far form."""
    return base > 0 and base // CHUNK + 1 < own // CHUNK


@native
def product(t, parts, x, x_stride, scales, sums, stride, groups):
    """The tile's sums over `groups` groups of a tile of rows; a token's scales and its sums lie `stride`
    apart.
    """
    acc = zeros_each(t)
    for g in range(groups):
        w = group_parts(t, parts, g)
        if tokens(t) == 1:
            prefetch_group(t, w, AHEAD)
        acc = add_group_each(t, acc, w, x + g * GROUP, x_stride, scales + g * 4, sums + g * 4, stride)
    return acc


@native
def query_step(q, groups):
    """What an integer of the query at q is worth."""
    return peek_f32(q + groups * 64)


@native
def no_step(q, groups):
    """What coded_scores are in steps of."""
    return ONE


@native
def coded_scores(t, head, q, scores, groups, count, room):
    """The chunk's scores where keys are codes beside their means; `room` is for the scores of 16 means."""
    means, mean_scales, keys = head
    store_each(t, room, 64, key_scores(t, means, mean_scales, keys, q, groups), tokens(t))
    for n in range(count):
        step = splat_f32(query_step(q + n * groups * 128, groups))
        store_f32(room + n * 64, load_f32(room + n * 64) * step)
    scales = query_scales(q, groups)
    sums, x = scales + groups * 4, scales + groups * 8
    one = splat_f32(ONE)
    for tile in range(CHUNK // TILE):
        parts = tile_parts(t, keys, CHUNK // TILE, groups * GROUP, tile)
        acc = product(t, parts, x, groups * 128, scales, sums, groups * 128, groups)
        store_each(t, scores + tile * 64, CHUNK * 4, fma_each(t, acc, one, room + tile * 4, 64), tokens(t))


@native
def near_scores(t, head, q, scores, groups, count, room):
    """The chunk's scores, in steps of the queries, where keys are near ones."""
    chunk_scores(t, head, q, scores, groups, CHUNK)


@native
def chunk_bytes(scratch, n, step, low, high, p, p_scale, p_sum):
    """Query n's scores of the chunk, in such steps, to bytes at p: exp(score - top), quantized per 32
    positions; zeros where a position is not seen. Their top and the sum of their exponentials are kept.
    """
    scores = scratch + SCORES + n * CHUNK * 4
    top = chunk_top(scores, low, high)
    total, first, scale = splat_f32(ZERO), splat_f32(top), splat_f32(step * LOG2_E)
    for i in range(0, CHUNK, GROUP):
        a, b = splat_f32(ZERO), splat_f32(ZERO)
        if i < high and i + GROUP > low:
            a = exp2((load_f32(scores + i * 4) - first) * scale)
            b = exp2((load_f32(scores + i * 4 + 64) - first) * scale)
            if i < low or i + GROUP > high:
                a = keep(a, low - i, high - i, ZERO)
                b = keep(b, low - i - 16, high - i - 16, ZERO)
            total = total + a + b
        quantize_group(a, b, p + i, p_scale + i // 8, p_sum + i // 8)
    poke_f32(scratch + CHUNK_TOP + n * 4, top * step if low < high else MASKED)
    poke_f32(scratch + CHUNK_SUM + n * 4, sum_f32(total))


@native
def coded_values(t, values, p, scratch, tile, groups):
    """The chunk's sums of values, merged into the tile's."""
    p_scale = p[0] + p[1]
    for d in range(groups * 2):
        parts = tile_parts(t, values, groups * 2, CHUNK, d)
        acc = product(t, parts, p[0], CHUNK, p_scale, p_scale + p[1] // 8, CHUNK // 8, BLOCKS)
        merge_values(t, scratch, tile + OUT + d * 64, groups * 128, acc)


@native
def attend_page(t, score, step, head, values, query, seen, groups, scratch, tile):
    """A far page's positions, for queries first.. < last of a key-value head, merged into their tile's sums.

    score is coded_scores or near_scores, step what tells its steps, and head what it takes; `values` is the
    head's matrix, query the first query's row and the cap of scores, and seen (first, last, base, start,
    share, window).
    """
    q, cap = query
    first, last, base, start, share, window = seen
    count, scores, p = last - first, scratch + SCORES, scratch + scratch_p(t)
    size = tokens(t) * CHUNK
    if count == 1:
        score(single(t), head, q, scores, groups, count, p)
    else:
        score(t, head, q, scores, groups, count, p)
    for n in range(count):
        low, high = bounds(start + (first + n) // share, window, base)
        worth, p_scale = step(q + n * groups * 128, groups), p + size + n * (CHUNK // 8)
        if cap > ZERO:
            cap_scores(scores + n * CHUNK * 4, worth, cap, low, high)
            worth = ONE
        chunk_bytes(scratch, n, worth, low, high, p + n * CHUNK, p_scale, p_scale + size // 8)
    merge_chunk(scratch, tile)
    inverse = splat_f32(ONE / float32(block(groups * GROUP)))
    store_f32(scratch + ADDED, load_f32(scratch + ADDED) * inverse)
    if count == 1:
        coded_values(single(t), values, (p, size), scratch, tile, groups)
    else:
        coded_values(t, values, (p, size), scratch, tile, groups)


# ---- chunks of both forms ----
@native
def attend_chunk_coded(
    t, i, first, last, base, final, start, share, window, query, page, cache, sizes, scratch, tile
):
    """As attend_chunk_int8, with the parts of a near page and those of a far one as the cache."""
    near, far = cache
    if is_far(base, final):
        means, mean_scales, keys, values = far
        groups = (sizes[0] + 31) // 32
        matrix = page + i * matrix_bytes(t, CHUNK * groups * GROUP)
        head = page + means + i * groups * 512, page + mean_scales + i * groups * 64, keys + matrix
        q, cap = query
        q += (i * sizes[1] + first) * groups * 128
        seen = first, last, base, start, share, window
        attend_page(t, coded_scores, no_step, head, values + matrix, (q, cap), seen, groups, scratch, tile)
    else:
        attend_chunk_int8(
            t, i, first, last, base, final, start, share, window, query, page, near, sizes, scratch, tile
        )


@native
def attend_chunk_coded_values(
    t, i, first, last, base, final, start, share, window, query, page, cache, sizes, scratch, tile
):
    """As attend_chunk_coded where keys stay near and far pages have values alone."""
    near, far = cache
    if is_far(base, final):
        keys, key_scales, values = far
        groups = (sizes[0] + 31) // 32
        matrix = page + i * matrix_bytes(t, CHUNK * groups * GROUP)
        at = page + i * CHUNK * groups * 4
        head = keys + page + i * CHUNK * groups * 32, key_scales + at, values + matrix
        q, cap = query
        q += (i * sizes[1] + first) * groups * 128
        seen = first, last, base, start, share, window
        attend_page(t, near_scores, query_step, head, values + matrix, (q, cap), seen, groups, scratch, tile)
    else:
        attend_chunk_int8(
            t, i, first, last, base, final, start, share, window, query, page, near, sizes, scratch, tile
        )


@native
def attend_coded(
    t,
    work,
    worker,
    workers,
    batch,
    q,
    means,
    mean_scales,
    far_keys,
    far_values,
    keys,
    key_scales,
    values,
    value_scales,
    y,
    y_stride,
    heads,
    kv_heads,
    head_dim,
    pages_at,
    rows,
    window,
    cap,
    sinks,
    whole,
    scratch,
    scratch_stride,
    units,
    block,
    units_max,
    finished,
):
    """y [count, heads, head_dim] as attend_int8, with far pages from `narrow`."""
    share_queries(
        t,
        attend_chunk_coded,
        turn_back,
        work,
        workers,
        batch,
        (q, float_bits(cap)),
        ((keys, key_scales, values, value_scales), (means, mean_scales, far_keys, far_values)),
        kv_heads,
        (heads // kv_heads, head_dim, rows, pages_at, window, whole),
        (y, y_stride, sinks),
        scratch + worker * scratch_stride,
        (units, block, units_max, finished),
    )


@native
def attend_coded_values(
    t,
    work,
    worker,
    workers,
    batch,
    q,
    near_keys,
    near_scales,
    far_values,
    keys,
    key_scales,
    values,
    value_scales,
    y,
    y_stride,
    heads,
    kv_heads,
    head_dim,
    pages_at,
    rows,
    window,
    cap,
    sinks,
    whole,
    scratch,
    scratch_stride,
    units,
    block,
    units_max,
    finished,
):
    """As attend_coded where keys stay near."""
    share_queries(
        t,
        attend_chunk_coded_values,
        turn_back,
        work,
        workers,
        batch,
        (q, float_bits(cap)),
        ((keys, key_scales, values, value_scales), (near_keys, near_scales, far_values)),
        kv_heads,
        (heads // kv_heads, head_dim, rows, pages_at, window, whole),
        (y, y_stride, sinks),
        scratch + worker * scratch_stride,
        (units, block, units_max, finished),
    )

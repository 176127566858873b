"""Attention over the cache: softmax(q . K) . V per query, in chunks of positions, each key read once for all
queries of a task.

A chunk is CHUNK positions from a multiple of CHUNK on, and lies on one page. Its scores, their top and their
exponentials are computed first; then its weighted sum of values is merged into the running one with the
factors exp(old top - new top) and exp(chunk top - new top), as in FlashAttention (Dao 2023). Chunks come in
ascending order and every query is masked on its own: nothing that lies at positions it does not see, not even
a NaN, gets into its result, and that depends neither on the tile's other queries nor on how a prompt was cut
into passes. `sharing` says who does what. With an INT8 cache both products are integer dots of numbers of 16
bits and signed bytes (`probabilities`), the sums over a chunk's positions are exact, and those of turned
values are turned back at the end. Memory is described in `cache`; scratch in `catalog.Scratch`.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    float_bits,
    floats_each,
    fma_each,
    fma_seen_each,
    load_f32,
    load_values,
    merge_each,
    native,
    no_sums,
    peek_f32,
    prefetch,
    scale_each,
    single,
    store_each,
    tokens,
    value_bytes,
    wide_dots,
    zeros_each,
)

from .activations import ZERO
from .catalog import CHUNK, Scratch
from .probabilities import chunk_probabilities, chunk_weights
from .scratch import scratch_p
from .sharing import share_queries
from .softmax import bounds, cap_scores, chunk_exponentials, merge_chunk, merge_values
from .turn import turn

SCORES, STEP, OUT = Scratch.SCORES, Scratch.STEP, Scratch.OUT
ONE = float32(1.0)
AHEAD = 2048  # bytes that the stream of keys is asked for in advance


# ---- INT8 ----
@native
def key_scores(t, line, scale, value, q, groups):
    """The scores of 16 positions for the tile's queries, in steps of the queries' scales.

    The values of the same positions, as many bytes from `value` on, are asked for meanwhile: their use jumps
    between dimensions, which no prefetcher of a CPU foresees.
    """
    acc = zeros_each(t)
    for g in range(groups):
        for n in range(8):
            prefetch(line + AHEAD + n * 64)
            prefetch(value + n * 64)
        sums = wide_dots(t, no_sums(t), line, q + g * 64, groups * 128)
        acc = scale_each(t, floats_each(t, sums), load_f32(scale), acc)
        line += 512
        value += 512
        scale += 64
    return acc


@native
def chunk_scores(t, cache, q, scores, groups, end):
    """The scores of the chunk's positions up to `end`."""
    keys, key_scales, values = cache
    for n in range(0, end, 16):
        at = n * groups
        acc = key_scores(t, keys + at * 32, key_scales + at * 4, values + at * 32, q, groups)
        store_each(t, scores + n * 4, CHUNK * 4, acc, tokens(t))


@native
def value_sums(t, line, p, steps, blocks, stride):
    """The sums over `blocks` groups of 32 positions of p * value for 16 dimensions, times what each query's
    numbers are worth; lines of a group are `stride` apart. A chunk's are exact: 256 * WIDE_MAX * 127 < 2**31.
    """
    sums = no_sums(t)
    for _ in range(blocks):
        sums = wide_dots(t, sums, line, p, CHUNK * 2)
        line += stride
        p += 64
    return merge_each(t, zeros_each(t), steps, floats_each(t, sums), steps)


@native
def chunk_values(t, values, p, scratch, tile, groups, blocks):
    """The chunk's sums of values, merged into the tile's."""
    for d in range(groups * 2):
        acc = value_sums(t, values + d * 512, p, scratch + STEP, blocks, groups * 1024)
        merge_values(t, scratch, tile + OUT + d * 64, groups * 128, acc)


@native
def attend_chunk_int8(
    t, i, first, last, base, final, start, share, window, query, page, cache, sizes, scratch, tile
):
    """The chunk at `base`, for queries first.. < last of key-value head i, merged into their tile's sums.

    query is where queries lie and what their scores are capped by, 0 where they are not. The cache is where
    its parts lie in the chunk's page, and sizes is (head_dim, rows). Query n sees positions up to
    start + n // share (`batch.reach`); the last one's last is `final`.
    """
    keys, key_scales, values, value_scales = cache
    q, cap = query
    head_dim, rows = sizes
    groups = (head_dim + 31) // 32
    q += (i * rows + first) * groups * 128
    keys += page + i * CHUNK * groups * 32
    key_scales += page + i * CHUNK * groups * 4
    values += page + i * CHUNK * groups * 32
    value_scales += page + i * CHUNK * 4
    scores, p = scratch + SCORES, scratch + scratch_p(t)
    end = (min(CHUNK, final + 1 - base) + 31) // 32 * 32
    alone = last - first == 1
    if alone:
        chunk_scores(single(t), (keys, key_scales, values), q, scores, groups, end)
    else:
        chunk_scores(t, (keys, key_scales, values), q, scores, groups, end)
    low, high = CHUNK, 0
    for n in range(last - first):
        before = low, high
        low, high = bounds(start + (first + n) // share, window, base)
        if before != (low, high):
            chunk_weights(value_scales, low, high, scratch)
        q_scale = peek_f32(q + n * groups * 128 + groups * 64)
        if cap > ZERO:
            cap_scores(scores + n * CHUNK * 4, q_scale, cap, low, high)
            q_scale = ONE
        chunk_probabilities(t, scratch, n, q_scale, low, high, end, p + n * CHUNK * 2)
    merge_chunk(scratch, tile)
    if alone:
        chunk_values(single(t), values, p, scratch, tile, groups, end // 32)
    else:
        chunk_values(t, values, p, scratch, tile, groups, end // 32)


@native
def turn_back(tile, dims, count):
    """The tile's sums of turned values, as they were stored, to sums of values."""
    for n in range(count):
        turn(tile + OUT + n * dims * 4, dims)


@native
def attend_int8(
    t,
    work,
    worker,
    workers,
    batch,
    q,
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
    """y [count, heads, head_dim] from queries, keys and values as `cache.store_int8` lays them out."""
    share_queries(
        t,
        attend_chunk_int8,
        turn_back,
        work,
        workers,
        batch,
        (q, float_bits(cap)),
        (keys, key_scales, values, value_scales),
        kv_heads,
        (heads // kv_heads, head_dim, rows, pages_at, window, whole),
        (y, y_stride, sinks),
        scratch + worker * scratch_stride,
        (units, block, units_max, finished),
    )


# ---- floats ----
@native
def float_sums(t, values, p, dims, all_begin, all_end, begin, end):
    """The sums of p * value over positions begin <= n < end for 16 dimensions.

    All the tile's queries see those from all_begin to all_end. Of the others an exponential is 0 for the
    queries that do not see them, and for no other, as `exp` never is: they are left out.
    """
    acc = zeros_each(t)
    for n in range(begin, all_begin):
        acc = fma_seen_each(t, acc, load_values(t, values + n * dims * value_bytes(t)), p + n * 4, CHUNK * 4)
    for n in range(all_begin, all_end):
        acc = fma_each(t, acc, load_values(t, values + n * dims * value_bytes(t)), p + n * 4, CHUNK * 4)
    for n in range(all_end, end):
        acc = fma_seen_each(t, acc, load_values(t, values + n * dims * value_bytes(t)), p + n * 4, CHUNK * 4)
    return acc


@native
def leave(tile, dims, count):
    """What there is to complete where values are not turned."""


@native
def attend_chunk_float(
    t, i, first, last, base, final, start, share, window, query, page, cache, sizes, scratch, tile
):
    """As attend_chunk_int8 over a cache of floats."""
    q, cap = query
    head_dim, rows = sizes
    dims = (head_dim + 31) // 32 * 32
    q += (i * rows + first) * dims * 4
    keys = page + cache[0] + i * CHUNK * dims * value_bytes(t)
    values = page + cache[1] + i * CHUNK * dims * value_bytes(t)
    scores = scratch + SCORES
    begin, all_end = bounds(start + first // share, window, base)
    all_begin, end = bounds(start + (last - 1) // share, window, base)
    all_begin = min(all_begin, end)
    all_end = max(all_begin, all_end)
    whole = (end + 31) // 32 * 32
    for n in range(0, whole, 16):
        acc = zeros_each(t)
        for d in range(head_dim):
            key = load_values(t, keys + (n * dims + d * 16) * value_bytes(t))
            acc = fma_each(t, acc, key, q + d * 4, dims * 4)
        store_each(t, scores + n * 4, CHUNK * 4, acc, tokens(t))
    for n in range(tokens(t)):
        low, high = bounds(start + min(first + n, last - 1) // share, window, base)
        if cap > ZERO:
            cap_scores(scores + n * CHUNK * 4, ONE, cap, low, high)
        chunk_exponentials(scratch, n, low, high, whole)
    merge_chunk(scratch, tile)
    for d in range(0, dims, 16):
        acc = float_sums(t, values + d * value_bytes(t), scores, dims, all_begin, all_end, begin, end)
        merge_values(t, scratch, tile + OUT + d * 4, dims * 4, acc)


@native
def attend_float(
    t,
    work,
    worker,
    workers,
    batch,
    q,
    keys,
    values,
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
    """As attend_int8 over a cache of floats of the tag's scheme (`cache.store_float`)."""
    share_queries(
        t,
        attend_chunk_float,
        leave,
        work,
        workers,
        batch,
        (q, float_bits(cap)),
        (keys, values),
        kv_heads,
        (heads // kv_heads, head_dim, rows, pages_at, window, whole),
        (y, y_stride, sinks),
        scratch + worker * scratch_stride,
        (units, block, units_max, finished),
    )

"""Attention over the cache: softmax(q . K) . V per query, in chunks of positions, each key read once for a
tile of queries.

A chunk is CHUNK positions from a multiple of CHUNK on. Its scores, their top and their exponentials are
computed first; then its weighted sum of values is merged into the running one with the factors exp(old top
- new top) and exp(chunk top - new top), as in FlashAttention (Dao 2023). Chunks come in ascending order
and every query is masked on its own, so a result depends neither on the tile's other queries nor on how a
prompt was cut into passes. With an INT8 cache the probabilities times the values' scales are quantized per
32 positions like any activation, and both products are integer dots. Memory is described in `cache`;
scratch in `catalog.Scratch`.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    dots_add,
    dots_finish,
    dots_start,
    fetch_add,
    fma_each,
    keep,
    load_each,
    load_f32,
    load_values,
    merge_each,
    native,
    opaque,
    peek_i64,
    poke_f32,
    prefetch,
    scaled_add_each,
    scratch_out,
    scratch_p,
    scratch_p_scale,
    signed_add,
    signed_finish,
    signed_lines,
    signed_start,
    splat_f32,
    step_lines,
    store_each,
    tokens,
    value_bytes,
    zeros_each,
)

from .activations import ZERO, quantize_lines
from .catalog import CHUNK, Scratch, State
from .softmax import bounds, chunk_top, clear_tile, emit_tile, exponentials, merge_chunk

COUNT, POSITION = State.COUNT, State.POSITION
KEPT, ADDED, SCORES = Scratch.KEPT, Scratch.ADDED, Scratch.SCORES
CHUNK_TOP, CHUNK_SUM = Scratch.CHUNK_TOP, Scratch.CHUNK_SUM
AHEAD = 2048  # bytes that the stream of keys is asked for in advance
WORK_ROWS = 32  # queries that a worker takes at a time


# ---- INT8 ----
@native
def key_scores(t, line, scale, value, q, q_scale, q_sum, groups):
    """The scores of 16 positions for the tile's queries.

    The values of the same positions, as many bytes from `value` on, are asked for meanwhile: their use jumps
    between dimensions, which no prefetcher of a CPU foresees.
    """
    acc = zeros_each(t)
    for _ in range(groups):
        dots = dots_start(t, q_sum, groups * 4)
        for _ in range(opaque(8 // step_lines(t))):  # unrolled, its lines would not fit in registers
            for n in range(step_lines(t)):
                prefetch(line + AHEAD + n * 64)
                prefetch(value + n * 64)
            dots = dots_add(t, dots, line, q, groups * 32)
            line += step_lines(t) * 64
            value += step_lines(t) * 64
            q += step_lines(t) * 4
        acc = scaled_add_each(
            t, acc, dots_finish(t, dots, q_sum, groups * 4), load_f32(scale), q_scale, groups * 4
        )
        scale += 64
        q_scale += 4
        q_sum += 4
    return acc


@native
def value_sums(t, line, p, p_scale, blocks, stride):
    """The sums over `blocks` groups of 32 positions of p * value for 16 dimensions; lines of a group are
    `stride` apart.
    """
    acc = zeros_each(t)
    one = splat_f32(float32(1.0))
    for _ in range(blocks):
        sums = signed_start(t)
        for i in range(opaque(8 // signed_lines(t))):
            sums = signed_add(t, sums, line + i * (signed_lines(t) * 64), p, CHUNK)
            p += signed_lines(t) * 4
        acc = scaled_add_each(t, acc, signed_finish(t, sums), one, p_scale, CHUNK // 8)
        line += stride
        p_scale += 4
    return acc


@native
def probabilities_int8(scores, value_scale, low, high, p, p_scale, end):
    """exp(score - top) * the position's value scale, quantized per 32 positions.

    Masked again: the scale of a position that is not seen may be anything, and 0 * infinity is no number.
    """
    for i in range(0, end, 32):
        a = load_f32(scores + i * 4) * load_f32(value_scale + i * 4)
        b = load_f32(scores + i * 4 + 64) * load_f32(value_scale + i * 4 + 64)
        if i < low or i + 32 > high:
            a = keep(a, low - i, high - i, ZERO)
            b = keep(b, low - i - 16, high - i - 16, ZERO)
        quantize_lines(a, b, p + i, p_scale + i // 8)


@native
def attend_tile_int8(
    t,
    first,
    last,
    start,
    share,
    q,
    q_scale,
    q_sum,
    keys,
    key_scales,
    values,
    value_scales,
    head_dim,
    window,
    scratch,
):
    """Attention of queries first.. < last of one key-value head, left in scratch."""
    groups = (head_dim + 31) // 32
    scores, out, p = scratch + SCORES, scratch + scratch_out(t), scratch + scratch_p(t)
    p_scale = scratch + scratch_p_scale(t)
    clear_tile(t, scratch, out, groups * 32)
    final = start + (last - 1) // share
    chunk = 0
    if window > 0:
        chunk = max(0, start + first // share - window + 1) // CHUNK
    at = first * groups
    while chunk * CHUNK <= final:
        base = chunk * CHUNK
        end = (min(CHUNK, final + 1 - base) + 31) // 32 * 32
        for i in range(0, end, 16):
            tile = (base + i) // 16 * groups
            acc = key_scores(
                t,
                keys + tile * 512,
                key_scales + tile * 64,
                values + tile * 512,
                q + at * 32,
                q_scale + at * 4,
                q_sum + at * 4,
                groups,
            )
            store_each(t, scores + i * 4, CHUNK * 4, acc)
        for n in range(tokens(t)):
            low, high = bounds(start + min(first + n, last - 1) // share, window, base)
            mine = scores + n * CHUNK * 4
            top = chunk_top(mine, low, high)
            poke_f32(scratch + CHUNK_TOP + n * 4, top)
            poke_f32(scratch + CHUNK_SUM + n * 4, exponentials(mine, top, low, high, end))
            probabilities_int8(
                mine,
                value_scales + base * 4,
                low,
                high,
                p + n * CHUNK,
                p_scale + n * CHUNK // 8,
                end,
            )
        merge_chunk(scratch)
        for d in range(groups * 2):
            line = values + (base // 32 * groups * 2 + d) * 512
            acc = value_sums(t, line, p, p_scale, end // 32, groups * 1024)
            to = out + d * 64
            old = load_each(t, to, groups * 128)
            store_each(t, to, groups * 128, merge_each(t, old, scratch + KEPT, acc, scratch + ADDED))
        chunk += 1


@native
def attend_int8(
    t,
    work,
    worker,
    workers,
    state,
    q,
    q_scale,
    q_sum,
    keys,
    key_scales,
    values,
    value_scales,
    y,
    y_stride,
    heads,
    kv_heads,
    head_dim,
    capacity,
    rows,
    window,
    scratch,
    scratch_stride,
):
    """y [count, heads, head_dim] from queries, keys and values as `cache.store_int8` lays them out."""
    share = heads // kv_heads
    total = peek_i64(state + COUNT) * share
    start = peek_i64(state + POSITION)
    groups = (head_dim + 31) // 32
    parts = (total + WORK_ROWS - 1) // WORK_ROWS
    scratch += worker * scratch_stride
    while True:
        task = fetch_add(work, 1)
        if task >= parts * kv_heads:
            break
        i = task // parts
        begin = (task % parts) * WORK_ROWS
        stop = min(begin + WORK_ROWS, total)
        size = capacity * groups
        for first in range(begin, stop, tokens(t)):
            last = min(first + tokens(t), stop)
            at = i * rows * groups
            attend_tile_int8(
                t,
                first,
                last,
                start,
                share,
                q + at * 32,
                q_scale + at * 4,
                q_sum + at * 4,
                keys + i * size * 32,
                key_scales + i * size * 4,
                values + i * size * 32,
                value_scales + i * capacity * 4,
                head_dim,
                window,
                scratch,
            )
            emit_tile(
                scratch,
                scratch + scratch_out(t),
                groups * 32,
                y,
                y_stride,
                first,
                last,
                i * share,
                share,
                head_dim,
            )


# ---- floats ----
@native
def attend_tile_float(t, first, last, start, share, q, keys, values, head_dim, window, scratch):
    """As attend_tile_int8 over a cache of floats."""
    dims = (head_dim + 31) // 32 * 32
    size = value_bytes(t)
    scores, out = scratch + SCORES, scratch + scratch_out(t)
    clear_tile(t, scratch, out, dims)
    final = start + (last - 1) // share
    chunk = 0
    if window > 0:
        chunk = max(0, start + first // share - window + 1) // CHUNK
    while chunk * CHUNK <= final:
        base = chunk * CHUNK
        end = (min(CHUNK, final + 1 - base) + 31) // 32 * 32
        for i in range(0, end, 16):
            acc = zeros_each(t)
            for d in range(head_dim):
                acc = fma_each(
                    t,
                    acc,
                    load_values(t, keys + ((base + i) * dims + d * 16) * size),
                    q + (first * dims + d) * 4,
                    dims * 4,
                )
            store_each(t, scores + i * 4, CHUNK * 4, acc)
        for n in range(tokens(t)):
            low, high = bounds(start + min(first + n, last - 1) // share, window, base)
            mine = scores + n * CHUNK * 4
            top = chunk_top(mine, low, high)
            poke_f32(scratch + CHUNK_TOP + n * 4, top)
            poke_f32(scratch + CHUNK_SUM + n * 4, exponentials(mine, top, low, high, end))
        merge_chunk(scratch)
        for d in range(0, dims, 16):
            acc = zeros_each(t)
            for i in range(min(CHUNK, final + 1 - base)):
                acc = fma_each(
                    t,
                    acc,
                    load_values(t, values + ((base + i) * dims + d) * size),
                    scores + i * 4,
                    CHUNK * 4,
                )
            old = load_each(t, out + d * 4, dims * 4)
            store_each(t, out + d * 4, dims * 4, merge_each(t, old, scratch + KEPT, acc, scratch + ADDED))
        chunk += 1


@native
def attend_float(
    t,
    work,
    worker,
    workers,
    state,
    q,
    keys,
    values,
    y,
    y_stride,
    heads,
    kv_heads,
    head_dim,
    capacity,
    rows,
    window,
    scratch,
    scratch_stride,
):
    """As attend_int8 over a cache of floats of the tag's scheme (`cache.store_float`)."""
    share = heads // kv_heads
    total = peek_i64(state + COUNT) * share
    start = peek_i64(state + POSITION)
    dims = (head_dim + 31) // 32 * 32
    parts = (total + WORK_ROWS - 1) // WORK_ROWS
    scratch += worker * scratch_stride
    while True:
        task = fetch_add(work, 1)
        if task >= parts * kv_heads:
            break
        i = task // parts
        begin = (task % parts) * WORK_ROWS
        stop = min(begin + WORK_ROWS, total)
        size = capacity * dims * value_bytes(t)
        for first in range(begin, stop, tokens(t)):
            last = min(first + tokens(t), stop)
            attend_tile_float(
                t,
                first,
                last,
                start,
                share,
                q + i * rows * dims * 4,
                keys + i * size,
                values + i * size,
                head_dim,
                window,
                scratch,
            )
            emit_tile(
                scratch,
                scratch + scratch_out(t),
                dims,
                y,
                y_stride,
                first,
                last,
                i * share,
                share,
                head_dim,
            )

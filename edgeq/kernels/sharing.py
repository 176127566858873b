"""How attention is shared among workers: by blocks of queries, and where these are few by chunks too.

A task is a block of one key-value head (`batch`). Where the tasks are enough for all workers, each is done by
one: all its tiles are done with a chunk, which the first of them brought near, before the next is touched.
Else a unit of work is one chunk of a task, merged into tiles of its own, and whoever finishes the last unit
of a task merges them all. A chunk's sums do not depend on other chunks, and they are merged in ascending
order either way: the bits are the same.
"""

from __future__ import annotations

from edgeq.simd.verbs import exchange, fetch_add, native, peek_i64, tokens

from .batch import block_at, blocks_in, page_of, reach
from .catalog import CHUNK, TASKS, Batch, Scratch
from .scratch import scratch_tiles
from .softmax import clear_tile, emit_tile, first_chunk, merge_tile

OUT, OWN_PAGES = Scratch.OUT, Batch.OWN_PAGES


@native
def tile_bytes(t, dims):
    """Of what a tile's queries have so far."""
    return OUT + tokens(t) * dims * 4


@native
def clear_tiles(t, tile, dims, begin, stop):
    """Nothing so far, for queries begin.. < stop."""
    for _ in range(begin, stop, tokens(t)):
        clear_tile(t, tile, dims)
        tile += tile_bytes(t, dims)


@native
def sees(t, first, stop, base, zero, each, window):
    """Whether one of the queries of the tile from `first` on sees something of the chunk at `base`."""
    final = zero + (min(first + tokens(t), stop) - 1) // each
    return first_chunk(zero + first // each, window) <= base and base <= final


@native
def attend_tiles(t, attend_chunk, i, segment, begin, stop, base, query, cache, shape, scratch, tile):
    """Merge the chunk at `base` into the tiles of queries begin.. < stop of key-value head i."""
    share, head_dim, rows, pages_at, window, whole = shape
    zero, each = reach(segment, share, whole)
    page = page_of(peek_i64(segment + OWN_PAGES) + pages_at, base)
    for first in range(begin, stop, tokens(t)):
        last = min(first + tokens(t), stop)
        if sees(t, first, stop, base, zero, each, window):
            final = zero + (last - 1) // each
            attend_chunk(
                t,
                i,
                first,
                last,
                base,
                final,
                zero,
                each,
                window,
                query,
                page,
                cache,
                (head_dim, rows),
                scratch,
                tile,
            )
        tile += tile_bytes(t, (head_dim + 31) // 32 * 32)


@native
def finish_tiles(t, complete, i, begin, stop, shape, output, tile):
    """Their results, from what came of all chunks, to their places in y."""
    share, head_dim = shape[0], shape[1]
    y, y_stride, sinks = output
    dims = (head_dim + 31) // 32 * 32
    for first in range(begin, stop, tokens(t)):
        last = min(first + tokens(t), stop)
        complete(tile, dims, last - first)
        emit_tile(tile, dims, y, y_stride, sinks, first, last, i * share, share, head_dim)
        tile += tile_bytes(t, dims)


@native
def chunks_of(segment, begin, stop, share, window, whole):
    """Where the first chunk begins that one of the queries sees something of, and how many there are."""
    zero, each = reach(segment, share, whole)
    base = first_chunk(zero + begin // each, window)
    return base, (zero + (stop - 1) // each - base) // CHUNK + 1


@native
def units_of(batch, blocks, share, window, whole):
    """Chunks that the queries of a key-value head are attended in, those of each block counted."""
    total = 0
    for n in range(blocks):
        segment, begin, stop = block_at(batch, share, n)
        total += chunks_of(segment, begin, stop, share, window, whole)[1]
    return total


@native
def task_of(batch, blocks, share, window, whole, n):
    """The task of the n-th unit, and the number of the task's first."""
    task, first = 0, 0
    while True:
        segment, begin, stop = block_at(batch, share, task % blocks)
        after = first + chunks_of(segment, begin, stop, share, window, whole)[1]
        if n < after:
            return task, first
        task, first = task + 1, after


@native
def merge_units(t, segment, begin, stop, shape, scratch, tiles, unit, block):
    """Merge what came of a task's chunks, whose tiles lie from `unit` on, so many bytes apart."""
    share, window, whole = shape[0], shape[4], shape[5]
    dims = (shape[1] + 31) // 32 * 32
    zero, each = reach(segment, share, whole)
    clear_tiles(t, tiles, dims, begin, stop)
    base, count = chunks_of(segment, begin, stop, share, window, whole)
    for _ in range(count):
        offset = 0
        for first in range(begin, stop, tokens(t)):
            if sees(t, first, stop, base, zero, each, window):
                merge_tile(t, scratch, tiles + offset, unit + offset, dims)
            offset += tile_bytes(t, dims)
        base += CHUNK
        unit += block


@native
def share_queries(
    t, attend_chunk, complete, work, workers, batch, query, cache, kv_heads, shape, output, scratch, room
):
    """Attention of all queries of the pass, in tasks or units that workers take from `work`.

    attend_chunk (as attend_chunk_int8) handles a tile, and complete (as turn_back) what came of all chunks;
    query and cache are handed on. shape is (queries that share a head, head_dim, rows, pages_at, window, not
    0 where queries see all of their segment), output (y, y_stride, sinks) as `emit_tile` has them, scratch
    the worker's own. room is where units lie, their bytes and how many there is room for, and counters of the
    units that each task has finished, zeros before and after.
    """
    share, window, whole = shape[0], shape[4], shape[5]
    dims = (shape[1] + 31) // 32 * 32
    units, block, most, finished = room
    blocks = blocks_in(batch, share)
    tasks = blocks * kv_heads
    total = units_of(batch, blocks, share, window, whole) * kv_heads if tasks < TASKS * workers else tasks
    apart = tasks < total and total <= most  # a task's chunks
    own = scratch + scratch_tiles(t)
    while True:
        n = fetch_add(work, 1)
        if n >= (total if apart else tasks):
            break
        task, unit = n, n
        if apart:
            task, unit = task_of(batch, blocks, share, window, whole, n)
        i = task // blocks
        segment, begin, stop = block_at(batch, share, task % blocks)
        base, chunks = chunks_of(segment, begin, stop, share, window, whole)
        tiles, count = own, chunks
        if apart:
            tiles, count = units + n * block, 1
            base += (n - unit) * CHUNK
        clear_tiles(t, tiles, dims, begin, stop)
        for _ in range(count):
            attend_tiles(t, attend_chunk, i, segment, begin, stop, base, query, cache, shape, scratch, tiles)
            base += CHUNK
        if apart:
            if fetch_add(finished + task * 8, 1) < chunks - 1:
                continue
            exchange(finished + task * 8, 0)  # for the next pass
            merge_units(t, segment, begin, stop, shape, scratch, own, units + unit * block, block)
        finish_tiles(t, complete, i, begin, stop, shape, output, own)

"""The product of quantized weights and int8 activations: y[n, rows] = W . x[n].

Memory of W (layout lines16): the parts of its scheme, one after another (`formats.schemes`), each
[tiles][what a tile has]. Activations: x int8 [count, groups * 32], x_scale float32 [count, groups] and x_sum
int16 [count, groups, 2], the sums of each half of a group. One tile of 16 rows serves up to `tokens(t)`
tokens from registers. Columns that share a scale on both sides, `group(t)` of them, are added up as integers;
these sums are added in ascending order with one fma each, whatever the tile, and one more where the scheme
has a min, so a token's result does not depend on its neighbours. What a row has a float for is multiplied by
it once, at the end.
"""

from __future__ import annotations

from edgeq.simd.verbs import (
    add_each,
    add_group_each,
    called,
    fetch_add,
    group,
    group_parts,
    half,
    load_each,
    load_f32,
    native,
    peek_i64,
    prefetch_group,
    row_floats,
    single,
    store_each,
    stored,
    streams,
    sum_each,
    tile_parts,
    times_each,
    tokens,
    unpacked,
    unpacking,
    unpacks_once,
    with_room,
    zeros_each,
)

from .catalog import GROUP, TILE

ROWS = 64  # bytes of 16 float32 results
AHEAD = 2048  # bytes that the stream of weights is asked for in advance
FEW = 8  # tiles of tokens for which it does not pay to put unpacked codes by
BLOCK = 192 << 10  # bytes of activations that stay in the second-level cache beside a tile of weights


@native
def tile_product(t, parts, x, x_scale, x_sum, groups):
    """The bundle of float32 sums of one tile, which the rows' floats are not in: 16 rows for each token."""
    acc = zeros_each(t)
    x_stride = groups * GROUP
    g_stride = groups * 4
    for g in range(groups * (GROUP // group(t))):
        w = group_parts(t, parts, g)
        if streams(t):
            prefetch_group(t, w, AHEAD)
        scale = x_scale + g // (GROUP // group(t)) * 4
        acc = add_group_each(t, acc, w, x, x_stride, scale, x_sum, g_stride)
        x += group(t)
        x_sum += group(t) // 8
    return acc


@native
def finish_tile(t, acc, floats, bias, add, y, y_stride, count):
    """Multiply by the rows' floats, add the bias (address or 0), add to what stands in y where `add`, and
    store the first `count` rows.
    """
    acc = times_each(t, acc, floats)
    if bias != 0:
        acc = add_each(t, acc, load_f32(bias))
    if add != 0:
        acc = sum_each(t, load_each(t, y, y_stride, count), acc)
    store_each(t, y, y_stride, acc, count)


@called
def tile_tokens(t, first, count, tile, w, x, bias, add, y, y_stride):
    """One tile of rows for `count` tokens from `first` on, as many as the tag holds or fewer. w is (weights,
    tiles, groups, room for what a tile has unpacked) and x (x, x_scale, x_sum).
    """
    weights, tiles, groups, room = w
    skip = first * groups
    lines = room + groups * (GROUP * TILE)
    parts = with_room(t, tile_parts(t, weights, tiles, groups * GROUP, tile), room, lines)
    acc = tile_product(t, parts, x[0] + skip * GROUP, x[1] + skip * 4, x[2] + skip * 4, groups)
    finish_tile(stored(t), acc, row_floats(t, parts), bias, add, y + first * y_stride, y_stride, count)


@native
def each_tile(t, product, low, high, tile, w, x, bias, add, y, y_stride):
    """`product` (as tile_tokens) of one tile of rows for tokens low <= n < high. Two and more that are left
    over take a full tile, or half of one, which reads rows beyond the last and stores none of what comes of
    them; one has its own.
    """
    n = low
    while n + 1 < high:
        if tokens(half(t)) < tokens(t) and high - n <= tokens(half(t)):
            product(half(t), n, high - n, tile, w, x, bias, add, y, y_stride)
            return
        product(t, n, min(tokens(t), high - n), tile, w, x, bias, add, y, y_stride)
        n += tokens(t)
    if n < high:
        product(single(t), n, 1, tile, w, x, bias, add, y, y_stride)


@native
def unpack_once(t, product, low, high, tile, w, x, bias, add, y, y_stride):
    """As each_tile; the first of many tiles of tokens leaves the rows' codes unpacked for the others."""
    n = low
    if unpacks_once(t) and high - low > FEW * tokens(t):
        product(unpacking(t), n, tokens(t), tile, w, x, bias, add, y, y_stride)
        n += tokens(t)
        while n + 1 < high:
            product(unpacked(t), n, min(tokens(t), high - n), tile, w, x, bias, add, y, y_stride)
            n += tokens(t)
    each_tile(t, product, n, high, tile, w, x, bias, add, y, y_stride)


@native
def chunk_start(i, tiles, workers):
    """The first tile of chunk i, and so the end of the one before; `tiles` from where there are no more.

    Half of what is left goes out to the workers in equal chunks, then half of the rest, and so on down to
    chunks of a sixteenth of a worker's share: long streams of weights first, little to wait for at the end
    ("factoring", Hummel, Schonberg and Flynn 1992).
    """
    least = max(1, tiles // (workers * 16))
    left = tiles
    size = max(least, left // (workers * 2))
    while i >= workers and left > 0:
        i -= workers
        left -= size * workers
        size = max(least, left // (workers * 2))
    return min(tiles, tiles - left + i * size)


@native
def share_tiles(t, block, product, work, workers, count, tiles, w, x, x_bytes, bias, add, y, y_stride):
    """Run `product` (as tile_tokens) over all tiles and tokens, in chunks that workers take from `work`.

    w and x are handed on; x_bytes is what a token's activations take. Tokens go in blocks whose activations
    stay in the cache, and a tile serves all of a block, as `block` (each_tile or the like) says; the blocks
    of a chunk come one after another, so that its weights are still near.
    """
    at_once = max(1, BLOCK // (x_bytes * tokens(t))) * tokens(t)
    blocks = max(1, (count + at_once - 1) // at_once)
    while True:
        task = fetch_add(work, 1)
        first = chunk_start(task // blocks, tiles, workers)
        if first >= tiles:
            break
        end = chunk_start(task // blocks + 1, tiles, workers)
        low = (task % blocks) * at_once
        high = min(low + at_once, count)
        for tile in range(first, end):
            out = y + tile * ROWS
            row_bias = bias + tile * ROWS if bias != 0 else 0
            block(t, product, low, high, tile, w, x, row_bias, add, out, y_stride)


@native
def matmul(
    t,
    work,
    worker,
    workers,
    batch,
    x,
    x_scale,
    x_sum,
    weights,
    bias,
    y,
    y_stride,
    tiles,
    groups,
    add,
    count_at,
    scratch,
    scratch_stride,
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add) for as many tokens as the batch's word at count_at says."""
    share_tiles(
        t,
        unpack_once,
        tile_tokens,
        work,
        workers,
        peek_i64(batch + count_at),
        tiles,
        (weights, tiles, groups, scratch + worker * scratch_stride),
        (x, x_scale, x_sum),
        groups * GROUP,
        bias,
        add,
        y,
        y_stride,
    )

"""The product of quantized weights and int8 activations: y[n, rows] = W . x[n], with the zero point folded
in.

Memory of W (layout lines16): codes [tiles][groups][lines][64 bytes], scales [tiles][groups][16] float16.
Activations: x int8 [count, groups * group], x_scale float32 and x_sum int32 [count, groups]. One tile of
16 rows serves up to `tokens(t)` tokens from registers; groups are added in ascending order with one fma
each, whatever the tile, so a token's result does not depend on its neighbours.
"""

from __future__ import annotations

from edgeq.simd.verbs import (
    add_each,
    dots_add,
    dots_finish,
    dots_start,
    fetch_add,
    group,
    lines,
    load_each,
    load_f16,
    load_f32,
    native,
    opaque,
    peek_i64,
    planes,
    prefetch,
    scaled_add_each,
    single,
    step_lines,
    store_each,
    sum_each,
    tokens,
    zeros_each,
)

LINE = 64  # bytes of a line
ROWS = 64  # bytes of 16 float32 results
AHEAD = 2048  # bytes that a single token's stream of weights is asked for in advance
BLOCK = 192 << 10  # bytes of activations that stay in the second-level cache beside a tile of weights


@native
def tile_product(t, line, scale, x, x_scale, x_sum, groups):
    """The bundle of float32 sums of one tile: 16 rows for each of the tile's tokens."""
    acc = zeros_each(t)
    x_stride = groups * group(t)
    g_stride = groups * 4
    for _ in range(groups):
        dots = dots_start(t, x_sum, g_stride)
        for _ in range(opaque(lines(t) // step_lines(t))):  # unrolled, a group would not fit in registers
            if tokens(t) == 1:
                for n in range(step_lines(t)):
                    prefetch(line + AHEAD + n * LINE)
            dots = dots_add(t, dots, line, x, x_stride)
            line += step_lines(t) * LINE
            x += step_lines(t) * planes(t) * 4
        acc = scaled_add_each(
            t, acc, dots_finish(t, dots, x_sum, g_stride), load_f16(t, scale), x_scale, g_stride
        )
        scale += 32
        x_scale += 4
        x_sum += 4
    return acc


@native
def finish_tile(t, acc, bias, add, y, y_stride):
    """Add the bias (address or 0), add to what stands in y where `add`, and store."""
    if bias != 0:
        acc = add_each(t, acc, load_f32(bias))
    if add != 0:
        acc = sum_each(t, load_each(t, y, y_stride), acc)
    store_each(t, y, y_stride, acc)


@native
def tile_tokens(t, first, line, scale, x, groups, bias, add, y, y_stride):
    """One tile of rows for the tokens from `first` on that the tag holds; x is (x, x_scale, x_sum)."""
    skip = first * groups
    acc = tile_product(t, line, scale, x[0] + skip * group(t), x[1] + skip * 4, x[2] + skip * 4, groups)
    finish_tile(t, acc, bias, add, y + first * y_stride, y_stride)


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
def share_tiles(
    t,
    product,
    work,
    workers,
    count,
    tiles,
    line,
    tile_bytes,
    scale,
    scale_bytes,
    x,
    x_bytes,
    width,
    bias,
    add,
    y,
    y_stride,
):
    """Run `product` (as tile_tokens) over all tiles and tokens, in chunks that workers take from `work`.

    line and scale are where the first tile lies, tile_bytes and scale_bytes what a tile takes, x_bytes what a
    token's activations take; x and width are handed on. Tokens go in blocks whose activations stay in the
    cache, and a tile serves all of a block; the blocks of a chunk come one after another, so that its weights
    are still near.
    """
    at_once = max(1, BLOCK // (x_bytes * tokens(t))) * tokens(t)
    blocks = max(1, (count + at_once - 1) // at_once)
    one = single(t)
    while True:
        task = fetch_add(work, 1)
        first = chunk_start(task // blocks, tiles, workers)
        if first >= tiles:
            break
        end = chunk_start(task // blocks + 1, tiles, workers)
        low = (task % blocks) * at_once
        high = min(low + at_once, count)
        for tile in range(first, end):
            at, scale_at, out = line + tile * tile_bytes, scale + tile * scale_bytes, y + tile * ROWS
            row_bias = bias + tile * ROWS if bias != 0 else 0
            n = low
            while n + tokens(t) <= high:
                product(t, n, at, scale_at, x, width, row_bias, add, out, y_stride)
                n += tokens(t)
            while n < high:
                product(one, n, at, scale_at, x, width, row_bias, add, out, y_stride)
                n += 1


@native
def matmul(
    t,
    work,
    worker,
    workers,
    state,
    x,
    x_scale,
    x_sum,
    weights,
    scales,
    bias,
    y,
    y_stride,
    tiles,
    groups,
    add,
    count_at,
):
    """y[n] = W . x[n] (+ bias) (+ y[n] where add) for as many tokens as the state's word at count_at says."""
    share_tiles(
        t,
        tile_tokens,
        work,
        workers,
        peek_i64(state + count_at),
        tiles,
        weights,
        groups * lines(t) * LINE,
        scales,
        groups * 32,
        (x, x_scale, x_sum),
        groups * group(t),
        groups,
        bias,
        add,
        y,
        y_stride,
    )

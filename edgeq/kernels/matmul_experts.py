"""Products with the matrices of experts: they lie one after another in one matrix, in whole tiles, and each
serves its own slots (`experts`). What no token was sent to is not read.
"""

from __future__ import annotations

from edgeq.simd.verbs import fetch_add, native, peek_i32

from .catalog import TILE
from .matmul import ROWS, each_tile, tile_tokens, unpack_once
from .matmul_float import act_tokens, float_tokens

SHARES = 2  # pieces of an expert for each worker, so that few experts keep all of them busy


@native
def start_of(ends, e):
    """The first slot of expert e."""
    return peek_i32(ends + (e - 1) * 4) if e > 0 else 0


@native
def active(ends, experts, n):
    """The n-th expert that has slots, `experts` where there are not so many."""
    for e in range(experts):
        if start_of(ends, e) < peek_i32(ends + e * 4):
            if n == 0:
                return e
            n -= 1
    return experts


@native
def share_experts(t, block, product, work, workers, ends, experts, tiles_each, w, x, bias, y, y_stride):
    """Run `product` (as tile_tokens) over the tiles of all experts that have slots and those slots, in pieces
    that workers take from `work`; w and x are handed on.
    """
    pieces = min(tiles_each, SHARES * workers)
    while True:
        n = fetch_add(work, 1)
        e = active(ends, experts, n // pieces)
        if e >= experts:
            break
        low, high = start_of(ends, e), peek_i32(ends + e * 4)
        piece = n % pieces
        for tile in range(piece * tiles_each // pieces, (piece + 1) * tiles_each // pieces):
            whole = e * tiles_each + tile
            row_bias = bias + whole * ROWS if bias != 0 else 0
            block(t, product, low, high, whole, w, x, row_bias, 0, y + tile * ROWS, y_stride)


@native
def matmul_experts(
    t,
    work,
    worker,
    workers,
    batch,
    x,
    x_scale,
    x_sum,
    picked,
    weights,
    bias,
    y,
    y_stride,
    tiles,
    width,
    groups,
    ends,
    experts,
    scratch,
    scratch_stride,
):
    """y[slot] = W_e . x[slot] (+ bias_e) for the expert e of each slot."""
    share_experts(
        t,
        unpack_once,
        tile_tokens,
        work,
        workers,
        ends,
        experts,
        width // TILE,
        (weights, tiles, groups, scratch + worker * scratch_stride),
        (x, x_scale, x_sum),
        bias,
        y,
        y_stride,
    )


@native
def matmul_experts_float(
    t,
    work,
    worker,
    workers,
    batch,
    x,
    x_stride,
    picked,
    weights,
    bias,
    y,
    y_stride,
    tiles,
    width,
    columns,
    ends,
    experts,
):
    """The same of float32 slots, W stored as floats."""
    share_experts(
        t,
        each_tile,
        float_tokens,
        work,
        workers,
        ends,
        experts,
        width // TILE,
        (weights, tiles, columns),
        (x, x_stride),
        bias,
        y,
        y_stride,
    )


@native
def matmul_experts_act(
    t,
    work,
    worker,
    workers,
    batch,
    x,
    x_stride,
    picked,
    weights,
    bias,
    y,
    y_stride,
    tiles,
    width,
    columns,
    ends,
    experts,
):
    """The same of float32 slots, W stored as codes."""
    share_experts(
        t,
        each_tile,
        act_tokens,
        work,
        workers,
        ends,
        experts,
        width // TILE,
        (weights, tiles, columns),
        (x, x_stride),
        bias,
        y,
        y_stride,
    )

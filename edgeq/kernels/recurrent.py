"""Recurrent layers: convolutions over the last tokens, and the gated delta rule (Yang et al. 2024).

What is kept of a sequence is read where it stands before the pass, and written where it is to stand behind
it (`batch.states_of`). Each column, or column of a matrix, is one sum in the order of the tokens, whoever
computes it, so that the bits are the same however a text was cut. Columns are in lines of 16; those behind
the last one are kept as zeros.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    fetch_add,
    float_bits,
    fma,
    keep,
    load_f32,
    native,
    peek_f32,
    peek_i64,
    splat_f32,
    store_f32,
)

from . import mathematics
from .batch import FIRST, LENGTH, SEGMENTS, segment_of, states_of
from .catalog import Batch

COUNT = Batch.COUNT
ZERO = float32(0.0)
PIECE = 256  # columns that a worker takes at a time: whole lines


@native
def gate_in(a, i, dim):
    """Of rows [3, dim] the first times the last."""
    return load_f32(a + i * 4) * load_f32(a + (2 * dim + i) * 4)


@native
def gate_out(a, i, dim, total):
    """Times the one in the middle."""
    return load_f32(a + (dim + i) * 4) * total


@native
def as_it_is(a, i, dim):
    return load_f32(a + i * 4)


@native
def silu_out(a, i, dim, total):
    return mathematics.silu(total)


def convolution(entering, leaving):
    """The kernel of leaving(bias + the sum of taps[j] * entering(row n + j - kept) over `reach` rows j)."""

    @native
    def at(rows, a_stride, old, size, m, i, dim, kept):
        """What enters at row m of the segment; before its first one what the state has, or zeros."""
        line = splat_f32(ZERO)
        if m >= 0:
            line = entering(rows + m * a_stride, i, dim)
        elif old != 0:
            line = load_f32(old + (m + kept) * size + i * 4)
        return keep(line, 0, dim - i, ZERO)

    @native
    def convolve(
        t,
        work,
        worker,
        workers,
        batch,
        a,
        a_stride,
        taps,
        bias,
        state,
        y,
        y_stride,
        dim,
        reach,
        kept,
        lines,
    ):
        pieces = (dim + PIECE - 1) // PIECE
        size = lines * 64
        count = peek_i64(batch + SEGMENTS) * pieces
        while True:
            task = fetch_add(work, 1)
            if task >= count:
                break
            segment = segment_of(batch, task // pieces)
            old, new = states_of(segment, state)
            first, length = peek_i64(segment + FIRST), peek_i64(segment + LENGTH)
            rows = a + first * a_stride
            begin = task % pieces * PIECE
            for i in range(begin, min(begin + PIECE, dim), 16):
                start = splat_f32(ZERO)
                if bias != 0:
                    start = load_f32(bias + i * 4)
                for n in range(length):
                    total = start
                    for j in range(reach):
                        line = at(rows, a_stride, old, size, n + j - kept, i, dim, kept)
                        total = fma(load_f32(taps + j * size + i * 4), line, total)
                    result = leaving(rows + n * a_stride, i, dim, total)
                    store_f32(y + (first + n) * y_stride + i * 4, keep(result, 0, dim - i, ZERO))
                for j in range(kept):
                    line = at(rows, a_stride, old, size, length + j - kept, i, dim, kept)
                    store_f32(new + j * size + i * 4, line)

    return convolve


short_conv = convolution(gate_in, gate_out)
conv_silu = convolution(as_it_is, silu_out)


@native
def sigmoid(t, work, worker, workers, batch, x, x_stride, dim):
    """1 / (1 + exp(-x)) of every row of x, in place."""
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for i in range(0, dim, 16):
            p = x + n * x_stride + i * 4
            store_f32(p, keep(mathematics.sigmoid(load_f32(p)), 0, dim - i, ZERO))


@native
def decay(t, work, worker, workers, batch, x, x_stride, slope, bias, dim):
    """exp(slope * log(1 + exp(x + bias))) of every row of x, in place."""
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for i in range(0, dim, 16):
            p = x + n * x_stride + i * 4
            rate = load_f32(slope + i * 4) * mathematics.softplus(load_f32(p) + load_f32(bias + i * 4))
            store_f32(p, keep(mathematics.exp(rate), 0, dim - i, ZERO))


# ---- the gated delta rule: a matrix [key_dim, value_dim] for each head, as tiles of 16 columns ----
@native
def clear(tile, nbytes):
    for i in range(0, nbytes, 64):
        store_f32(tile + i, splat_f32(ZERO))


@native
def step(old, new, q, k, v, forget, write, scaling, key_dim, y):
    """One token of one tile: S is forgotten, then k (v - S k) is added; y is S q."""
    recalled = splat_f32(ZERO)
    for d in range(key_dim):
        recalled = fma(splat_f32(peek_f32(k + d * 4)), load_f32(old + d * 64), recalled)
    delta = (load_f32(v) - forget * recalled) * write
    total = splat_f32(ZERO)
    for d in range(key_dim):
        s = fma(splat_f32(peek_f32(k + d * 4)), delta, load_f32(old + d * 64) * forget)
        store_f32(new + d * 64, s)
        total = fma(splat_f32(peek_f32(q + d * 4)), s, total)
    store_f32(y, total * scaling)


@native
def step_four(old, new, q, k, v, forget, write, scaling, key_dim, y):
    """The same of four tiles, one after another: four sums hide what one waits for."""
    tile = key_dim * 64
    r0, r1, r2, r3 = splat_f32(ZERO), splat_f32(ZERO), splat_f32(ZERO), splat_f32(ZERO)
    for d in range(key_dim):
        p, key = old + d * 64, splat_f32(peek_f32(k + d * 4))
        r0 = fma(key, load_f32(p), r0)
        r1 = fma(key, load_f32(p + tile), r1)
        r2 = fma(key, load_f32(p + 2 * tile), r2)
        r3 = fma(key, load_f32(p + 3 * tile), r3)
    d0 = (load_f32(v) - forget * r0) * write
    d1 = (load_f32(v + 64) - forget * r1) * write
    d2 = (load_f32(v + 128) - forget * r2) * write
    d3 = (load_f32(v + 192) - forget * r3) * write
    t0, t1, t2, t3 = splat_f32(ZERO), splat_f32(ZERO), splat_f32(ZERO), splat_f32(ZERO)
    for d in range(key_dim):
        p, o = old + d * 64, new + d * 64
        key, query = splat_f32(peek_f32(k + d * 4)), splat_f32(peek_f32(q + d * 4))
        s0 = fma(key, d0, load_f32(p) * forget)
        s1 = fma(key, d1, load_f32(p + tile) * forget)
        s2 = fma(key, d2, load_f32(p + 2 * tile) * forget)
        s3 = fma(key, d3, load_f32(p + 3 * tile) * forget)
        store_f32(o, s0)
        store_f32(o + tile, s1)
        store_f32(o + 2 * tile, s2)
        store_f32(o + 3 * tile, s3)
        t0, t1, t2, t3 = fma(query, s0, t0), fma(query, s1, t1), fma(query, s2, t2), fma(query, s3, t3)
    store_f32(y, t0 * scaling)
    store_f32(y + 64, t1 * scaling)
    store_f32(y + 128, t2 * scaling)
    store_f32(y + 192, t3 * scaling)


@native
def delta_rule(
    t,
    work,
    worker,
    workers,
    batch,
    a,
    a_stride,
    forget,
    forget_stride,
    write,
    write_stride,
    state,
    y,
    y_stride,
    width,
    key_heads,
    heads,
    alike,
    key_dim,
    tiles,
    scaling,
):
    """Rows a [2 * key_heads, key_dim] queries and keys, then values [heads, tiles * 16]; head h has those of
    key head h / alike % key_heads, and of each token a factor of what is forgotten and one of what is
    written.
    """
    blocks = (tiles + 3) // 4
    tile, dim = key_dim * 64, tiles * 64
    keys, values = key_heads * key_dim * 4, 2 * key_heads * key_dim * 4
    factor = splat_f32(float_bits(scaling))
    count = peek_i64(batch + SEGMENTS) * heads * blocks
    while True:
        task = fetch_add(work, 1)
        if task >= count:
            break
        segment = segment_of(batch, task // (heads * blocks))
        head, block = task // blocks % heads, task % blocks
        old, new = states_of(segment, state + (head * tiles + block * 4) * tile)
        own = min(4, tiles - block * 4)
        if old == 0:
            clear(new, own * tile)
            old = new
        first = peek_i64(segment + FIRST)
        for n in range(first, first + peek_i64(segment + LENGTH)):
            row = a + n * a_stride
            q = row + head // alike % key_heads * key_dim * 4
            v, to = row + values + head * dim + block * 256, y + n * y_stride + head * dim + block * 256
            f = splat_f32(peek_f32(forget + n * forget_stride + head * 4))
            w = splat_f32(peek_f32(write + n * write_stride + head * 4))
            if own == 4:
                step_four(old, new, q, q + keys, v, f, w, factor, key_dim, to)
            else:
                for i in range(own):
                    step(
                        old + i * tile,
                        new + i * tile,
                        q,
                        q + keys,
                        v + i * 64,
                        f,
                        w,
                        factor,
                        key_dim,
                        to + i * 64,
                    )
            old = new

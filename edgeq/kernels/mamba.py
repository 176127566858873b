"""The state space of Mamba-2 (Dao and Gu 2024): a matrix [state_dim, head_dim] for each head, as tiles of 16
columns, which is forgotten by one factor and written by an outer product; see `recurrent`.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    fetch_add,
    fma,
    keep,
    lane,
    load_f32,
    native,
    peek_f32,
    peek_i64,
    poke_f32,
    splat_f32,
    store_f32,
)

from . import mathematics
from .batch import FIRST, LENGTH, SEGMENTS, segment_of, states_of
from .catalog import Batch
from .recurrent import clear

COUNT = Batch.COUNT
ZERO = float32(0.0)


@native
def time_steps(t, work, worker, workers, batch, x, x_stride, y, y_stride, slope, bias, dim):
    """log(1 + exp(x + bias)) of every row of x, in place, and in y exp(slope * that)."""
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for i in range(0, dim, 16):
            p = x + n * x_stride + i * 4
            step = mathematics.softplus(load_f32(p) + load_f32(bias + i * 4))
            store_f32(p, keep(step, 0, dim - i, ZERO))
            kept = mathematics.exp(load_f32(slope + i * 4) * step)
            store_f32(y + n * y_stride + i * 4, keep(kept, 0, dim - i, ZERO))


@native
def move(old, new, write, read, x, step, forget, skip, state_dim, y, left):
    """One token of one tile, of `left` columns that mean something: S is forgotten, then write (step x) is
    added; y is S read + skip x.
    """
    entering = keep(load_f32(x), 0, left, ZERO)
    delta, total = entering * step, splat_f32(ZERO)
    for d in range(state_dim):
        s = fma(splat_f32(peek_f32(write + d * 4)), delta, load_f32(old + d * 64) * forget)
        store_f32(new + d * 64, s)
        total = fma(splat_f32(peek_f32(read + d * 4)), s, total)
    total = fma(skip, entering, total)
    if left < 16:  # one by one: a line would reach into the next head
        for i in range(left):
            poke_f32(y + i * 4, lane(total, i))
    else:
        store_f32(y, total)


@native
def move_four(old, new, write, read, x, step, forget, skip, state_dim, y):
    """The same of four tiles, one after another: four sums hide what one waits for."""
    tile = state_dim * 64
    e0, e1, e2, e3 = load_f32(x), load_f32(x + 64), load_f32(x + 128), load_f32(x + 192)
    d0, d1, d2, d3 = e0 * step, e1 * step, e2 * step, e3 * step
    t0, t1, t2, t3 = splat_f32(ZERO), splat_f32(ZERO), splat_f32(ZERO), splat_f32(ZERO)
    for d in range(state_dim):
        p, o = old + d * 64, new + d * 64
        w, r = splat_f32(peek_f32(write + d * 4)), splat_f32(peek_f32(read + d * 4))
        s0 = fma(w, d0, load_f32(p) * forget)
        s1 = fma(w, d1, load_f32(p + tile) * forget)
        s2 = fma(w, d2, load_f32(p + 2 * tile) * forget)
        s3 = fma(w, d3, load_f32(p + 3 * tile) * forget)
        store_f32(o, s0)
        store_f32(o + tile, s1)
        store_f32(o + 2 * tile, s2)
        store_f32(o + 3 * tile, s3)
        t0, t1, t2, t3 = fma(r, s0, t0), fma(r, s1, t1), fma(r, s2, t2), fma(r, s3, t3)
    store_f32(y, fma(skip, e0, t0))
    store_f32(y + 64, fma(skip, e1, t1))
    store_f32(y + 128, fma(skip, e2, t2))
    store_f32(y + 192, fma(skip, e3, t3))


@native
def state_space(
    t,
    work,
    worker,
    workers,
    batch,
    a,
    a_stride,
    step,
    step_stride,
    forget,
    forget_stride,
    skip,
    state,
    y,
    y_stride,
    width,
    heads,
    alike,
    head_dim,
    state_dim,
    tiles,
):
    """Rows a [heads, head_dim] what enters, then what writes and what reads, [heads / alike, state_dim]
    each: those of group h / alike are head h's. Of each token and head a step and a factor of what is kept.
    """
    blocks = (tiles + 3) // 4
    tile, dim = state_dim * 64, head_dim * 4
    entering, group = heads * dim, state_dim * 4
    reading = entering + heads // alike * group
    count = peek_i64(batch + SEGMENTS) * heads * blocks
    while True:
        task = fetch_add(work, 1)
        if task >= count:
            break
        segment = segment_of(batch, task // (heads * blocks))
        head, block = task // blocks % heads, task % blocks
        old, new = states_of(segment, state + (head * tiles + block * 4) * tile)
        own, left = min(4, tiles - block * 4), head_dim - block * 64
        if old == 0:
            clear(new, own * tile)
            old = new
        past = splat_f32(peek_f32(skip + head * 4))
        first = peek_i64(segment + FIRST)
        for n in range(first, first + peek_i64(segment + LENGTH)):
            row = a + n * a_stride
            w, r = row + entering + head // alike * group, row + reading + head // alike * group
            x, to = row + head * dim + block * 256, y + n * y_stride + head * dim + block * 256
            s = splat_f32(peek_f32(step + n * step_stride + head * 4))
            f = splat_f32(peek_f32(forget + n * forget_stride + head * 4))
            if left >= 64:
                move_four(old, new, w, r, x, s, f, past, state_dim, to)
            else:
                for i in range(own):
                    at = i * tile
                    move(
                        old + at,
                        new + at,
                        w,
                        r,
                        x + i * 64,
                        s,
                        f,
                        past,
                        state_dim,
                        to + i * 64,
                        left - i * 16,
                    )
            old = new

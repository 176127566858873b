"""Mixtures of experts: where a token goes, the rows of each expert brought together, and what comes of them.

Rows are told apart as *slots*: each token has one for each expert that it goes to. Slots of an expert lie one
after another, in the order of tokens, experts in theirs; `ends` int32 [experts] says behind which slot each
ends. A token's experts are listed in ascending order, and their results are added in that order, so that its
numbers do not depend on who shares its pass.
"""

from __future__ import annotations

from numba import float32

from edgeq.simd.verbs import (
    fetch_add,
    float_bits,
    fma,
    keep,
    larger,
    load_f32,
    max_f32,
    native,
    peek_f32,
    peek_i32,
    peek_i64,
    poke_f32,
    poke_i32,
    splat_f32,
    store_f32,
    sum_f32,
)

from .catalog import Batch
from .mathematics import exp, sigmoid

COUNT = Batch.COUNT
ZERO = float32(0.0)
LOWEST = float32(-3.4028234663852886e38)
SIGMOID = 1  # a `scoring`; 0 is softmax


@native
def exponentials(row, experts):
    """exp(x - the largest) of a row in place; gives their sum."""
    top = splat_f32(LOWEST)
    for i in range(0, experts, 16):
        top = larger(keep(load_f32(row + i * 4), 0, experts - i, LOWEST), top)
    highest = splat_f32(max_f32(top))
    total = splat_f32(ZERO)
    for i in range(0, experts, 16):
        e = keep(exp(load_f32(row + i * 4) - highest), 0, experts - i, ZERO)
        total = total + e
        store_f32(row + i * 4, e)
    return sum_f32(total)


@native
def sigmoids(row, experts):
    """1 / (1 + exp(-x)) of a row in place."""
    for i in range(0, experts, 16):
        store_f32(row + i * 4, keep(sigmoid(load_f32(row + i * 4)), 0, experts - i, ZERO))


@native
def score(row, bias, n):
    """What expert n is chosen by."""
    if bias != 0:
        return peek_f32(row + n * 4) + peek_f32(bias + n * 4)
    return peek_f32(row + n * 4)


@native
def choose(row, bias, experts, picked, chosen):
    """The experts of the `picked` largest scores, of equal ones the first, in ascending order to `chosen`.
    Where there are not so many numbers, any experts.
    """
    last, before = float32(0.0), -1
    for i in range(picked):
        best, found = float32(0.0), -1
        for n in range(experts):
            s = score(row, bias, n)
            open_ = before < 0 or s < last or (s == last and n > before)
            if open_ and (found < 0 or s > best) and s == s:
                best, found = s, n
        if found < 0:
            found = i
        last, before = best, found
        at = i
        while at > 0 and peek_i32(chosen + (at - 1) * 4) > found:
            poke_i32(chosen + at * 4, peek_i32(chosen + (at - 1) * 4))
            at -= 1
        poke_i32(chosen + at * 4, found)


@native
def route(
    t,
    work,
    worker,
    workers,
    batch,
    scores,
    scores_stride,
    bias,
    scales,
    experts,
    picked,
    scoring,
    renormalize,
    factor,
    chosen,
    shares,
):
    """For each token its `picked` experts, int32 in ascending order, and what each one's result is multiplied
    by: the softmax or the sigmoid of its score, divided by the sum of the chosen ones' where `renormalize`,
    times `factor`, a float32's bits, and times the expert's of `scales`, if these are not 0. `bias`, or 0,
    has a say in the choice alone.
    """
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        row = scores + n * scores_stride
        mine, share = chosen + n * picked * 4, shares + n * picked * 4
        total = float32(1.0)
        if scoring == SIGMOID:
            sigmoids(row, experts)
        else:
            total = exponentials(row, experts)
        choose(row, bias, experts, picked, mine)
        if renormalize != 0:
            total = float32(0.0)
            for i in range(picked):
                total = total + peek_f32(row + peek_i32(mine + i * 4) * 4)
        times = float_bits(factor) / total
        for i in range(picked):
            expert = peek_i32(mine + i * 4)
            part = peek_f32(row + expert * 4) * times
            poke_f32(share + i * 4, part * peek_f32(scales + expert * 4) if scales != 0 else part)


@native
def gather_slots(t, work, worker, workers, batch, chosen, picked, experts, slots, members, ends):
    """The slots of all tokens, in the order of `chosen`; the token of each slot; where each expert's end."""
    if fetch_add(work, 1) != 0:
        return
    total = peek_i64(batch + COUNT) * picked
    for e in range(experts):
        poke_i32(ends + e * 4, 0)
    for i in range(total):
        e = peek_i32(chosen + i * 4)
        poke_i32(ends + e * 4, peek_i32(ends + e * 4) + 1)
    before = 0
    for e in range(experts):
        mine = peek_i32(ends + e * 4)
        poke_i32(ends + e * 4, before)
        before += mine
    for i in range(total):
        e = peek_i32(chosen + i * 4)
        slot = peek_i32(ends + e * 4)
        poke_i32(ends + e * 4, slot + 1)
        poke_i32(slots + i * 4, slot)
        poke_i32(members + slot * 4, i // picked)


@native
def gather(t, work, worker, workers, batch, a, a_stride, members, picked, y, y_stride, dim):
    """To each slot the row of its token."""
    total = peek_i64(batch + COUNT) * picked
    while True:
        n = fetch_add(work, 1)
        if n >= total:
            break
        row = a + peek_i32(members + n * 4) * a_stride
        for i in range(0, dim, 16):
            store_f32(y + n * y_stride + i * 4, load_f32(row + i * 4))


@native
def gather_quantized(
    t, work, worker, workers, batch, a, a_scale, a_sum, members, picked, x, x_scale, x_sum, dim
):
    """To each slot the quantized row of its token."""
    groups = (dim + 31) // 32
    total = peek_i64(batch + COUNT) * picked
    while True:
        n = fetch_add(work, 1)
        if n >= total:
            break
        row = peek_i32(members + n * 4) * groups
        for i in range(groups * 8):
            poke_i32(x + n * groups * 32 + i * 4, peek_i32(a + row * 32 + i * 4))
        for i in range(groups):
            poke_i32(x_scale + (n * groups + i) * 4, peek_i32(a_scale + (row + i) * 4))
            poke_i32(x_sum + (n * groups + i) * 4, peek_i32(a_sum + (row + i) * 4))


@native
def add_slots(t, work, worker, workers, batch, a, a_stride, slots, shares, picked, x, x_stride, dim, add):
    """To each token's row of x, or to zeros where `add` is 0, those of its slots, times their shares, one
    after another.
    """
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        for i in range(0, dim, 16):
            to = x + n * x_stride + i * 4
            v = load_f32(to) if add != 0 else splat_f32(ZERO)
            for j in range(n * picked, (n + 1) * picked):
                share = splat_f32(peek_f32(shares + j * 4))
                v = fma(share, load_f32(a + peek_i32(slots + j * 4) * a_stride + i * 4), v)
            store_f32(to, keep(v, 0, dim - i, ZERO))


@native
def add_gated(t, work, worker, workers, batch, a, a_stride, gate, gate_stride, x, x_stride, dim):
    """To each row of x that of a, times the sigmoid of the gate's one number."""
    count = peek_i64(batch + COUNT)
    while True:
        n = fetch_add(work, 1)
        if n >= count:
            break
        share = sigmoid(splat_f32(peek_f32(gate + n * gate_stride)))
        for i in range(0, dim, 16):
            to = x + n * x_stride + i * 4
            v = fma(share, load_f32(a + n * a_stride + i * 4), load_f32(to))
            store_f32(to, keep(v, 0, dim - i, ZERO))

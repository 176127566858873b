"""What kernels of recurrent layers compute, in plain NumPy; see `meaning`. States are arrays as pages hold
them, None before a sequence's first token; each function gives its rows and the state behind them.
"""

from __future__ import annotations

import numpy as np

from .meaning import F32, LANES, Array, exp, fma, silu
from .meaning_experts import sigmoid as sigmoid

State = Array | None


def convolve(entering: Array, taps: Array, bias: Array | None, state: State) -> tuple[Array, Array]:
    """entering [count, dim], taps [reach, dim], state [reach - 1, dim]: each row's sum of the taps times the
    rows up to it, from the bias on, the oldest first.
    """
    kept = len(taps) - 1
    before = np.zeros((kept, entering.shape[1]), F32) if state is None else state
    rows = np.concatenate([before, entering])
    total = np.broadcast_to(np.zeros(entering.shape[1], F32) if bias is None else bias, entering.shape)
    for j, tap in enumerate(taps):
        total = fma(tap, rows[j : j + len(entering)], total)
    return total, rows[len(entering) :]


def short_conv(a: Array, taps: Array, bias: Array | None, state: State) -> tuple[Array, Array]:
    """a [count, 3 * dim]: of its thirds the second times the convolution of the first times the third."""
    first, second, third = np.split(a, 3, axis=1)
    total, state = convolve(first * third, taps, bias, state)
    return second * total, state


def conv_silu(a: Array, taps: Array, bias: Array | None, state: State) -> tuple[Array, Array]:
    total, state = convolve(a, taps, bias, state)
    return silu(total), state


def softplus(x: Array) -> Array:
    """max(x, 0) + 2 atanh(t / (2 + t)) with t = exp(-|x|), by its series up to the 15th power."""
    with np.errstate(all="ignore"):
        t = exp(F32(0.0) - np.where(x < 0, F32(0.0) - x, x))
        s = t / (F32(2.0) + t)
        square = s * s
        p = np.full(x.shape, 1.0 / 15.0, F32)
        for n in (13, 11, 9, 7, 5, 3, 1):
            p = fma(p, square, F32(1.0 / n))
        return fma(s + s, p, np.where(x < 0, F32(0.0), x))


def decay(x: Array, slope: Array, bias: Array) -> Array:
    """exp(slope * softplus(x + bias))."""
    with np.errstate(all="ignore"):
        return exp(slope * softplus(x + bias))


def delta_rule(
    a: Array,
    forget: Array,
    write: Array,
    state: State,
    *,
    key_heads: int,
    alike: int,
    key_dim: int,
    scaling: float,
) -> tuple[Array, Array]:
    """a [count, 2 * key_heads * key_dim + heads * value_dim], forget and write [count, heads], state [heads,
    value_dim / 16, key_dim, 16]. Of head h and each token in turn: S becomes forget S + k (v - forget S^T k)
    write, and the row scaling S^T q, sums over key_dim in order; q and k are those of h / alike % key_heads.
    """
    count, heads = forget.shape
    q, k, v = np.split(a, [key_heads * key_dim, 2 * key_heads * key_dim], axis=1)
    q, k = (x.reshape(count, key_heads, key_dim) for x in (q, k))
    v = v.reshape(count, heads, -1, LANES)
    s = np.zeros((heads, v.shape[2], key_dim, LANES), F32) if state is None else state.copy()
    y = np.zeros_like(v)
    for n in range(count):
        for h in range(heads):
            of = h // alike % key_heads
            key, query, f, w = k[n, of], q[n, of], forget[n, h], write[n, h]
            recalled, total = np.zeros_like(v[n, h]), np.zeros_like(v[n, h])
            for d in range(key_dim):
                recalled = fma(key[d], s[h, :, d], recalled)
            delta = (v[n, h] - f * recalled) * w
            for d in range(key_dim):
                s[h, :, d] = fma(key[d], delta, s[h, :, d] * f)
                total = fma(query[d], s[h, :, d], total)
            y[n, h] = total * F32(scaling)
    return y.reshape(count, -1), s


def time_steps(x: Array, slope: Array, bias: Array) -> tuple[Array, Array]:
    """(softplus(x + bias), exp(slope * that))."""
    with np.errstate(all="ignore"):
        step = softplus(x + bias)
        return step, exp(slope * step)


def state_space(
    a: Array, step: Array, forget: Array, skip: Array, state: State, *, groups: int, state_dim: int
) -> tuple[Array, Array]:
    """a [count, heads * head_dim + 2 * groups * state_dim], step and forget [count, heads], skip [heads],
    state [heads, head_dim / 16, state_dim, 16], zeros behind head_dim. Of head h and each token in turn, with
    w and r its group's: S becomes forget S + w (step x), and the row S^T r + skip x, a sum over state_dim in
    order.
    """
    count, heads = step.shape
    x, w, r = np.split(a, [a.shape[1] - 2 * groups * state_dim, a.shape[1] - groups * state_dim], axis=1)
    w, r = (each.reshape(count, groups, state_dim) for each in (w, r))
    x = x.reshape(count, heads, -1)
    size, tiles = x.shape[2], -(-x.shape[2] // LANES)
    x = np.pad(x, [(0, 0), (0, 0), (0, tiles * LANES - size)]).reshape(count, heads, tiles, LANES)
    s = np.zeros((heads, x.shape[2], state_dim, LANES), F32) if state is None else state.copy()
    y = np.zeros_like(x)
    for n in range(count):
        for h in range(heads):
            group, delta, total = h * groups // heads, x[n, h] * step[n, h], np.zeros_like(x[n, h])
            for d in range(state_dim):
                s[h, :, d] = fma(w[n, group, d], delta, s[h, :, d] * forget[n, h])
                total = fma(r[n, group, d], s[h, :, d], total)
            y[n, h] = fma(skip[h], x[n, h], total)
    return y.reshape(count, heads, -1)[:, :, :size].reshape(count, -1), s

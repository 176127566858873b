"""Recurrent layers: what they make of a sequence's last tokens, and of all before a token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeq.errors import UsageError
from edgeq.kernels.catalog import LINE, TILE
from edgeq.runtime.weights import Vector

if TYPE_CHECKING:
    from edgeq.cache import StateLayer
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder


STATE_LEAST = 8  # of what writes and reads a state space: a head's last line ends within the row


def lines(columns: int) -> int:
    """Of so many columns, the last one perhaps in part."""
    return -(-columns // LINE)


def history(columns: int, reach: int) -> int:
    """Numbers that a convolution over `reach` tokens keeps of a sequence."""
    return (reach - 1) * lines(columns) * LINE


def short_conv(p: Recorder, a: Rows, taps: Vector, state: StateLayer, *, bias: Vector | None = None) -> Rows:
    """[tokens, dim] from a [tokens, 3 * dim], of whose thirds the second is multiplied with the convolution
    of the first times the third (LFM2); see `conv_silu`.
    """
    return _convolve(p, "short_conv", a, p.rows(a.columns // 3), taps, bias, state)


def conv_silu(p: Recorder, a: Rows, taps: Vector, state: StateLayer, *, bias: Vector | None = None) -> Rows:
    """[tokens, dim]: silu of the causal convolution of a, of that shape, column by column: a token's row is
    the sum of `taps`, [dim * reach] as checkpoints have them, times the last rows up to its own (+ bias,
    [dim]). `state` keeps `history(dim, reach)` numbers.
    """
    return _convolve(p, "conv_silu", a, p.rows(a.columns), taps, bias, state)


def _convolve(
    p: Recorder, kernel: str, a: Rows, y: Rows, taps: Vector, bias: Vector | None, state: StateLayer
) -> Rows:
    reach = taps.columns // y.columns
    rows = np.zeros((reach, lines(y.columns) * LINE), np.float32)
    rows[:, : y.columns] = taps.values[: taps.columns].reshape(y.columns, reach).T
    p.emit(
        kernel,
        a=a,
        taps=Vector(taps.name, rows.reshape(-1)),
        bias=bias,
        state=state,
        y=y,
        reach=reach,
        kept=reach - 1,
        lines=lines(y.columns),
    )
    return y


def sigmoid(p: Recorder, x: Rows) -> Rows:
    """1 / (1 + exp(-x)), in place. Gives x."""
    p.emit("sigmoid", x=x)
    return x


def decay(p: Recorder, x: Rows, slope: Vector, bias: Vector) -> Rows:
    """exp(slope * log(1 + exp(x + bias))) of x [tokens, heads], both vectors [heads], in place. Gives x."""
    p.emit("decay", x=x, slope=slope, bias=bias)
    return x


def delta_rule(
    p: Recorder,
    a: Rows,
    forget: Rows,
    write: Rows,
    state: StateLayer,
    *,
    key_heads: int,
    key_dim: int,
    alike: int = 1,
) -> Rows:
    """[tokens, heads * value_dim]: the gated delta rule (Yang et al. 2024). Rows a are queries and keys
    [2 * key_heads, key_dim], then values [heads, value_dim]; forget and write are [tokens, heads]. Of each
    head a matrix S [key_dim, value_dim] is kept in `state`: token by token it becomes forget * S plus the
    outer product of k and write * (v - forget * S^T k), and gives S^T q / sqrt(key_dim). Head h has the keys
    of h / alike % key_heads: so many one after another have the same. UsageError where heads of values are no
    whole lines.
    """
    heads = forget.columns
    tiles, rest = divmod(a.columns - 2 * key_heads * key_dim, heads * TILE)
    if rest or tiles < 1 or heads % key_heads:
        raise UsageError(f"{a.columns} columns are no values of {heads} heads in {TILE}s.")
    y = p.rows(heads * tiles * TILE)
    p.emit(
        "delta_rule",
        a=a,
        forget=forget,
        write=write,
        state=state,
        y=y,
        key_heads=key_heads,
        heads=heads,
        alike=alike,
        key_dim=key_dim,
        tiles=tiles,
        scaling=1.0 / math.sqrt(key_dim),
    )
    return y


def time_steps(p: Recorder, x: Rows, slope: Vector, bias: Vector) -> tuple[Rows, Rows]:
    """log(1 + exp(x + bias)) of x [tokens, heads], both vectors [heads], in x, and exp(slope * that)."""
    kept = p.rows(x.columns)
    p.emit("time_steps", x=x, y=kept, slope=slope, bias=bias)
    return x, kept


def state_space(
    p: Recorder,
    a: Rows,
    step: Rows,
    forget: Rows,
    skip: Vector,
    state: StateLayer,
    *,
    groups: int,
    state_dim: int,
) -> Rows:
    """[tokens, heads * head_dim]: the state space of Mamba-2 (Dao and Gu 2024). Rows a are x [heads,
    head_dim], what enters, then w and r [groups, state_dim] each, what writes and what reads; step and forget
    are [tokens, heads], skip [heads]. Of each head a matrix S [state_dim, head_dim] is kept in `state`: token
    by token it becomes forget * S plus the outer product of w and step * x, and gives S^T r + skip * x. Heads
    of a group come one after another. UsageError where there are no whole heads, or where state_dim is less
    than STATE_LEAST.
    """
    heads = step.columns
    head_dim, rest = divmod(a.columns - 2 * groups * state_dim, heads)
    if rest or head_dim < 1 or heads % groups or state_dim < STATE_LEAST:
        raise UsageError(f"{a.columns} columns are no {heads} heads beside {groups} groups of {state_dim}.")
    y = p.rows(heads * head_dim)
    p.emit(
        "state_space",
        a=a,
        step=step,
        forget=forget,
        skip=skip,
        state=state,
        y=y,
        heads=heads,
        alike=heads // groups,
        head_dim=head_dim,
        state_dim=state_dim,
        tiles=lines(head_dim),
    )
    return y

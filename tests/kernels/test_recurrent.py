"""Recurrent layers: convolutions, delta rule and state space against what they mean, cut anywhere, in any
company.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgeq.kernels import meaning_recurrent as meaning
from edgeq.ops.recurrent import history
from tests.kernels.calling import (
    Array,
    Buffer,
    Memory,
    batch_of,
    call_with,
    float32_bits,
    run,
    same_bits,
    tag_of,
)
from tests.simd.rows import EVERYWHERE, HERE

PARTS = ([7], [1] * 5, [3, 1, 4], [2, 9, 1])  # of one sequence, pass by pass


def columns_of(values: Array, columns: int) -> Array:
    """Rows of a page's part, whose padding is zeros."""
    rows = values.reshape(-1, -(-columns // 16) * 16)
    assert not rows[:, columns:].any()
    return rows[:, :columns]


class Passes:
    """One sequence, or two beside each other, fed in parts to a kernel that keeps `size` numbers of each."""

    def __init__(self, kernel: str, isa: str, size: int, workers: int = 1):
        self.kernel, self.tag, self.size, self.workers = kernel, tag_of(isa), size, workers

    def run(
        self,
        m: Memory,
        lengths: Sequence[int],
        old: Sequence[Buffer | None],
        operands: dict[str, int],
    ) -> list[Buffer]:
        """The pages behind a pass."""
        new = [m.flat(self.size, np.float32, np.nan) for _ in lengths]
        pairs = [(o.address if o else 0, n.address) for o, n in zip(old, new, strict=True)]
        made = batch_of([(length, 0, 0) for length in lengths], (), pairs)
        call_with(m, self.kernel, self.tag, int(made[0].ctypes.data), self.workers, operands)
        return new


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("columns", [5, 32, 72, 130])
@pytest.mark.parametrize("reach", [1, 3, 4])
@pytest.mark.parametrize("kernel", ["short_conv", "conv_silu"])
def test_convolutions(kernel: str, reach: int, columns: int, biased: bool) -> None:
    for isa in EVERYWHERE:
        convolve(kernel, isa, reach, columns, biased)


def convolve(kernel: str, isa: str, reach: int, columns: int, biased: bool) -> None:
    rng = np.random.default_rng(reach * columns)
    wide = columns * (3 if kernel == "short_conv" else 1)
    taps = rng.normal(size=(reach, columns)).astype(np.float32)
    bias = rng.normal(size=columns).astype(np.float32) if biased else None
    padded = np.zeros((reach, -(-columns // 16) * 16), np.float32)
    padded[:, :columns] = taps
    mean: Callable[..., tuple[Array, Array]] = getattr(meaning, kernel)
    for parts in PARTS:
        m = Memory()
        passes = Passes(kernel, isa, history(columns, reach), workers=len(parts))
        a = rng.normal(size=(sum(parts), wide)).astype(np.float32)
        held: Buffer | None = None
        state, at = None, 0
        common = dict(
            taps=m.put(padded.reshape(-1)).address,
            bias=m.vector(bias).address if bias is not None else 0,
            state=0, dim=columns, reach=reach, kept=reach - 1, lines=-(-columns // 16),
        )  # fmt: skip
        whole, _ = mean(a, taps, bias, None)
        for length in parts:
            rows = m.rows(a[at : at + length])
            y = m.rows(np.full((length, columns), np.nan, np.float32))
            given = dict(a=rows.address, a_stride=rows.stride, y=y.address, y_stride=y.stride, **common)
            (held,) = passes.run(m, [length], [held], given)
            want, state = mean(a[at : at + length], taps, bias, state)
            same_bits(y.values, want)
            same_bits(y.values, whole[at : at + length])
            same_bits(columns_of(held.values, columns), state)
            at += length


SHAPES = [(1, 1, 1, 16, 1), (2, 4, 1, 24, 5), (3, 3, 1, 128, 8), (1, 2, 1, 7, 2), (2, 6, 3, 12, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_delta_rule(shape: tuple[int, int, int, int, int]) -> None:
    """In parts, and beside another sequence that has a state already."""
    key_heads, heads, alike, key_dim, tiles = shape
    rng = np.random.default_rng(heads)
    columns = 2 * key_heads * key_dim + heads * tiles * 16
    size = heads * tiles * key_dim * 16
    lengths = [[4, 1], [1, 3], [2, 2]]
    sequences = [rng.normal(size=(7, columns)), rng.normal(size=(6, columns))]
    sequences = [(each / np.sqrt(key_dim)).astype(np.float32) for each in sequences]
    factors = [rng.random((2, len(each), heads)).astype(np.float32) for each in sequences]
    own: dict[str, Any] = dict(key_heads=key_heads, alike=alike, key_dim=key_dim, scaling=key_dim**-0.5)
    wholes = [
        meaning.delta_rule(each, both[0], both[1], None, **own)
        for each, both in zip(sequences, factors, strict=True)
    ]
    for isa in EVERYWHERE:
        m, at = Memory(), [0, 0]
        passes = Passes("delta_rule", isa, size, workers=3)
        held: list[Buffer | None] = [None, None]
        for some in lengths:
            parts = [slice(first, first + length) for first, length in zip(at, some, strict=True)]
            a, forget, write = (
                m.rows(np.concatenate([values[part] for values, part in zip(of, parts, strict=True)]))
                for of in (sequences, [f[0] for f in factors], [f[1] for f in factors])
            )
            y = m.rows(np.full((sum(some), heads * tiles * 16), np.nan, np.float32))
            held = list(passes.run(m, some, held, dict(
                a=a.address, a_stride=a.stride, forget=forget.address, forget_stride=forget.stride,
                write=write.address, write_stride=write.stride, state=0, y=y.address, y_stride=y.stride,
                width=columns, key_heads=key_heads, heads=heads, alike=alike, key_dim=key_dim, tiles=tiles,
                scaling=float32_bits(key_dim**-0.5),
            )))  # fmt: skip
            want = [whole[part] for (whole, _), part in zip(wholes, parts, strict=True)]
            same_bits(y.values, np.concatenate(want))
            at = [first + length for first, length in zip(at, some, strict=True)]
        for buffer, (_, state) in zip(held, wholes, strict=True):
            assert buffer is not None
            same_bits(buffer.values.reshape(state.shape), state)


def test_delta_rule_means_the_paper() -> None:
    """S (I - w k k^T) forget + w k v^T, in float64."""
    rng = np.random.default_rng(3)
    count, heads, key_dim, value_dim = 9, 2, 12, 16
    q, k = rng.normal(size=(2, count, 1, key_dim)) / np.sqrt(key_dim)
    v, forget, write = rng.normal(size=(count, heads, value_dim)), *rng.random((2, count, heads))
    a = np.concatenate([each.reshape(count, -1) for each in (q, k, v)], 1).astype(np.float32)
    found, _ = meaning.delta_rule(
        a,
        forget.astype(np.float32),
        write.astype(np.float32),
        None,
        key_heads=1,
        alike=1,
        key_dim=key_dim,
        scaling=0.5,
    )
    s = np.zeros((heads, key_dim, value_dim))
    for n in range(count):
        for h in range(heads):
            s[h] = forget[n, h] * s[h]
            s[h] += write[n, h] * np.outer(k[n, 0], v[n, h] - s[h].T @ k[n, 0])
            np.testing.assert_allclose(
                found[n].reshape(heads, -1)[h], 0.5 * s[h].T @ q[n, 0], rtol=1e-5, atol=1e-6
            )


SPACES = [(1, 1, 16, 16), (4, 2, 24, 80), (3, 3, 128, 128), (6, 2, 9, 40), (5, 1, 8, 7), (2, 1, 12, 75)]


@pytest.mark.parametrize("shape", SPACES, ids=str)
def test_state_space(shape: tuple[int, int, int, int]) -> None:
    """In parts, and beside another sequence that has a state already."""
    heads, groups, state_dim, head_dim = shape
    tiles = -(-head_dim // 16)
    rng = np.random.default_rng(heads)
    columns = heads * head_dim + 2 * groups * state_dim
    lengths = [[4, 1], [1, 3], [2, 2]]
    sequences = [rng.normal(size=(count, columns)).astype(np.float32) for count in (7, 6)]
    factors = [rng.random((2, len(each), heads)).astype(np.float32) for each in sequences]
    skip = rng.normal(size=heads).astype(np.float32)
    own: dict[str, Any] = dict(groups=groups, state_dim=state_dim)
    wholes = [
        meaning.state_space(each, both[0], both[1], skip, None, **own)
        for each, both in zip(sequences, factors, strict=True)
    ]
    for isa in EVERYWHERE:
        m, at = Memory(), [0, 0]
        passes = Passes("state_space", isa, heads * tiles * state_dim * 16, workers=3)
        held: list[Buffer | None] = [None, None]
        for some in lengths:
            parts = [slice(first, first + length) for first, length in zip(at, some, strict=True)]
            a, step, forget = (
                m.rows(np.concatenate([values[part] for values, part in zip(of, parts, strict=True)]))
                for of in (sequences, [f[0] for f in factors], [f[1] for f in factors])
            )
            y = m.rows(np.full((sum(some), heads * head_dim), np.nan, np.float32))
            held = list(passes.run(m, some, held, dict(
                a=a.address, a_stride=a.stride, step=step.address, step_stride=step.stride,
                forget=forget.address, forget_stride=forget.stride, skip=m.vector(skip).address, state=0,
                y=y.address, y_stride=y.stride, width=columns, heads=heads, alike=heads // groups,
                head_dim=head_dim, state_dim=state_dim, tiles=tiles,
            )))  # fmt: skip
            want = [whole[part] for (whole, _), part in zip(wholes, parts, strict=True)]
            same_bits(y.values, np.concatenate(want))
            at = [first + length for first, length in zip(at, some, strict=True)]
        for buffer, (_, state) in zip(held, wholes, strict=True):
            assert buffer is not None
            same_bits(buffer.values.reshape(state.shape), state)


def test_state_space_means_the_paper() -> None:
    """Each row is the sum over the rows up to it, of what is left of what they wrote: the dual form."""
    rng = np.random.default_rng(4)
    count, heads, groups, state_dim, width = 9, 4, 2, 12, 16
    x, (w, r) = rng.normal(size=(count, heads, width)), rng.normal(size=(2, count, groups, state_dim))
    step, forget, skip = *rng.random((2, count, heads)), rng.normal(size=heads)
    a = np.concatenate([each.reshape(count, -1) for each in (x, w, r)], 1)
    a, s, f, d = (each.astype(np.float32) for each in (a, step, forget, skip))
    found, _ = meaning.state_space(a, s, f, d, None, groups=groups, state_dim=state_dim)
    for n in range(count):
        for h in range(heads):
            group = h // (heads // groups)
            want = skip[h] * x[n, h]
            for m in range(n + 1):
                left = forget[m + 1 : n + 1, h].prod() * (r[n, group] @ w[m, group])
                want += left * step[m, h] * x[m, h]
            np.testing.assert_allclose(found[n].reshape(heads, -1)[h], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("isa", EVERYWHERE)
def test_time_steps(isa: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(scale=20, size=(3, 50)).astype(np.float32)
    x[0, :4] = 0, 90, -90, 1e-20
    slope, bias = -np.exp(rng.normal(size=50)).astype(np.float32), rng.normal(size=50).astype(np.float32)
    m = Memory()
    rows, kept = m.rows(x), m.rows(np.full(x.shape, np.nan, np.float32))
    given: dict[str, Any] = dict(slope=m.vector(slope).address, bias=m.vector(bias).address, dim=50)
    given |= dict(x=rows.address, x_stride=rows.stride, y=kept.address, y_stride=kept.stride)
    run(m, "time_steps", tag_of(isa), count=3, workers=2, **given)
    step, left = meaning.time_steps(x, slope, bias)
    same_bits(rows.values, step)
    same_bits(kept.values, left)
    same_bits(left, meaning.decay(x, slope, bias))


@pytest.mark.parametrize("isa", EVERYWHERE)
def test_decay_and_sigmoid(isa: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(scale=20, size=(3, 50)).astype(np.float32)
    x[0, :4] = 0, 90, -90, 1e-20
    slope, bias = -np.exp(rng.normal(size=50)).astype(np.float32), rng.normal(size=50).astype(np.float32)
    m = Memory()
    rows = m.rows(x)
    given: dict[str, Any] = dict(slope=m.vector(slope).address, bias=m.vector(bias).address, dim=50)
    run(m, "decay", tag_of(isa), count=3, x=rows.address, x_stride=rows.stride, **given)
    same_bits(rows.values, meaning.decay(x, slope, bias))
    exact = np.exp(slope.astype(float) * np.logaddexp(0, x.astype(float) + bias))
    np.testing.assert_allclose(rows.values, exact, rtol=3e-5, atol=1e-37)
    rows = m.rows(x)
    run(m, "sigmoid", tag_of(isa), count=3, workers=2, x=rows.address, x_stride=rows.stride, dim=50)
    same_bits(rows.values, meaning.sigmoid(x))


def test_softplus_is_as_exact_as_it_says() -> None:
    x = np.linspace(-80, 80, 1_000_001).astype(np.float32)
    error = np.abs(meaning.softplus(x) / np.logaddexp(0, x.astype(np.float64)) - 1).max()
    assert 2e-7 < error < 4e-7
    assert np.isnan(meaning.softplus(np.array([np.nan], np.float32))).all()


def test_without_numbers_there_is_nothing_kept() -> None:
    assert history(72, 1) == 0 and history(72, 3) == 2 * 80
    assert HERE in EVERYWHERE

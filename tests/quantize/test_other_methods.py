"""Others' methods on a matrix: what each claims of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeq.converters.recipe import CHOICES
from edgeq.errors import UnsupportedError
from edgeq.formats import SCHEMES, Parts, dequantize
from edgeq.quantize.grid import has_grid
from edgeq.quantize.methods import METHODS
from edgeq.quantize.methods.hqq import hqq
from edgeq.quantize.methods.rtn import even_choice
from edgeq.quantize.methods.stochastic import mixed, uniform
from edgeq.quantize.task import Seen, Task
from edgeq.runtime.dense import Dense

OWN = ("e8", "e6", "e5", "e4", "e3", "e2")
CODES = [name for name in CHOICES if SCHEMES[name].planes]
COLUMNS = 100  # no multiple of 32


@pytest.fixture(scope="module")
def dense() -> Iterator[Dense]:
    with Dense(1) as pool:
        yield pool


def task(dense: Dense, scheme: str, seed: int = 0, rows: int = 37, data: bool = False) -> Task:
    random = np.random.default_rng(5)
    w = random.standard_t(4, (rows, COLUMNS)).astype(np.float32)
    w[3] = 0
    x = random.standard_normal((200, COLUMNS)) * np.exp(random.standard_normal(COLUMNS))
    x[:, 1:] += x[:, :-1]
    h = (x.T @ x / len(x)).astype(np.float32)
    return Task(w, SCHEMES[scheme], Seen(h, dense) if data else None, dense, seed)


def off(t: Task, parts: Parts) -> Any:
    return t.values(parts).astype(np.float64) - t.w


@pytest.mark.parametrize("scheme", CODES)
def test_rtn(dense: Dense, scheme: str) -> None:
    t = task(dense, scheme)
    parts = METHODS["rtn"].run(t, None)
    assert np.isfinite(t.values(parts)).all()
    if scheme in OWN:
        searched = METHODS["search"].run(t, None)
        assert (off(t, searched) ** 2).sum() < (off(t, parts) ** 2).sum() < (t.w**2).sum()
        assert (t.values(parts)[3] == 0).all()


@pytest.mark.parametrize("scheme", OWN)
def test_rtn_reaches_its_ends(dense: Dense, scheme: str) -> None:
    """The largest magnitude of a row lies within half a code's gap: nothing is cut off."""
    t = task(dense, scheme)
    row = SCHEMES[scheme]
    parts = METHODS["rtn"].run(t, None)
    gaps = np.diff(np.sort(row.values[even_choice(row)].astype(int)))
    step = t.grid.steps(parts).max(axis=1)
    place = np.abs(t.w).argmax(axis=1)
    assert (np.abs(off(t, parts))[np.arange(len(t.w)), place] <= 0.5 * gaps.max() * step + 1e-6).all()


def test_splitmix() -> None:
    """The first outputs from state 1234567, as published with the generator."""
    states = (1234567 + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    assert mixed(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniform_numbers() -> None:
    w = np.zeros((300, 300), np.float32)
    u = uniform(7, w)
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.001
    assert abs(np.corrcoef(u[:, 1:].ravel(), u[:, :-1].ravel())[0, 1]) < 0.02
    assert np.array_equal(uniform(7, w[20:], 20), u[20:]) and not np.array_equal(uniform(8, w), u)
    assert np.array_equal(uniform(-1, w[:1]), uniform((1 << 64) - 1, w[:1]))


@pytest.mark.parametrize("scheme", ["q4", "q8", "e4", "e2", "fp4", "q4g128", "q8r"])
def test_stochastic_is_right_on_average(dense: Dense, scheme: str) -> None:
    """Of 200 draws the mean is the weight, within five standard errors, where the scale has it inside."""
    start = METHODS["rtn"].run(task(dense, scheme), None)
    total = square = np.zeros((37, COLUMNS))
    count = 200
    for seed in range(count):
        t = task(dense, scheme, seed)
        e = off(t, METHODS["stochastic"].run(t, start))
        total, square = total + e, square + e * e
    t = task(dense, scheme)
    step = np.repeat(t.grid.steps(start), 32, axis=1)[:, :COLUMNS]
    values = np.sort(t.grid.values, axis=1)
    choice = np.repeat(t.grid.choice(start), 32, axis=1)[:, :COLUMNS]
    ends = np.sort(np.stack([values[:, 0][choice] * step, values[:, -1][choice] * step]), axis=0)
    inside = (t.w > ends[0]) & (t.w < ends[1]) & (step != 0)
    assert inside.mean() > 0.9
    gap = np.diff(values, axis=1).max() * np.abs(step)  # twice the largest deviation that a draw can have
    assert (np.abs(total / count) <= 5 * gap / 2 / np.sqrt(count))[inside].all()
    mean = (total / count / np.where(gap > 0, gap, 1))[inside]
    assert abs(mean.mean()) < 5 * 0.5 / np.sqrt(count * inside.sum())
    assert square[inside].sum() / count > 1.2 * (off(t, start) ** 2)[inside].sum()


def test_stochastic_has_the_bits_of_its_seed(dense: Dense) -> None:
    t, other = task(dense, "e4", 3), task(dense, "e4", 4)
    one, same, another = (METHODS["stochastic"].run(x, None) for x in (t, t, other))
    assert np.array_equal(one["codes"], same["codes"]) and not np.array_equal(one["codes"], another["codes"])
    assert all(np.array_equal(one[name], another[name]) for name in ("sub", "row"))
    assert (t.values(one)[3] == 0).all()


@pytest.mark.parametrize("scheme", ["e6", "e5", "e4", "e3", "e2", "q4m", "q5m"])
def test_hqq_lowers_the_robust_error(dense: Dense, scheme: str) -> None:
    """Of all groups, and of each, none of which it may make worse."""
    t = task(dense, scheme)
    start = METHODS["rtn"].run(t, None)
    parts = hqq(t, None)
    before, after = (np.abs(off(t, p)) ** 0.75 for p in (start, parts))
    assert after.sum() < 0.999 * before.sum()
    for first in range(0, COLUMNS, 32):
        some = slice(first, first + 32)
        assert (after[:, some].sum(axis=1) <= before[:, some].sum(axis=1) * (1 + 1e-5) + 1e-5).all()
    assert {name: array.dtype for name, array in parts.items()} == {n: a.dtype for n, a in start.items()}
    assert np.isfinite(dequantize(parts, SCHEMES[scheme])).all()


def test_hqq_with_a_min_moves_the_min_alone(dense: Dense) -> None:
    t = task(dense, "q4m")
    start, parts = METHODS["rtn"].run(t, None), hqq(t, None)
    assert np.array_equal(start["scale"], parts["scale"]) and not np.array_equal(start["min"], parts["min"])


@pytest.mark.parametrize("scheme", ["q4", "e8", "q8r", "k4", "t2", "nf4"])
def test_hqq_refuses(dense: Dense, scheme: str) -> None:
    with pytest.raises(UnsupportedError, match="no zero point that its groups choose"):
        hqq(task(dense, scheme), None)


@pytest.mark.parametrize("scheme", ["q4", "q5", "q8", "q4g64", "q4g128", "nf4", "t4", "fp4"])
def test_clip_lowers_the_error_of_each_groups_outputs(dense: Dense, scheme: str) -> None:
    t = task(dense, scheme, data=True)
    assert t.seen is not None
    width = SCHEMES[scheme].scale.columns  # type: ignore[union-attr]
    losses = []
    for name in ("rtn", "clip"):
        e = off(t, METHODS[name].run(t, None))
        groups = [slice(a, a + width) for a in range(0, COLUMNS, width)]
        losses.append(np.stack([((e[:, g] @ t.seen.h[g, g]) * e[:, g]).sum(axis=1) for g in groups]))
    # scales that are not clipped are float16 here before, not after, codes are found with them
    assert (losses[1] <= losses[0] * 1.05 + 1e-4).mean() > 0.95 and losses[1].sum() < losses[0].sum()


@pytest.mark.parametrize("scheme", ["e4", "q8r", "q4m"])
def test_clip_refuses(dense: Dense, scheme: str) -> None:
    with pytest.raises(UnsupportedError, match="clip is for such"):
        METHODS["clip"].run(task(dense, scheme, data=True), None)


@pytest.mark.parametrize(
    ("method", "scheme"), [("rtn", "e4"), ("rtn", "q4"), ("stochastic", "q4"), ("hqq", "e4")]
)
def test_gptq_goes_on_from_them(dense: Dense, method: str, scheme: str) -> None:
    assert has_grid(SCHEMES[scheme])
    t = task(dense, scheme, data=True)
    assert t.seen is not None
    parts = METHODS[method].run(t, None)
    assert t.error(METHODS["gptq"].run(t, parts), t.seen.h) < t.error(parts, t.seen.h)


@pytest.mark.parametrize(
    ("method", "scheme"), [("rtn", "e4"), ("stochastic", "q4"), ("hqq", "e4"), ("hqq", "q4m"), ("clip", "q4")]
)
def test_threads_change_nothing(dense: Dense, method: str, scheme: str) -> None:
    one = task(dense, scheme, data=True, rows=100)
    with Dense(2) as two:
        other = METHODS[method].run(task(two, scheme, data=True, rows=100), None)
        assert all(
            np.array_equal(other[name], array) for name, array in METHODS[method].run(one, None).items()
        )

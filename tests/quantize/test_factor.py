"""Factors of second moments: what they are of, what is added, and what is solved with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.errors import FormatError
from edgeq.quantize.factor import DAMPING, DAMPINGS_MAX, Factor, factor
from edgeq.runtime.dense import Dense
from tests.quantize.matrices import inputs, matrix, second_moments

Array = np.ndarray[Any, Any]
SIZES = [1, 2, 127, 128, 129, 300]  # blocks have 128


def damped(found: Factor, h: Array) -> Array:
    """What the factor is said to be of."""
    whole = h[np.ix_(found.order, found.order)].astype(np.float64)
    made: Array = whole + np.eye(len(h)) * found.damping * np.diagonal(h).mean(dtype=np.float64)
    return made


@pytest.mark.parametrize("size", SIZES)
def test_its_square(size: int, dense: Dense) -> None:
    h = second_moments(inputs(400, size))
    order = np.random.default_rng(0).permutation(size)
    for found in (Factor(dense, h), Factor(dense, h, 0.1, order)):
        lower = found.lower.astype(np.float64)
        assert not np.triu(lower, 1).any() and (np.diagonal(lower) > 0).all()
        want = damped(found, h)
        assert np.abs(lower @ lower.T - want).max() < 1e-5 * np.abs(want).max()
    assert Factor(dense, h).damping == DAMPING and found.damping == 0.1
    assert np.array_equal(found.order, order)


@pytest.mark.parametrize("size", SIZES)
def test_solving(size: int, dense: Dense) -> None:
    h, c = second_moments(inputs(400, size)), matrix(5, size)
    order = np.random.default_rng(0).permutation(size)
    found = Factor(dense, h, 0.1, order)
    x = found.solve(c)
    assert x.dtype == np.float32 and x.shape == c.shape
    a = h.astype(np.float64) + np.eye(size) * found.damping * np.diagonal(h).mean(dtype=np.float64)
    assert np.linalg.norm(x @ a - c) < 1e-4 * np.linalg.norm(c)
    np.testing.assert_allclose(x, np.linalg.solve(a, c.T).T, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("least", "doublings"), [(0.0, 0), (-0.011, 1), (-0.07, 3), (-1.2, 7)])
def test_damping_grows_until_there_is_a_factor(least: float, doublings: int, dense: Dense) -> None:
    """A matrix of mean diagonal 1 with this as its least eigenvalue."""
    size = 140
    values = np.full(size, (size - least) / (size - 1))
    values[0] = least
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((size, size)))[0]
    h = ((turn * values) @ turn.T).astype(np.float32)
    found = Factor(dense, (h + h.T) / 2)
    assert found.damping == DAMPING * 2**doublings


def test_nothing_seen(dense: Dense) -> None:
    """Of inputs that were all zero the factor is that of ones."""
    np.testing.assert_array_equal(Factor(dense, np.zeros((130, 130), np.float32)).lower, np.eye(130))


def test_dead_inputs(dense: Dense) -> None:
    x = inputs(100, 140)
    x[:, 20:90] = 0
    h = second_moments(x)
    lower = Factor(dense, h).lower
    assert np.isfinite(lower).all() and not np.tril(lower, -1)[20:90, 20:90].any()


def test_no_factor(dense: Dense) -> None:
    h = second_moments(inputs(100, 20))
    for value in (np.nan, np.inf):
        spoilt = h.copy()
        spoilt[3, 3] = value
        with pytest.raises(FormatError, match="the moments of a matrix's inputs are not finite"):
            Factor(dense, spoilt)
    for spoilt in (-100 * np.eye(20, dtype=np.float32), np.where(np.eye(20) > 0, h, np.float32(np.nan))):
        with pytest.raises(FormatError, match="no damping up to .* makes the moments .* positive"):
            Factor(dense, spoilt)
    assert DAMPING * 2**DAMPINGS_MAX > 1000


def test_workers_change_no_bit(dense: Dense) -> None:
    h, c = second_moments(inputs(400, 300)), matrix(40, 300)
    with Dense(2) as two:
        one, other = Factor(dense, h), Factor(two, h)
        assert one.lower.tobytes() == other.lower.tobytes()
        assert one.solve(c).tobytes() == other.solve(c).tobytes()


@pytest.mark.parametrize("size", [1, 5, 12])
def test_a_block(size: int) -> None:
    """As NumPy has it, and as the interpreter computes it, in every bit."""
    h = second_moments(inputs(100, size)).astype(np.float64)
    made = [(np.zeros((size, size)), np.zeros((size, size))) for _ in range(2)]
    assert factor(h, *made[0]) and factor.py_func(h, *made[1])
    for one, other in zip(*made, strict=True):
        assert one.tobytes() == other.tobytes()
    lower, inverse = made[0]
    np.testing.assert_allclose(lower, np.linalg.cholesky(h), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(inverse @ lower, np.eye(size), atol=1e-9)
    assert not factor(-h, *made[0]) and not factor(h * 0, *made[0])

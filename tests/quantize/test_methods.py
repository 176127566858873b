"""Methods: each lowers the error that it is for, in the same bits however it is run."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edgeq.errors import FormatError, UnsupportedError
from edgeq.formats import SCHEMES, Parts
from edgeq.formats.schemes import ACT_GROUP
from edgeq.quantize import task as module
from edgeq.quantize.factor import DAMPING
from edgeq.quantize.grid import Grid, code_of, has_grid, inner, mean
from edgeq.quantize.methods import METHODS
from edgeq.quantize.task import Seen, Task
from edgeq.runtime.dense import Dense
from tests.patience import STUCK_S
from tests.quantize.matrices import bits, error, inputs, matrix, run, second_moments, task

Array = np.ndarray[Any, Any]

descending = importlib.import_module(
    "edgeq.quantize.methods.descent"
)  # the functions have the modules' names
rounding_columns = importlib.import_module("edgeq.quantize.methods.gptq")

SCHEMES_HERE = ("e8", "e6", "e5", "e4", "e3", "e2", "q4", "q8", "q5", "nf4", "q4g128", "t4", "q8r", "q8t")
SEARCHED = tuple(name for name in SCHEMES_HERE if SCHEMES[name].sub)


# ---- what they choose codes from ----
@pytest.mark.parametrize("name", SCHEMES_HERE)
def test_a_grid_is_what_parts_stand_for(name: str, dense: Dense) -> None:
    given = task(dense, name, rows=5, columns=150)
    parts = run(given, "search")
    grid = given.grid
    step, choice = (np.repeat(each, ACT_GROUP, axis=1) for each in (grid.steps(parts), grid.choice(parts)))
    found = step * grid.values[choice, parts["codes"]]
    np.testing.assert_allclose(found[:, :150], given.values(parts), rtol=1e-6)


@pytest.mark.parametrize("name", SCHEMES_HERE)
def test_the_nearest_code(name: str) -> None:
    """Of any number, and some code of what is none."""
    grid = Grid(SCHEMES[name])
    numbers = np.concatenate([np.linspace(-140, 140, 997), [-np.inf, np.inf, -3e38, 3e38, 0]])
    for values, nearest in zip(grid.values, grid.nearest, strict=True):
        for x in numbers.astype(np.float32):
            code = code_of(x, nearest, grid.low)
            assert not np.isfinite(x) or abs(values[code] - x) == np.abs(values - x).min()
        assert values[code_of(np.float32(np.inf), nearest, grid.low)] == values.max()
        assert code_of(np.float32(np.nan), nearest, grid.low) == nearest[0]


def test_schemes_without_a_grid(dense: Dense) -> None:
    for name in ("q4k", "k4", "q4_1", "f16", "nv4", "q2k"):
        if name in SCHEMES:
            assert not has_grid(SCHEMES[name])
            with pytest.raises(UnsupportedError, match=f"scheme {name} has other scales"):
                Grid(SCHEMES[name])


def test_sums_in_one_order() -> None:
    a, b = matrix(7, 9), matrix(7, 9, seed=1)
    assert inner(a, b) == inner.py_func(a, b) == pytest.approx(float((a.astype(float) * b).sum()))
    assert mean(a[0]) == pytest.approx(float(a[0].mean(dtype=np.float64)))


# ---- what each is for ----
def damped(given: Task) -> Array:
    """What codes are chosen by."""
    assert given.seen is not None
    h = given.seen.h.astype(np.float64)
    found: Array = h + DAMPING * np.diagonal(h).mean() * np.eye(len(h))
    return found


@pytest.mark.parametrize("name", SEARCHED)
def test_importance_lowers_the_error_of_what_counts(name: str, dense: Dense) -> None:
    given = task(dense, name)
    assert given.seen is not None
    alone = np.diag(given.seen.squares)
    assert error(given, run(given, "importance"), alone) < 0.97 * error(given, run(given, "search"), alone)


@pytest.mark.parametrize("name", SEARCHED)
def test_a_finer_search_lowers_the_error_of_weights(name: str, dense: Dense) -> None:
    given = task(dense, name)
    alone = np.eye(given.w.shape[1], dtype=np.float32)
    assert error(given, run(given, "finer"), alone) < error(given, run(given, "search"), alone)


@pytest.mark.parametrize("name", sorted({*SCHEMES_HERE} - {*SEARCHED}))
def test_where_nothing_is_searched_for_importance_changes_nothing(name: str, dense: Dense) -> None:
    given = task(dense, name)
    assert bits(run(given, "importance")) == bits(run(given, "finer")) == bits(run(given, "search"))


@pytest.mark.parametrize("name", SCHEMES_HERE)
def test_each_step_lowers_the_error_of_outputs(name: str, dense: Dense) -> None:
    given = task(dense, name, columns=150 if name == "q4g128" else 70)
    h = damped(given)
    ladder = (["search"], ["search", "gptq"], ["search", "gptq", "descent"], ["search", "descent"])
    found = [error(given, run(given, *steps), h) for steps in ladder]
    assert found[1] < 0.8 * found[0] and found[2] < found[1] and found[3] < 0.8 * found[0]


@pytest.mark.parametrize("name", ["e4", "e2", "q4", "q8t"])
def test_descent_never_climbs(name: str, dense: Dense, monkeypatch: pytest.MonkeyPatch) -> None:
    given = task(dense, name)
    h, begun = damped(given), run(given, "search")
    found = [error(given, begun, h)]
    for passes in (1, 2, 3, 6):
        monkeypatch.setattr(descending, "PASSES", passes)
        found.append(error(given, METHODS["descent"].run(given, begun), h))
    assert all(after <= before * (1 + 1e-6) for before, after in zip(found, found[1:], strict=False))
    assert found[1] < found[0]
    last = METHODS["descent"].run(given, begun)
    assert error(given, METHODS["descent"].run(given, last), h) <= error(given, last, h) * (1 + 1e-6)


def frantar(given: Task, parts: Parts) -> tuple[Array, Array]:
    """Codes by the published algorithm in float64: columns with the largest inputs first, updates by the
    upper Cholesky factor of the inverse. And which rows came near to no tie.
    """
    assert given.seen is not None
    order = given.seen.factor.order[::-1]
    h = given.seen.h.astype(np.float64)
    h += np.eye(len(h)) * given.seen.factor.damping * np.diagonal(h).mean()
    upper = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T
    w = given.w[:, order].astype(np.float64)
    step, choice = given.grid.steps(parts), given.grid.choice(parts)
    codes, margin = parts["codes"].copy(), np.full(len(w), np.inf)
    rows = np.arange(len(w))
    for i, k in enumerate(order):
        a = step[:, k // ACT_GROUP].astype(np.float64)
        values = given.grid.values[choice[:, k // ACT_GROUP]].astype(np.float64)
        far = np.abs(values - (w[:, i] / a)[:, None])
        codes[:, k] = far.argmin(axis=1)
        nearest = np.sort(far, axis=1)
        margin = np.minimum(margin, nearest[:, 1] - nearest[:, 0])
        off = (w[:, i] - values[rows, codes[:, k]] * a) / upper[i, i]
        w[:, i:] -= off[:, None] * upper[i, i:]
    return codes, margin > 1e-4


@pytest.mark.parametrize("columns", [40, 172])  # one block and two
@pytest.mark.parametrize("name", ["e4", "q4", "e2"])
def test_gptq_is_the_published_algorithm(name: str, columns: int, dense: Dense) -> None:
    """Without its inverse, and up to ties."""
    given = task(dense, name, rows=30, columns=columns)
    parts = run(given, "search")
    want, clear = frantar(given, parts)
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(run(given, "search", "gptq")["codes"][clear], want[clear])


# ---- the same bits ----
STEPS = ("importance", "gptq", "descent")


@pytest.mark.parametrize("name", ["e4", "e8", "e2", "nf4"])
def test_compiled_and_interpreted_they_have_the_same_bits(
    name: str, dense: Dense, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = task(dense, name, rows=2, columns=40)
    compiled = [bits(run(given, *STEPS[: n + 1])) for n in range(3)]
    for of, names in (
        (rounding_columns, ("round_columns", "code_of")),
        (descending, ("descend", "refit_groups", "refit_rows", "code_of")),
    ):
        for function in names:
            monkeypatch.setattr(of, function, getattr(of, function).py_func)
    assert [bits(run(given, *STEPS[: n + 1])) for n in range(3)] == compiled


@pytest.mark.parametrize("name", ["e4", "q4", "q8t"])
def test_threads_change_no_bit(name: str, dense: Dense) -> None:
    h = second_moments(inputs(300, 140))
    with Dense(2) as two:
        one, other = (task(each, name, rows=100, columns=140, h=h) for each in (dense, two))
        for n in range(3):
            assert bits(run(one, *STEPS[: n + 1])) == bits(run(other, *STEPS[: n + 1]))


def test_a_row_does_not_depend_on_its_neighbours(dense: Dense) -> None:
    given = task(dense, "e4", rows=70)
    alone = Task(given.w[33:34].copy(), given.scheme, given.seen, dense)
    whole, row = run(given, *STEPS), run(alone, *STEPS)
    assert bits({name: part[33:34] for name, part in whole.items()}) == bits(row)


# ---- what is out of the ordinary ----
@pytest.mark.parametrize("name", ["e4", "e2", "q4", "nf4", "q8t"])
@pytest.mark.parametrize(
    "size", [0, 1e-23, 1e-18, 1e15], ids=["all zero", "squares vanish", "squares are denormal", "large"]
)
def test_inputs_of_any_size(size: float, name: str, dense: Dense) -> None:
    """Steps leave a matrix as good as it was, and nothing is divided by zero."""
    given = task(dense, name, rows=3, h=second_moments(inputs(100, 70) * np.float32(size)))
    same = task(dense, name, rows=3, h=second_moments(inputs(100, 70)))
    found = run(given, *STEPS)
    if size >= 1e-18:
        assert error(same, found) < error(same, run(same, "search"))
    else:
        assert np.isfinite(given.values(found)).all()


@pytest.mark.parametrize("name", ["e4", "e2", "q4", "nf4", "q8t"])
def test_inputs_that_are_always_zero(name: str, dense: Dense) -> None:
    """Their weights may be anything of the grid; the others are better than without."""
    x = inputs(300, 70)
    x[:, 20:60] = 0
    given = task(dense, name, h=second_moments(x))
    assert error(given, run(given, *STEPS)) < 0.8 * error(given, run(given, "search"))


@pytest.mark.parametrize("name", ["e4", "e2", "q4", "nf4", "q8t"])
def test_rows_of_zeros(name: str, dense: Dense) -> None:
    given = task(dense, name, rows=4)
    given.w[[0, 2]] = 0
    values = given.values(run(given, *STEPS))
    assert not values[[0, 2]].any() and values[1].any()
    given.w[...] = 0
    assert not given.values(run(given, *STEPS)).any()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("method", ["search", "importance"])
@pytest.mark.parametrize("name", ["e4", "q4", "q8t"])
def test_a_weight_that_is_no_number_is_named(name: str, method: str, workers: int) -> None:
    with Dense(workers) as dense:
        given = task(dense, name, rows=80)
        given.w[75, 65] = np.nan
        with pytest.raises(FormatError, match="row 75, columns from .*: a value is not finite"):
            METHODS[method].run(given, None)


def test_inputs_that_are_no_numbers(dense: Dense) -> None:
    x = inputs(10, 40)
    x[3, 4] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(FormatError, match="inputs are not finite"):
        Seen(second_moments(x), dense)


def test_what_breaks_off_leaves_the_rest_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does: what waits is not begun."""
    begun, broken = [], threading.Event()

    class Watched(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(False, cancel_futures=cancel_futures)
            broken.set()
            super().shutdown(wait)

    def work(rows: slice) -> None:
        begun.append(rows.start)
        if rows.start == 0:
            raise KeyboardInterrupt
        assert broken.wait(STUCK_S)

    monkeypatch.setattr(module, "ThreadPoolExecutor", Watched)
    with Dense(2) as dense, pytest.raises(KeyboardInterrupt):
        task(dense, "e4", rows=20 * module.ROWS).by_rows(work)
    assert 0 in begun and len(begun) <= 3

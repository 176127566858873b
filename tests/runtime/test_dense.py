"""Products of float32 matrices: what they are, and that they have the same bits however they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edgeq import memory
from edgeq.errors import UsageError
from edgeq.runtime import dense as module
from edgeq.runtime.dense import BAND, Dense, tiled, tiled_columns
from tests.simd.rows import REAL

Array = np.ndarray[Any, Any]

# rows of x, rows of w, columns: ends of tiles, of tokens and of lines, and one of each
SIZES = [(1, 1, 1), (2, 16, 32), (3, 17, 31), (7, 33, 172), (16, 5, 64), (33, 48, 1), (1, 172, 64)]


@pytest.fixture(scope="module")
def dense() -> Iterator[Dense]:
    with Dense(1) as found:
        yield found


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def assert_near(found: Array, left: Array, right: Array, before: Array | float = 0) -> None:
    """found is before + left . right, as far as sums of float32 can be."""
    want = before + left.astype(np.float64) @ right
    room = (left.shape[1] + 1) * 2.0**-23 * (np.abs(before) + np.abs(left).astype(np.float64) @ np.abs(right))
    assert found.dtype == np.float32 and found.shape == want.shape
    assert (np.abs(found - want) <= room).all()


def bits(x: Array) -> bytes:
    return np.ascontiguousarray(x).tobytes()


@pytest.mark.parametrize(("n", "rows", "columns"), SIZES)
def test_a_product(dense: Dense, n: int, rows: int, columns: int) -> None:
    w, x = random(rows, columns), random(n, columns, seed=1)
    assert_near(dense.product(w, x), x, w.T)


@pytest.mark.parametrize(("n", "rows", "columns"), SIZES)
def test_a_product_that_is_added(dense: Dense, n: int, rows: int, columns: int) -> None:
    w, x, before = random(rows, columns), random(n, columns, seed=1), random(n, rows, seed=2)
    out = dense.zeros(n, rows)
    out[...] = before
    assert dense.product(w, x, out=out) is out
    assert_near(out, x, w.T, before)


@pytest.mark.parametrize("n", [1, 40, BAND, BAND + 88])
def test_only_below_the_diagonal(dense: Dense, n: int) -> None:
    """As the whole product has it, in every bit."""
    w = random(n, 20)
    lower = dense.product(w, w, lower=True)
    assert bits(np.tril(lower)) == bits(np.tril(dense.product(w, w)))
    if n > BAND:
        assert not lower[:BAND, BAND:].any()  # that is what it saves


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (5, 172), (40, 33), (3, BAND + 20)])
def test_second_moments(dense: Dense, n: int, columns: int) -> None:
    x, before = random(n, columns), random(columns, columns, seed=1)
    out = dense.zeros(columns, columns)
    out[...] = before
    dense.gram(x, out)
    want = dense.zeros(columns, columns)
    want[...] = before
    dense.moments(x, x, want)
    assert bits(np.tril(out)) == bits(np.tril(want))
    assert_near(want, x.T, x, before)


@pytest.mark.parametrize(("n", "left", "right"), [(1, 1, 40), (9, 172, 17), (64, 16, 16)])
def test_moments_of_two(dense: Dense, n: int, left: int, right: int) -> None:
    a, b = random(n, left), random(n, right, seed=1)
    out = dense.zeros(left, right)
    dense.moments(a, b, out)
    assert_near(out, a.T, b)


def test_a_row_does_not_depend_on_its_neighbours(dense: Dense) -> None:
    w, x = random(40, 72), random(37, 72, seed=1)
    whole = dense.product(w, x)
    for first, last in ((0, 1), (5, 7), (30, 37)):
        assert bits(dense.product(w[8:25], x[first:last])) == bits(whole[first:last, 8:25])


def everything(found: Dense) -> list[bytes]:
    """The bits of all that there is, of sizes that several workers share."""
    w, x = random(172, 64), random(50, 64, seed=1)
    added, gram, moments = (found.zeros(*shape) for shape in ((50, 172), (64, 64), (64, 172)))
    added[...] = 1
    found.product(w, x, out=added)
    found.gram(x, gram)
    found.moments(x, added, moments)
    square = found.product(x, x, lower=True)
    return [bits(each) for each in (added, np.tril(gram), moments, np.tril(square), found.product(w, x[:1]))]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_no_bit(dense: Dense, workers: int) -> None:
    with Dense(workers) as several:
        assert several.workers == workers
        assert everything(several) == everything(dense)


@pytest.mark.parametrize("isa", REAL)
def test_instruction_sets_change_no_bit(dense: Dense, isa: str, use_isa: Callable[[str], None]) -> None:
    want = everything(dense)
    use_isa(isa)
    with Dense(1) as other:
        assert other.isa == isa
        assert everything(other) == want


# ---- what they are given ----
def test_what_lies_behind_rows_changes_nothing(dense: Dense) -> None:
    w, x = random(20, 40), dense.zeros(5, 40)
    memory.fill(x.base, np.full(1, np.nan, np.float32))  # type: ignore[arg-type]
    x[...] = random(5, 40, seed=1)
    assert dense.rows(x) is x
    assert bits(dense.product(w, x)) == bits(dense.product(w, x.copy()))


VIEWS: dict[str, Callable[[Array], Array]] = {
    "columns": lambda x: x[:, 32:64],
    "rows": lambda x: x[10:20],
    "backwards": lambda x: x[::-1],
    "each other row": lambda x: x[::2],
    "each other column": lambda x: x[:, ::2],
    "turned": lambda x: x.T,
    "float64": lambda x: x.astype(np.float64),
    "one row again": lambda x: np.broadcast_to(x[3], (9, 70)),
    "none": lambda x: x[:0],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("own", [False, True])
def test_views(dense: Dense, view: Callable[[Array], Array], own: bool) -> None:
    """Whatever memory the matrices are in, and however they lie there."""
    x = random(70, 70)
    if own:
        x = dense.rows(x)
    w = view(x)
    assert_near(dense.product(w, w), w, w.T)
    out = dense.zeros(w.shape[1], w.shape[1])
    dense.moments(w, w, out)
    assert_near(out, w.T, w)


def test_a_part_of_a_result_leaves_the_rest(dense: Dense) -> None:
    w, x = random(64, 24), random(9, 24, seed=1)
    out = dense.zeros(9, 160)
    out[...] = 3
    dense.product(w, x, out=out[:, 32:96])
    assert_near(out[:, 32:96], x, w.T, 3)
    assert (out[:, :32] == 3).all() and (out[:, 96:] == 3).all()
    dense.product(w, x[:4], out=out[5:, :64])
    assert (out[:5, :32] == 3).all()


def test_matrices_that_do_not_fit_together(dense: Dense) -> None:
    w, x = random(20, 24), random(9, 24, seed=1)
    out = dense.zeros(9, 20)
    with pytest.raises(UsageError, match=r"matrices of \(20, 24\) and \(9, 23\) have no product there"):
        dense.product(w, x[:, :23])
    for wrong in (out[:8], out[:, :19], out.T):
        with pytest.raises(UsageError, match="have no product there"):
            dense.product(w, x, out=wrong)
    for wrong in (dense.zeros(23, 24), dense.zeros(24, 23), dense.zeros(25, 25)):
        with pytest.raises(UsageError):
            dense.gram(x, wrong)
        with pytest.raises(UsageError):
            dense.moments(x, x, wrong)
    with pytest.raises(UsageError):
        dense.moments(x, x[:5], dense.zeros(24, 24))


def test_results_that_are_no_room_for_a_product(dense: Dense) -> None:
    """Kernels write whole lines of 16 columns, into memory that is theirs."""
    w, x, out = random(20, 24), random(9, 24, seed=1), dense.zeros(9, 160)
    for wrong in (
        np.zeros((9, 20), np.float32),
        out[:, 32:52],
        out.astype(np.float64)[:, :20],
        out[:, :40:2],
    ):
        with pytest.raises(UsageError, match="have no product there"):
            dense.product(w, x, out=wrong)


@pytest.mark.parametrize("workers", [0, -1, 257])
def test_a_number_of_workers_that_no_pool_has(workers: int) -> None:
    with pytest.raises(UsageError, match=f"threads is {workers}, but 1 to 256 are possible"):
        Dense(workers)


# ---- layouts ----
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (16, 5), (33, 172)])
def test_tiles(rows: int, columns: int) -> None:
    w = random(rows, columns)
    tiles = tiled(w)
    whole = np.zeros((-(-rows // 16) * 16, columns), np.float32)
    whole[:rows] = w
    np.testing.assert_array_equal(tiles, whole.reshape(-1, 16, columns).transpose(0, 2, 1))
    np.testing.assert_array_equal(tiled_columns(np.ascontiguousarray(w.T)), tiles)


def test_bands_reach_no_further_than_their_rows(dense: Dense, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last has fewer rows, and with memory checked a program that could reach beyond them is refused."""
    monkeypatch.setattr(module, "BAND", 8)
    monkeypatch.setattr(memory, "checked", lambda: True)
    w = random(20, 24)
    assert_near(np.tril(dense.product(w, w, lower=True)), np.eye(20), np.tril(dense.product(w, w)))

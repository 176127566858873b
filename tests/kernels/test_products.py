"""Matrix products, bit for bit as they mean: shapes with tails everywhere, one token to many, bias, add."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeq.kernels import meaning
from edgeq.kernels.catalog import State
from edgeq.kernels.matmul import BLOCK, chunk_start
from tests.kernels.calling import (
    Array,
    Buffer,
    Memory,
    float_lines,
    random_codes,
    representable,
    run,
    same_bits,
    tag_of,
)
from tests.simd.rows import EVERYWHERE, HERE

SHAPES = [(16, 32), (1, 1), (5, 7), (40, 64), (100, 33), (130, 96)]
COUNTS = [0, *range(1, 10), 130]
CASES = [
    (rows, columns, count) for rows, columns in SHAPES for count in (COUNTS if rows == 40 else (1, 4, 9))
]
CASES.append((40, BLOCK // 10, 25))  # more than one block of tokens


def result(
    m: Memory, rng: np.random.Generator, count: int, rows: int, case: int
) -> tuple[Buffer, Array | None]:
    """Where y goes, with two rows more that must stay, and in every third case what it is added to."""
    old = rng.normal(size=(count + 2, rows)).astype(np.float32)
    if case % 3:
        old[:count] = np.nan
    return m.rows(old), None if case % 3 else old[:count].copy()


def bias_of(m: Memory, rng: np.random.Generator, rows: int, case: int) -> tuple[int, Array | None]:
    bias = rng.normal(size=rows).astype(np.float32)
    return (m.vector(bias).address, bias) if case % 2 else (0, None)


def int8_rows(rng: np.random.Generator, count: int, columns: int) -> meaning.Int8:
    """Quantized activations, a third of them at the ends of the range."""
    a = rng.normal(size=(count, columns)).astype(np.float32)
    a[rng.random(a.shape) < 0.3] = 3.0
    a[rng.random(a.shape) < 0.1] = -3.0
    return meaning.quantize(a)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 64])
def test_chunks_are_all_tiles_in_pieces_that_shrink(workers: int) -> None:
    for tiles in (1, 2, 5, 128, 352, 2000):
        starts = [chunk_start.py_func(i, tiles, workers) for i in range(tiles + 1)]
        sizes = [b - a for a, b in itertools.pairwise(starts) if a < tiles]
        assert starts[0] == 0 and starts[-1] == tiles
        assert min(sizes) > 0 and sizes == sorted(sizes, reverse=True)
        assert sizes[0] <= max(1, tiles // (2 * workers))
        assert sizes[-1] <= max(1, tiles // (16 * workers))
        assert len(sizes) <= max(20 * workers, 1)


@pytest.mark.parametrize("scheme", ["q4", "q8"])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_matmul(name: str, scheme: str) -> None:
    rng = np.random.default_rng(6)
    for case, (rows, columns, count) in enumerate(CASES):
        m = Memory()
        w = random_codes(rng, scheme, rows, columns)
        x = int8_rows(rng, count, columns)
        y, add = result(m, rng, count, rows, case)
        rest = y.values[count:].copy()
        bias, bias_values = bias_of(m, rng, rows, case)
        at = State.OUTPUTS if case % 5 == 0 else State.COUNT
        parts = (m.put(part).address for part in x)
        run(
            m,
            "matmul",
            tag_of(name, scheme),
            count=count + 3 if at else count,
            outputs=count,
            workers=1 + case % 3,
            **dict(zip(("x", "x_scale", "x_sum"), parts, strict=True)),
            **w.lines(m),
            bias=bias,
            y=y.address,
            y_stride=y.stride,
            tiles=w.tiles,
            groups=w.scales.shape[1],
            add=int(add is not None),
            count_at=at,
        )
        same_bits(y.values[:count], meaning.matmul(x, w.codes, w.scales, w.scheme.zero, bias_values, add))
        same_bits(y.values[count:], rest)


def test_matmul_at_the_corners() -> None:
    """Codes and activations at the ends of their ranges for many groups: nothing saturates."""
    for name in EVERYWHERE:
        for scheme, last in (("q4", 15), ("q8", 255)):
            m = Memory()
            w = random_codes(np.random.default_rng(7), scheme, 16, 256)
            w.codes[:] = np.array([0, last], np.uint8)[np.arange(256) // 64 % 2]
            w.scales[:] = 1.0
            for sign in (127, -127):
                x = np.full((9, 256), sign, np.int8)
                q = meaning.Int8(x, np.ones((9, 8), np.float32), x.reshape(9, 8, 32).sum(-1, dtype=np.int32))
                y = m.rows(np.zeros((9, 16), np.float32))
                parts = (m.put(part).address for part in q)
                run(
                    m,
                    "matmul",
                    tag_of(name, scheme),
                    count=9,
                    **dict(zip(("x", "x_scale", "x_sum"), parts, strict=True)),
                    **w.lines(m),
                    bias=0,
                    y=y.address,
                    y_stride=y.stride,
                    tiles=1,
                    groups=8,
                    add=0,
                    count_at=State.COUNT,
                )
                exact = x.astype(np.int64) @ (w.codes.astype(np.int64) - w.scheme.zero).T
                np.testing.assert_array_equal(y.values, exact)


@pytest.mark.parametrize(("name", "scheme"), [*((n, "q4") for n in EVERYWHERE), (HERE, "q8")])
def test_matmul_act(name: str, scheme: str) -> None:
    rng = np.random.default_rng(8)
    for case, (rows, columns, count) in enumerate(CASES):
        m = Memory()
        w = random_codes(rng, scheme, rows, columns)
        a = rng.normal(size=(count, columns)).astype(np.float32)
        x = m.rows(a)
        y, add = result(m, rng, count, rows, case)
        bias, bias_values = bias_of(m, rng, rows, case)
        run(
            m,
            "matmul_act",
            tag_of(name, scheme),
            count=count,
            x=x.address,
            x_stride=x.stride,
            **w.lines(m),
            bias=bias,
            y=y.address,
            y_stride=y.stride,
            tiles=w.tiles,
            columns=columns,
            add=int(add is not None),
            count_at=State.COUNT,
        )
        same_bits(y.values[:count], meaning.matmul_act(a, w.codes, w.scales, w.scheme.zero, bias_values, add))


@pytest.mark.parametrize(
    ("name", "scheme"), [*((n, "f16") for n in EVERYWHERE), (HERE, "f32"), (HERE, "bf16")]
)
def test_matmul_float(name: str, scheme: str) -> None:
    rng = np.random.default_rng(9)
    for case, (rows, columns, count) in enumerate(CASES):
        m = Memory()
        w = representable(rng.normal(size=(rows, columns)), scheme)
        a = rng.normal(size=(count, columns)).astype(np.float32)
        x = m.rows(a)
        y, add = result(m, rng, count, rows, case)
        bias, bias_values = bias_of(m, rng, rows, case)
        run(
            m,
            "matmul_float",
            tag_of(name, scheme),
            count=count,
            workers=2,
            x=x.address,
            x_stride=x.stride,
            weights=m.put(float_lines(w, scheme)).address,
            bias=bias,
            y=y.address,
            y_stride=y.stride,
            tiles=-(-rows // 16),
            columns=columns,
            add=int(add is not None),
            count_at=State.COUNT,
        )
        same_bits(y.values[:count], meaning.matmul_float(a, w, bias_values, add))


def test_twins_are_products() -> None:
    """The twins against NumPy's product in float64; int8 activations cost at most half a step a column."""
    rng = np.random.default_rng(10)
    w = random_codes(rng, "q4", 40, 96)
    values = (w.codes.astype(float) - 8) * np.repeat(w.scales.astype(float), 32, axis=1)
    a = rng.normal(size=(5, 96)).astype(np.float32)
    exact = a @ values.T
    size = np.abs(a) @ np.abs(values).T
    assert np.all(np.abs(meaning.matmul_act(a, w.codes, w.scales, 8) - exact) <= 1e-6 * size)
    assert np.all(np.abs(meaning.matmul_float(a, values.astype(np.float32)) - exact) <= 1e-6 * size)
    x = meaning.quantize(a)
    step = np.repeat(x.x_scale, 32, axis=1)
    bound = 0.5001 * step @ np.abs(values).T + 1e-6 * size
    assert np.all(np.abs(meaning.matmul(x, w.codes, w.scales, 8) - exact) <= bound)

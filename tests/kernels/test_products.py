"""Matrix products, bit for bit as they mean: shapes with tails everywhere, one token to many, bias, add."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from edgeq.formats.schemes import SCHEMES, dequantize
from edgeq.kernels import meaning
from edgeq.kernels.catalog import ROOM, Batch
from edgeq.kernels.matmul import BLOCK, FEW, chunk_start
from edgeq.kernels.row import CODES, FLOATS
from edgeq.simd.tag import Tag
from tests.kernels.calling import (
    Array,
    Buffer,
    Memory,
    Weights,
    random_weights,
    run,
    same_bits,
    spare,
    tag_of,
)
from tests.simd.rows import EVERYWHERE, HERE, on_machines, on_tiers

SHAPES = [(16, 32), (1, 1), (5, 7), (40, 64), (100, 33), (130, 96)]
COUNTS = [0, *range(1, 10), 130]
CASES = [
    (rows, columns, count) for rows, columns in SHAPES for count in (COUNTS if rows == 40 else (1, 4, 9))
]
SOME_FLOATS = ("f16", "fp8")  # with floats for rows and without
# more than one block of tokens, of int8 and of floats
INT8_CASES, FLOAT_CASES = ([*CASES, (40, BLOCK // 10 // size, 25)] for size in (1, 4))


def unpacking(tag: Tag) -> list[tuple[int, int, int]]:
    """Cases of as many tokens as codes are not unpacked once for, and a few more; and of several blocks."""
    least = FEW * tag.tokens
    around = [(40, 96, least + more) for more in (0, 1, 2, tag.tokens, tag.tokens + 1)]
    return [*around, (20, BLOCK // (least + tag.tokens) // 32 * 32, 2 * least + tag.tokens + 3)]


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


def room(w: Weights) -> int:
    """Bytes of a tile unpacked."""
    return ROOM * 32 * w.shape["groups"]


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


@pytest.mark.parametrize(("name", "scheme"), on_tiers())
def test_matmul(name: str, scheme: str) -> None:
    rng = np.random.default_rng(6)
    tag = tag_of(name, scheme)
    for case, (rows, columns, count) in enumerate(INT8_CASES + unpacking(tag)):
        m = Memory()
        w = random_weights(rng, scheme, rows, columns)
        x = int8_rows(rng, count, columns)
        y, add = result(m, rng, count, rows, case)
        rest = y.values[count:].copy()
        bias, bias_values = bias_of(m, rng, rows, case)
        at = Batch.OUTPUTS if case % 5 == 0 else Batch.COUNT
        run(
            m,
            "matmul",
            tag,
            count=count + 3 if at else count,
            wanted=range(count),
            workers=1 + case % 3,
            **m.quantized(x, spare(count, tag)),
            weights=w.put(m),
            bias=bias,
            y=y.address,
            y_stride=y.stride,
            **w.shape,
            add=int(add is not None),
            count_at=at,
            **m.scratch(room(w), 1 + case % 3),
        )
        same_bits(y.values[:count], meaning.matmul(x, w.parts, w.scheme, bias_values, add))
        same_bits(y.values[count:], rest)


def extreme(w: Weights, name: str, ends: tuple[int, int]) -> Iterator[None]:
    """The part all at one end, at the other, and by turns of 64 columns."""
    part = w.parts[name]
    by_turns = np.array(ends)[np.arange(part.shape[1]) * 4 // part.shape[1] % 2]
    for values in (*ends, by_turns):
        part[:] = values
        yield


@pytest.mark.parametrize(("name", "scheme"), on_tiers())
def test_matmul_at_the_corners(name: str, scheme: str) -> None:
    """Codes, sub-scales and activations at the ends of their ranges for many groups: nothing saturates."""
    tag, row = tag_of(name, scheme), SCHEMES[scheme]
    count = (FEW + 1) * tag.tokens + 1  # every way in which a tile comes by codes
    w = random_weights(np.random.default_rng(7), scheme, 16, 256)
    codes = row.values.shape[1]
    ends = {"codes": (int(row.values.argmin()) % codes, int(row.values.argmax()) % codes)}
    ends |= {n: (np.iinfo(p.dtype).min, np.iinfo(p.dtype).max) for n, p in w.parts.items() if "sub" in n}
    for part in row.arrays:
        if part.number:
            w.parts[part.name][:] = {"e8m0": 127, "ue4m3": 56}.get(part.number, 1)
    for _ in extreme(w, "codes", ends["codes"]):
        for _ in extreme(w, "sub", ends["sub"]) if "sub" in ends else [None]:
            for _ in extreme(w, "submin", ends["submin"]) if "submin" in ends else [None]:
                for sign in (127, -127):
                    m = Memory()
                    x = np.full((count, 256), sign, np.int8)
                    sums = meaning.halves(x.reshape(count, 8, 32))
                    q = meaning.Int8(x, np.ones((count, 8), np.float32), sums)
                    y = m.rows(np.zeros((count, 16), np.float32))
                    run(
                        m,
                        "matmul",
                        tag,
                        count=count,
                        **m.quantized(q, spare(count, tag)),
                        weights=w.put(m),
                        bias=0,
                        y=y.address,
                        y_stride=y.stride,
                        **w.shape,
                        add=0,
                        count_at=Batch.COUNT,
                        **m.scratch(room(w), 1),
                    )
                    same_bits(y.values, meaning.matmul(q, w.parts, row))


@pytest.mark.parametrize(("name", "scheme"), on_machines())
def test_matmul_act(name: str, scheme: str) -> None:
    rng = np.random.default_rng(8)
    tag = tag_of(name, scheme)
    for case, (rows, columns, count) in enumerate(FLOAT_CASES):
        m = Memory()
        w = random_weights(rng, scheme, rows, columns)
        a = rng.normal(size=(count, columns)).astype(np.float32)
        x = m.rows(a, spare(count, tag))
        y, add = result(m, rng, count, rows, case)
        bias, bias_values = bias_of(m, rng, rows, case)
        run(
            m,
            "matmul_act",
            tag,
            count=count,
            x=x.address,
            x_stride=x.stride,
            weights=w.put(m),
            bias=bias,
            y=y.address,
            y_stride=y.stride,
            tiles=w.shape["tiles"],
            columns=columns,
            add=int(add is not None),
            count_at=Batch.COUNT,
        )
        same_bits(y.values[:count], meaning.matmul_act(a, w.parts, w.scheme, bias_values, add))


@pytest.mark.parametrize(
    ("name", "scheme"),
    [*((name, scheme) for name in EVERYWHERE for scheme in FLOATS if name == HERE or scheme in SOME_FLOATS)],
)
def test_matmul_float(name: str, scheme: str) -> None:
    rng = np.random.default_rng(9)
    tag = tag_of(name, scheme)
    for case, (rows, columns, count) in enumerate(FLOAT_CASES):
        m = Memory()
        w = random_weights(rng, scheme, rows, columns)
        a = rng.normal(size=(count, columns)).astype(np.float32)
        x = m.rows(a, spare(count, tag))
        y, add = result(m, rng, count, rows, case)
        bias, bias_values = bias_of(m, rng, rows, case)
        run(
            m,
            "matmul_float",
            tag,
            count=count,
            workers=2,
            x=x.address,
            x_stride=x.stride,
            weights=w.put(m),
            bias=bias,
            y=y.address,
            y_stride=y.stride,
            tiles=w.shape["tiles"],
            columns=columns,
            add=int(add is not None),
            count_at=Batch.COUNT,
        )
        same_bits(y.values[:count], meaning.matmul_float(a, bias=bias_values, add=add, **w.numbers))


@pytest.mark.parametrize("scheme", CODES)
def test_twins_are_products(scheme: str) -> None:
    """The twins against NumPy's product in float64; int8 activations cost at most half a step a column."""
    rng = np.random.default_rng(10)
    w = random_weights(rng, scheme, 40, 96)
    values = dequantize(w.parts, w.scheme).astype(float)[:, :96]
    a = rng.normal(size=(5, 96)).astype(np.float32)
    exact = a @ values.T
    terms = meaning.Codes.of(w.parts, w.scheme)
    size = np.abs(a) @ np.abs(values).T
    if terms.min is not None:  # the two sums are rounded before one is taken from the other
        size = size + np.abs(a) @ np.abs(np.repeat(terms.min, w.scheme.group, axis=1) * 255.0)[:, :96].T
    assert np.all(np.abs(meaning.matmul_act(a, w.parts, w.scheme) - exact) <= 1e-6 * size)
    assert np.all(np.abs(meaning.matmul_float(a, values.astype(np.float32)) - exact) <= 1e-6 * size)
    x = meaning.quantize(a)
    step = np.repeat(x.x_scale, 32, axis=1)
    bound = 0.5001 * step @ np.abs(values).T + 1e-6 * size
    assert np.all(np.abs(meaning.matmul(x, w.parts, w.scheme) - exact) <= bound)

"""Kernels that work row by row, bit for bit: embedding, norms, quantization, rotation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.kernels import (
    meaning,
    meaning_attention,
    meaning_experts,
    meaning_far,
    meaning_recurrent,
    meaning_rows,
)
from edgeq.kernels.catalog import Batch
from edgeq.kernels.row import FLOATS
from edgeq.kernels.table import KERNELS
from tests.kernels.calling import (
    Array,
    Memory,
    float32_bits,
    random_weights,
    run,
    same_bits,
    tag_of,
)
from tests.simd.rows import EVERYWHERE, HERE, on_machines

COUNTS = [1, 2, 3, 5, 9]
COLUMNS = [1, 16, 31, 33, 64, 80, 129, 300]
EPSILON = 1e-5
COUNT, OUTPUTS = Batch.COUNT, Batch.OUTPUTS

MEANINGS = (meaning, meaning_attention, meaning_experts, meaning_far, meaning_recurrent, meaning_rows)


def activations(rng: np.random.Generator, *shape: int) -> Array:
    """Rows with outliers, zeros, whole groups of zeros and groups below the smallest scale."""
    x = rng.normal(size=shape) * np.exp2(rng.choice([0.0, 0.0, 0.0, 7.0, -9.0], shape))
    flat = x.reshape(-1, shape[-1])
    flat[rng.random(flat.shape) < 0.05] = 0.0
    flat[::3, :32] = 0.0
    flat[1::5, 32:64] *= 1e-33
    return x.astype(np.float32)


def same_int8(got: meaning.Int8, want: meaning.Int8, count: int) -> None:
    np.testing.assert_array_equal(got[0][:count], want.x)
    same_bits(got[1][:count], want.x_scale)
    np.testing.assert_array_equal(got[2][:count], want.x_sum)


def test_every_kernel_has_a_meaning() -> None:
    named = {name for name, row in KERNELS.items() if not row.plain}
    found = named & set(meaning_rows.KERNELS)
    found |= {name for name in named if any(callable(getattr(m, name, None)) for m in MEANINGS)}
    assert named == found


@pytest.mark.parametrize("columns", COLUMNS)
def test_quantize(columns: int) -> None:
    rng = np.random.default_rng(columns)
    for count in COUNTS:
        m = Memory()
        a = activations(rng, count, columns)
        rows = m.rows(a)
        operands, read = m.int8(count, columns)
        run(
            m,
            "quantize",
            tag_of(HERE),
            count=count,
            a=rows.address,
            a_stride=rows.stride,
            dim=columns,
            **operands,
        )
        same_int8(read(), meaning.quantize(a), count)


def test_quantized_rows_are_near() -> None:
    """Half a step and the rounding of the scale from what they stand for; codes between -127 and 127."""
    a = activations(np.random.default_rng(0), 50, 256)
    q = meaning.quantize(a)
    back = (q.x.reshape(50, 8, 32) * q.x_scale[..., None]).reshape(50, 256)
    assert np.all(np.abs(back - a) <= np.repeat(q.x_scale, 32, axis=1) * (0.50001 + 127 / 4096) + 1e-30)
    assert q.x.min() == -127 and q.x.max() == 127


@pytest.mark.parametrize("at", [0, 5, 16])
def test_a_nan_is_not_lost(at: int) -> None:
    """One NaN in a group shows in the group's scale, wherever it stands."""
    m = Memory()
    a = np.ones((1, 32), np.float32)
    a[0, at] = np.nan
    rows = m.rows(a)
    operands, read = m.int8(1, 32)
    run(m, "quantize", tag_of(HERE), count=1, a=rows.address, a_stride=rows.stride, dim=32, **operands)
    assert np.isnan(read()[1]).all()


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("count_at", [COUNT, OUTPUTS])
def test_norm(columns: int, count_at: int) -> None:
    """With OUTPUTS the wanted rows of x go to the first of the result."""
    rng = np.random.default_rng(columns)
    for count in COUNTS:
        m = Memory()
        every = list(range(count))
        rows = every if count_at == COUNT else sorted(rng.permutation(count)[: (count + 1) // 2].tolist())
        wanted = len(rows)
        a, weight = activations(rng, count, columns), rng.normal(size=columns).astype(np.float32)
        x = m.rows(a)
        common: dict[str, Any] = dict(
            weight=m.vector(weight).address, dim=columns, epsilon=float32_bits(EPSILON)
        )
        y = m.rows(np.full((wanted, columns), np.nan, np.float32))
        run(
            m,
            "norm",
            tag_of(HERE),
            count=count,
            wanted=rows,
            a=x.address,
            a_stride=x.stride,
            y=y.address,
            y_stride=y.stride,
            count_at=count_at,
            **common,
        )
        want = meaning.norm(a[rows], weight, EPSILON)
        same_bits(y.values, want)
        exact = a[rows] / np.sqrt((a[rows].astype(float) ** 2).mean(1, keepdims=True) + EPSILON)
        np.testing.assert_allclose(y.values, exact * weight, rtol=1e-6, atol=1e-30)
        operands, read = m.int8(wanted, columns)
        run(
            m,
            "norm_quantize",
            tag_of(HERE),
            count=count,
            wanted=rows,
            a=x.address,
            a_stride=x.stride,
            count_at=count_at,
            **common,
            **operands,
        )
        same_int8(read(), meaning.norm_quantize(a[rows], weight, EPSILON), wanted)


HEADS = [(1, 8), (3, 8), (4, 8), (2, 64), (1, 80), (2, 80), (5, 20), (3, 128)]


@pytest.mark.parametrize("weighted", ["all the same", "each its own", ""])
@pytest.mark.parametrize(("heads", "head_dim"), HEADS)
def test_norm_heads(heads: int, head_dim: int, weighted: str) -> None:
    rng = np.random.default_rng(heads)
    for count in COUNTS:
        m = Memory()
        a = activations(rng, count, heads * head_dim)
        weights = heads if weighted == "each its own" else 1
        weight = rng.normal(size=(weights, head_dim)).astype(np.float32) if weighted else None
        x = m.rows(a)
        run(
            m,
            "norm_heads",
            tag_of(HERE),
            count=count,
            x=x.address,
            x_stride=x.stride,
            heads=heads,
            kinds=weights,
            head_dim=head_dim,
            weight=0 if weight is None else m.vector(weight.reshape(-1)).address,
            epsilon=float32_bits(EPSILON),
        )
        same_bits(
            x.values,
            meaning.norm_heads(a.reshape(count, heads, head_dim), weight, EPSILON).reshape(count, -1),
        )


@pytest.mark.parametrize("columns", COLUMNS)
def test_copy(columns: int) -> None:
    """Of all rows, or of those that are wanted."""
    rng = np.random.default_rng(columns)
    for count, wanted in ((1, 1), (5, 2), (9, 9)):
        rows = np.sort(rng.permutation(count)[:wanted])
        for count_at, taken in ((COUNT, np.arange(count)), (OUTPUTS, rows)):
            m = Memory()
            a = activations(rng, count, columns)
            held, y = m.rows(a), m.rows(np.full((len(taken), columns), np.nan, np.float32))
            run(
                m, "copy", tag_of(HERE), count=count, wanted=rows, workers=2, a=held.address,
                a_stride=held.stride, y=y.address, y_stride=y.stride, dim=columns, count_at=count_at,
            )  # fmt: skip
            same_bits(y.values, meaning_rows.copy(a[taken]))


@pytest.mark.parametrize("kept", [0, 6, 32])
@pytest.mark.parametrize(("heads", "head_dim"), [*HEADS, (2, 2), (1, 34)])
def test_rotate(heads: int, head_dim: int, kept: int) -> None:
    """Against the twin, and the twin against turning complex numbers; the last `kept` columns of a head stay
    as they are.
    """
    turns = head_dim - kept
    if turns <= 0:
        pytest.skip("heads of fewer columns than are to be kept")
    rng = np.random.default_rng(heads)
    angle = rng.uniform(-4, 4, (40, turns // 2))
    cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    for count in COUNTS:
        m = Memory()
        a = activations(rng, count, heads * head_dim)
        x, c, s = m.rows(a), m.put(cosine), m.put(sine)
        run(
            m,
            "rotate",
            tag_of(HERE),
            count=count,
            position=7,
            x=x.address,
            x_stride=x.stride,
            cosine=c.address,
            sine=s.address,
            heads=heads,
            head_dim=head_dim,
            turned=turns,
        )
        by_head = a.reshape(count, heads, head_dim)
        now = slice(7, 7 + count)
        same_bits(x.values, meaning.rotate(by_head, cosine[now], sine[now]).reshape(count, -1))
        pairs = by_head[..., : turns // 2] + 1j * by_head[..., turns // 2 : turns]
        turned = pairs * np.exp(1j * angle[now])[:, None]
        want = np.concatenate([turned.real, turned.imag, by_head[..., turns:]], axis=-1).reshape(count, -1)
        np.testing.assert_allclose(x.values, want, rtol=1e-5, atol=2e-6 * np.abs(a).max())


@pytest.mark.parametrize(("name", "scheme"), on_machines())
def test_embed(name: str, scheme: str) -> None:
    rng = np.random.default_rng(4)
    for rows, columns in ((5, 7), (16, 32), (100, 130)):
        w = random_weights(rng, scheme, rows, columns)
        ids = rng.integers(0, rows, 9)
        m = Memory()
        columns = w.shape["groups"] * 32
        y = m.rows(np.full((9, columns), np.nan, np.float32))
        run(
            m,
            "embed",
            tag_of(name, scheme),
            count=9,
            ids=m.put(ids).address,
            y=y.address,
            y_stride=y.stride,
            **w.shape,
            weights=w.put(m),
        )
        same_bits(y.values, meaning.embed(ids, w.parts, w.scheme)[:, :columns])


@pytest.mark.parametrize("name", EVERYWHERE)
def test_argmax(name: str) -> None:
    """The first of the largest; -1 for a row with NaN or infinity anywhere."""
    rng = np.random.default_rng(6)
    for columns in (1, 16, 33, 500):
        y = np.round(rng.normal(size=(12, columns)) * 2).astype(np.float32)  # with ties
        y[9, columns // 2], y[10, -1], y[11, 0] = np.nan, np.inf, -np.inf
        m = Memory()
        rows, out = m.rows(y), m.put(np.full(12, -7, np.int64))
        run(
            m,
            "argmax",
            tag_of(name),
            count=12,
            y=rows.address,
            y_stride=rows.stride,
            columns=columns,
            likeliest=out.address,
            count_at=COUNT,
        )
        np.testing.assert_array_equal(out.values, meaning.argmax(y))
        assert (out.values[9:] == -1).all() and (out.values[:9] >= 0).all()


@pytest.mark.parametrize("scheme", FLOATS)
def test_embed_float(scheme: str) -> None:
    rng = np.random.default_rng(5)
    for rows, columns in ((5, 7), (16, 32), (100, 130)):
        w = random_weights(rng, scheme, rows, columns)
        ids = rng.integers(0, rows, 9)
        m = Memory()
        y = m.rows(np.full((9, columns), np.nan, np.float32))
        run(
            m,
            "embed_float",
            tag_of(HERE, scheme),
            count=9,
            ids=m.put(ids).address,
            y=y.address,
            y_stride=y.stride,
            weights=w.put(m),
            tiles=w.shape["tiles"],
            columns=columns,
        )
        same_bits(y.values, meaning.embed_float(ids, **w.numbers))


# ---- how exact exp and silu are ----
EXP_ERROR = 2.4e-7  # relative, over -87..88; measured 2.26e-7
EXP2_ERROR = 1.8e-7  # relative, over -126..127; measured 1.67e-7
TANH_ERROR = 2.8e-7  # relative; measured 2.71e-7
SILU_ERROR = 3.2e-7  # relative, over -80..100; measured 2.90e-7


def test_exp2_is_as_exact_as_it_says() -> None:
    """And at most 1 of what is not above 0, so that no probability is rounded to more than WIDE_MAX."""
    x = np.concatenate([np.linspace(-126, 127, 1_000_001), np.linspace(-1, 1, 200_001)]).astype(np.float32)
    got = meaning.exp2(x)
    assert np.abs(got / np.exp2(x.astype(np.float64)) - 1).max() < EXP2_ERROR
    assert got[x <= 0].max() == meaning.exp2(np.float32(0.0)) == 1.0
    lowest = np.repeat(np.float32(2.0**-126), 3)
    same_bits(meaning.exp2(np.array([-1e30, -127.0, -np.inf], np.float32)), lowest)
    with np.errstate(invalid="ignore"):
        assert np.isnan(meaning.exp2(np.array([np.nan], np.float32))).all()


def test_exp_is_as_exact_as_it_says() -> None:
    x = np.linspace(-87, 88, 1_000_003).astype(np.float32)
    error = np.abs(meaning.exp(x) / np.exp(x.astype(np.float64)) - 1).max()
    assert EXP_ERROR / 2 < error < EXP_ERROR
    assert meaning.exp(np.float32(0.0)) == 1.0
    same_bits(meaning.exp(np.array([-1e30, -88.0, -np.inf])), np.repeat(meaning.exp(np.array([-87.0])), 3))


def test_tanh_is_as_exact_as_it_says() -> None:
    """Its bits are tested where attention caps scores."""
    tiny = np.geomspace(1e-37, 1.0, 100_001)
    x = np.concatenate([np.linspace(-12, 12, 2_000_000), tiny, -tiny]).astype(np.float32)
    error = np.abs(meaning.tanh(x) / np.tanh(x.astype(np.float64)) - 1).max()
    assert TANH_ERROR / 2 < error < TANH_ERROR
    ends = np.array([0.0, np.inf, 3e38, -np.inf, -3e38, np.nan], np.float32)
    np.testing.assert_array_equal(meaning.tanh(ends), np.array([0, 1, 1, -1, -1, np.nan], np.float32))


def test_silu_is_as_exact_as_it_says() -> None:
    """Through the kernel, with up = 1."""
    x = np.linspace(-100, 100, 500_000).astype(np.float32).reshape(50, -1)
    m = Memory()
    gate, up, y = m.rows(x), m.rows(np.ones_like(x)), m.rows(np.zeros_like(x))
    run(
        m,
        "gated_silu",
        tag_of(HERE),
        count=50,
        gate=gate.address,
        gate_stride=gate.stride,
        up=up.address,
        up_stride=up.stride,
        y=y.address,
        y_stride=y.stride,
        dim=x.shape[1],
        each=1,
    )
    same_bits(y.values, meaning.silu(x))
    wide = x.astype(np.float64)
    exact = wide / (1 + np.exp(-wide))
    inside = (np.abs(x) > 0) & (x > -80)
    error = np.abs(y.values[inside] / exact[inside] - 1).max()
    assert SILU_ERROR / 2 < error < SILU_ERROR
    assert np.abs(y.values[~inside] - exact[~inside]).max() < 1e-32

"""Activations, LayerNorm and what is done to rows between the products, bit for bit and beside the exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeq.kernels import meaning_rows as meaning
from edgeq.kernels.catalog import Batch
from edgeq.kernels.table import ALONE, GATES, KERNELS, NORMED_GATES
from tests.kernels.calling import Array, Memory, float32_bits, run, same_bits, tag_of
from tests.kernels.test_rows import COLUMNS, COUNTS, EPSILON, HEADS, activations, same_int8
from tests.simd.rows import EVERYWHERE, HERE

COUNT, OUTPUTS = Batch.COUNT, Batch.OUTPUTS
XIELU = dict(positive=0.8, negative=1.3, slope=0.5, highest=-1e-6)


def erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x.astype(float))


EXACT: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "clamped": lambda x: 2 * np.minimum(x, 7) / (1 + np.exp(-1.702 * np.minimum(x, 7))),  # of rows of ones
}


FORMS = (*ALONE, *(f"gated_{name}" for name in (*GATES, *NORMED_GATES)))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_activation(columns: int, name: str) -> None:
    rng = np.random.default_rng(columns)
    gated = name.startswith("gated_")
    for count in COUNTS:
        m = Memory()
        rows = [activations(rng, count, columns) for _ in range(2 if gated else 1)]
        held = [m.rows(row) for row in rows]
        if gated:
            given = dict(
                gate=held[0].address,
                up=held[1].address,
                gate_stride=held[0].stride,
                up_stride=held[1].stride,
                each=1,
            )
        else:
            given = dict(a=held[0].address, a_stride=held[0].stride)
        if f"{name}_quantize" in KERNELS:
            operands, read = m.int8(count, columns)
            run(m, f"{name}_quantize", tag_of(HERE), count=count, workers=2, dim=columns, **given, **operands)
            same_int8(read(), meaning.KERNELS[f"{name}_quantize"](*rows), count)
        y = m.rows(np.full((count, columns), np.nan, np.float32))
        run(m, name, tag_of(HERE), count=count, y=y.address, y_stride=y.stride, dim=columns, **given)
        same_bits(y.values, meaning.KERNELS[name](*rows))


@pytest.mark.parametrize("activation", FORMS)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_activation_everywhere(name: str, activation: str) -> None:
    """On every instruction set of the machine, and near to what it means; of gates with rows of ones."""
    x = np.concatenate([np.linspace(-30, 30, 3000), np.linspace(-2, 2, 3000), [0.0, 1e-30, -1e-30, 90, -90]])
    x = x.astype(np.float32).reshape(1, -1)
    m = Memory()
    a, y = m.rows(x), m.rows(np.zeros_like(x))
    given: dict[str, Any] = dict(a=a.address, a_stride=a.stride)
    gated = activation.startswith("gated_")
    if gated:
        up = m.rows(np.ones_like(x))
        given = dict(gate=a.address, gate_stride=a.stride, up=up.address, up_stride=up.stride, each=1)
    given |= dict(y=y.address, y_stride=y.stride)
    run(m, activation, tag_of(name), count=1, dim=x.shape[1], **given)
    same_bits(y.values, meaning.KERNELS[activation](*(x, np.ones_like(x))[: 1 + gated]))
    with np.errstate(over="ignore"):
        exact = EXACT[activation.removeprefix("gated_")](x.astype(float))
    np.testing.assert_allclose(y.values, exact, rtol=2e-6, atol=6e-7)


@pytest.mark.parametrize("name", GATES)
def test_several_rows_of_a_token(name: str) -> None:
    """As mixtures have them."""
    rng = np.random.default_rng(1)
    tokens, each, columns = 3, 4, 80
    m = Memory()
    rows = [activations(rng, tokens * each, columns) for _ in range(2)]
    gate, up = map(m.rows, rows)
    given: dict[str, Any] = dict(
        gate=gate.address, gate_stride=gate.stride, up=up.address, up_stride=up.stride, each=each, dim=columns
    )
    y = m.rows(np.full((tokens * each, columns), np.nan, np.float32))
    run(m, f"gated_{name}", tag_of(HERE), count=tokens, y=y.address, y_stride=y.stride, **given)
    same_bits(y.values, meaning.KERNELS[f"gated_{name}"](*rows))
    operands, read = m.int8(tokens * each, columns)
    run(m, f"gated_{name}_quantize", tag_of(HERE), count=tokens, workers=2, **given, **operands)
    same_int8(read(), meaning.KERNELS[f"gated_{name}_quantize"](*rows), tokens * each)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_clamped_gate(name: str) -> None:
    """Of rows within and beyond its bounds, and of what is no number in either."""
    gate, up = np.random.default_rng(1).normal(scale=8, size=(2, 1, 2000)).astype(np.float32)
    gate[0, :4], up[0, :6] = (np.nan, np.inf, -np.inf, 7), (0, np.inf, 1, -7, np.nan, -np.inf)
    m = Memory()
    a, b, y = m.rows(gate), m.rows(up), m.rows(np.zeros_like(gate))
    run(
        m, "gated_clamped", tag_of(name), count=1, gate=a.address, gate_stride=a.stride, up=b.address,
        up_stride=b.stride, each=1, y=y.address, y_stride=y.stride, dim=2000,
    )  # fmt: skip
    same_bits(y.values, meaning.clamped(gate, up))
    g, u = np.minimum(gate, 7).astype(float), np.clip(up, -7, 7).astype(float)
    with np.errstate(all="ignore"):
        exact = (u + 1) * g / (1 + np.exp(-1.702 * g))
    found = np.isfinite(exact)
    np.testing.assert_allclose(y.values[found], exact[found], rtol=2e-6, atol=6e-7)
    assert np.isnan(y.values[0, [0, 4]]).all() and np.isfinite(y.values[0, 1])


def test_not_finite_rows_stay_so() -> None:
    with np.errstate(all="ignore"):
        for name in FORMS:
            rows = [np.array([value], np.float32) for value in (np.nan, 1.0)]
            assert np.isnan(meaning.KERNELS[name](*rows[: 1 + name.startswith("gated_")])).all()


@pytest.mark.parametrize("name", EVERYWHERE)
def test_xielu(name: str) -> None:
    x = np.concatenate([np.linspace(-40, 9, 2001), [0.0, -1e-7, -1e-6, -1e-5, -0.5, -0.4999]])
    x = x.astype(np.float32).reshape(1, -1)
    m = Memory()
    rows = m.rows(x)
    bits = {key: float32_bits(value) for key, value in XIELU.items()}
    run(m, "xielu", tag_of(name), count=1, x=rows.address, x_stride=rows.stride, dim=x.shape[1], **bits)
    same_bits(rows.values, meaning.xielu(x, **XIELU))
    wide, (p, n, s, e) = x.astype(float), XIELU.values()
    exact = np.where(wide > 0, p * wide**2 + s * wide, n * (np.expm1(np.minimum(wide, e)) - wide) + s * wide)
    np.testing.assert_allclose(rows.values, exact, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("count_at", [COUNT, OUTPUTS])
def test_layer_norm(columns: int, count_at: int, biased: bool) -> None:
    """With OUTPUTS the wanted rows of x go to the first of the result."""
    rng = np.random.default_rng(columns)
    for count in COUNTS:
        m = Memory()
        rows = (
            list(range(count))
            if count_at == COUNT
            else sorted(rng.permutation(count)[: -(-count // 2)].tolist())
        )
        a = rng.normal(1.5, 2.0, (count, columns)).astype(np.float32)
        weight, bias = rng.normal(size=(2, columns)).astype(np.float32)
        x, y = m.rows(a), m.rows(np.full((len(rows), columns), np.nan, np.float32))
        common: dict[str, Any] = dict(
            count=count,
            wanted=rows,
            a=x.address,
            a_stride=x.stride,
            weight=m.vector(weight).address,
            bias=m.vector(bias).address if biased else 0,
            dim=columns,
            epsilon=float32_bits(EPSILON),
            count_at=count_at,
        )
        run(m, "layer_norm", tag_of(HERE), y=y.address, y_stride=y.stride, **common)
        given = a[rows], weight, bias if biased else None, EPSILON
        same_bits(y.values, meaning.layer_norm(*given))
        wide = a[rows].astype(float)
        wide = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + EPSILON) * weight
        np.testing.assert_allclose(y.values, wide + bias * biased, rtol=2e-5, atol=2e-5)
        operands, read = m.int8(len(rows), columns)
        run(m, "layer_norm_quantize", tag_of(HERE), **common, **operands)
        same_int8(read(), meaning.layer_norm_quantize(*given), len(rows))


@pytest.mark.parametrize(("heads", "head_dim"), HEADS)
def test_layer_norm_heads(heads: int, head_dim: int) -> None:
    rng = np.random.default_rng(heads)
    for count in COUNTS:
        m = Memory()
        a, weight = activations(rng, count, heads * head_dim), rng.normal(size=(heads, head_dim))
        x = m.rows(a)
        run(
            m,
            "layer_norm_heads",
            tag_of(HERE),
            count=count,
            x=x.address,
            x_stride=x.stride,
            heads=heads,
            head_dim=head_dim,
            weight=m.vector(weight.astype(np.float32).reshape(-1)).address,
            epsilon=float32_bits(EPSILON),
        )
        want = meaning.layer_norm_heads(a.reshape(count, heads, head_dim), weight.astype(np.float32), EPSILON)
        same_bits(x.values, want.reshape(count, -1))


@pytest.mark.parametrize("columns", COLUMNS)
def test_sums_of_rows(columns: int) -> None:
    rng = np.random.default_rng(columns)
    for count in COUNTS:
        a, b = activations(rng, count, columns), activations(rng, count, columns)
        weight = rng.normal(size=columns).astype(np.float32)
        m = Memory()
        held, x, z = m.rows(a), m.rows(b), m.rows(b)
        given: dict[str, Any] = dict(count=count, a=held.address, a_stride=held.stride, dim=columns)
        run(m, "add", tag_of(HERE), x=x.address, x_stride=x.stride, factor=float32_bits(0.3), **given)
        same_bits(x.values, meaning.add(a, b, 0.3))
        normed = dict(
            weight=m.vector(weight).address, epsilon=float32_bits(EPSILON), factor=float32_bits(0.7)
        )
        run(m, "norm_add", tag_of(HERE), x=z.address, x_stride=z.stride, **normed, **given)
        same_bits(z.values, meaning.norm_add(a, weight, b, EPSILON, 0.7))


@pytest.mark.parametrize("cap", [0.0, 30.0])
@pytest.mark.parametrize("count_at", [COUNT, OUTPUTS])
def test_scale(count_at: int, cap: float) -> None:
    rng = np.random.default_rng(1)
    for columns in COLUMNS:
        a = (rng.normal(size=(5, columns)) * 20).astype(np.float32)
        m = Memory()
        x = m.rows(a)
        bits = dict(factor=float32_bits(1.7), cap=float32_bits(cap))
        run(
            m, "scale", tag_of(HERE), count=5, wanted=[1, 4], x=x.address, x_stride=x.stride, dim=columns,
            count_at=count_at, **bits,
        )  # fmt: skip
        want, touched = a.copy(), 5 if count_at == COUNT else 2
        want[:touched] = meaning.scale(a[:touched], 1.7, cap)
        same_bits(x.values, want)


def test_each_activation_has_the_kernels_that_are_used() -> None:
    assert {f"{name}_quantize" for name in FORMS} - KERNELS.keys() == {"gated_relu2_quantize"}
    assert {*FORMS} <= KERNELS.keys()


@pytest.mark.parametrize("columns", COLUMNS)
def test_add_positions(columns: int) -> None:
    rng = np.random.default_rng(columns)
    for count in COUNTS:
        m = Memory()
        a, table = (rng.normal(size=(n, columns)).astype(np.float32) for n in (count, count + 7))
        x, held = m.rows(a), m.put(table)
        run(
            m, "add_positions", tag_of(HERE), count=count, position=7, x=x.address, x_stride=x.stride,
            table=held.address, dim=columns, positions=count + 7,
        )  # fmt: skip
        same_bits(x.values, meaning.add_positions(a, table, 7))

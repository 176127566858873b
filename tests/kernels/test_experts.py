"""Kernels of mixtures of experts, bit for bit as they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.kernels import meaning
from edgeq.kernels import meaning_experts as mixtures
from tests.kernels.calling import (
    Array,
    Memory,
    float32_bits,
    random_weights,
    run,
    same_bits,
    spare,
    tag_of,
)
from tests.kernels.test_products import int8_rows, room
from tests.kernels.test_rows import activations, same_int8
from tests.simd.rows import EVERYWHERE, HERE

CASES = [(1, 4, 2), (3, 6, 3), (9, 20, 1), (33, 17, 17), (40, 128, 8)]  # tokens, experts, experts of a token


def scores_of(rng: np.random.Generator, count: int, experts: int) -> Array:
    """With ties, and a few that are far from all others."""
    scores = np.round(rng.normal(size=(count, experts)) * 3).astype(np.float32)
    return np.where(rng.random(scores.shape) < 0.05, scores * 20, scores).astype(np.float32)


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize(("count", "experts", "picked"), CASES)
def test_route(name: str, count: int, experts: int, picked: int) -> None:
    rng = np.random.default_rng(count)
    for scoring in ("softmax", "sigmoid"):
        for renormalize in (True, False):
            m = Memory()
            scales = rng.normal(size=experts).astype(np.float32) if renormalize else None
            scores, bias = scores_of(rng, count, experts), rng.normal(size=experts).astype(np.float32)
            biased = scoring == "sigmoid"
            rows, chosen = m.rows(scores), m.flat(count * picked, np.int32)
            shares = m.flat(count * picked, np.float32)
            run(
                m,
                "route",
                tag_of(name),
                count=count,
                workers=2,
                scores=rows.address,
                scores_stride=rows.stride,
                bias=m.vector(bias).address if biased else 0,
                scales=0 if scales is None else m.vector(scales).address,
                experts=experts,
                picked=picked,
                scoring=int(biased),
                renormalize=int(renormalize),
                factor=float32_bits(2.5),
                chosen=chosen.address,
                shares=shares.address,
            )
            given = picked, scoring, renormalize, 2.5, bias if biased else None
            want = mixtures.route(scores, *given, scales)
            np.testing.assert_array_equal(chosen.values.reshape(count, picked), want[0])
            same_bits(shares.values.reshape(count, picked), want[1])
            if renormalize:
                np.testing.assert_allclose(mixtures.route(scores, *given)[1].sum(1), 2.5, rtol=1e-5)


def test_scores_that_are_no_numbers_choose_some_expert() -> None:
    """No slot is out of the experts' range, whatever came of the router."""
    m = Memory()
    scores = np.full((3, 6), np.nan, np.float32)
    scores[1] = [np.inf, np.nan, -np.inf, np.inf, 1, 2]
    rows, chosen, shares = m.rows(scores), m.flat(9, np.int32), m.flat(9, np.float32)
    run(
        m, "route", tag_of(HERE), count=3, scores=rows.address, scores_stride=rows.stride, bias=0, scales=0,
        experts=6, picked=3, scoring=0, renormalize=1, factor=float32_bits(1.0), chosen=chosen.address,
        shares=shares.address,
    )  # fmt: skip
    assert chosen.values.min() >= 0 and chosen.values.max() < 6
    assert np.isnan(shares.values).any()


@pytest.mark.parametrize(("count", "experts", "picked"), CASES)
def test_slots(count: int, experts: int, picked: int) -> None:
    """Rows go to slots and come back from them, those of tokens and those of experts."""
    rng = np.random.default_rng(experts)
    chosen = np.stack([np.sort(rng.permutation(experts)[:picked]) for _ in range(count)]).astype(np.int32)
    want = mixtures.gather_slots(chosen, experts)
    m = Memory()
    given = {name: m.flat(count * picked, np.int32) for name in ("slots", "members")}
    ends = m.flat(experts, np.int32)
    addresses = {name: buffer.address for name, buffer in given.items()}
    run(
        m, "gather_slots", tag_of(HERE), count=count, workers=3, chosen=m.put(chosen).address, picked=picked,
        experts=experts, ends=ends.address, **addresses,
    )  # fmt: skip
    np.testing.assert_array_equal(given["slots"].values.reshape(count, picked), want.slots)
    np.testing.assert_array_equal(given["members"].values, want.members)
    np.testing.assert_array_equal(ends.values, want.ends)
    for columns in (1, 31, 64, 100):
        m = Memory()
        a, shares = activations(rng, count, columns), rng.random((count, picked), np.float32)
        rows, members = m.rows(a), m.put(want.members).address
        y = m.rows(np.full((count * picked, columns), np.nan, np.float32))
        common: dict[str, Any] = dict(count=count, workers=2, picked=picked, dim=columns)
        run(
            m, "gather", tag_of(HERE), a=rows.address, a_stride=rows.stride, members=members, y=y.address,
            y_stride=y.stride, **common,
        )  # fmt: skip
        same_bits(y.values, mixtures.gather(a, want.members))
        q = meaning.quantize(a)
        source = {name.replace("x", "a", 1): at for name, at in m.quantized(q, 0).items()}
        operands, read = m.int8(count * picked, columns)
        run(m, "gather_quantized", tag_of(HERE), members=members, **source, **operands, **common)
        same_int8(read(), mixtures.gather_quantized(q, want.members), count * picked)
        for add in (0, 1):
            x = m.rows(a)
            run(
                m, "add_slots", tag_of(HERE), a=y.address, a_stride=y.stride, slots=m.put(want.slots).address,
                shares=m.put(shares).address, x=x.address, x_stride=x.stride, add=add, **common,
            )  # fmt: skip
            before = a if add else np.zeros_like(a)
            same_bits(x.values, mixtures.add_slots(y.values, want.slots, shares, before))


@pytest.mark.parametrize("columns", [1, 31, 100])
def test_add_gated(columns: int) -> None:
    rng = np.random.default_rng(columns)
    a, x, gate = activations(rng, 5, columns), activations(rng, 5, columns), activations(rng, 5, 1)
    m = Memory()
    rows, to, gates = m.rows(a), m.rows(x), m.rows(gate)
    run(
        m, "add_gated", tag_of(HERE), count=5, workers=2, a=rows.address, a_stride=rows.stride,
        gate=gates.address, gate_stride=gates.stride, x=to.address, x_stride=to.stride, dim=columns,
    )  # fmt: skip
    same_bits(to.values, mixtures.add_gated(a, gate, x))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("scheme", ["q4", "q8", "e4", "k4", "f16", "bf16"])
@pytest.mark.parametrize(("count", "experts", "picked"), CASES[:4])
def test_matmul_experts(count: int, experts: int, picked: int, scheme: str, workers: int) -> None:
    """Of every expert its own slots, of none that has no slots anything."""
    rng = np.random.default_rng(count)
    width, columns, tag = 32, 96, tag_of(HERE, scheme)
    chosen = np.stack([np.sort(rng.permutation(experts)[:picked]) for _ in range(count)]).astype(np.int32)
    ends = mixtures.gather_slots(chosen, experts).ends
    w = random_weights(rng, scheme, experts * width, columns)
    slots, bias = count * picked, rng.normal(size=experts * width).astype(np.float32)
    room_for = (count + spare(count, tag)) * picked - slots
    for biased in (False, True):
        for kernel in (
            ("matmul_experts", "matmul_experts_act") if w.scheme.planes else ("matmul_experts_float",)
        ):
            m = Memory()
            y = m.rows(np.full((slots, width), np.nan, np.float32))
            own = bias if biased else None
            common: dict[str, Any] = dict(
                picked=picked,
                weights=w.put(m),
                bias=m.vector(bias).address if biased else 0,
                y=y.address,
                y_stride=y.stride,
                tiles=w.shape["tiles"],
                width=width,
                ends=m.put(ends).address,
                experts=experts,
            )
            if kernel == "matmul_experts":
                x = int8_rows(rng, slots, columns)
                common |= m.quantized(x, room_for) | m.scratch(room(w), workers)
                common["groups"] = w.shape["groups"]
                want = mixtures.matmul_experts(x, w.parts, w.scheme, ends, width, own)
            else:
                a = activations(rng, slots, columns)
                rows = m.rows(a, room_for)
                common |= dict(x=rows.address, x_stride=rows.stride, columns=columns)
                if w.scheme.planes:
                    want = mixtures.matmul_experts_act(a, w.parts, w.scheme, ends, width, own)
                else:
                    want = mixtures.matmul_experts_float(a, w.numbers["weights"], ends, width, own)
            run(m, kernel, tag, count=count, workers=workers, **common)
            same_bits(y.values, want)

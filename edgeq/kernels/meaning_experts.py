"""What kernels of mixtures of experts compute, in plain NumPy; see `meaning`. Slots are as in `experts`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgeq.formats.schemes import Parts, Scheme

from . import meaning
from .meaning import F32, LANES, Array, Int8, exp, fma, fold


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), the exponent at most 87."""
    return F32(1.0) / (F32(1.0) + exp(np.minimum(F32(0.0) - x, F32(87.0))))


def route(
    scores: Array,
    picked: int,
    scoring: str,
    renormalize: bool,
    factor: float,
    bias: Array | None = None,
    scales: Array | None = None,
) -> tuple[Array, Array]:
    """(int32 [tokens, picked] experts in ascending order, float32 [tokens, picked] shares) of scores float32
    [tokens, experts].
    """
    count, experts = scores.shape
    total = np.ones(count, F32)
    if scoring == "sigmoid":
        p = sigmoid(scores)
    else:
        p = exp(scores - scores.max(1, keepdims=True))
        lanes = np.zeros((count, LANES), F32)
        for i in range(0, experts, LANES):
            part = p[:, i : i + LANES]
            lanes[:, : part.shape[1]] = lanes[:, : part.shape[1]] + part
        total = fold(lanes)
    by = p if bias is None else p + bias
    chosen = np.sort(np.argsort(-by, axis=1, kind="stable")[:, :picked], axis=1).astype(np.int32)
    mine = np.take_along_axis(p, chosen, 1)
    if renormalize:
        total = np.zeros(count, F32)
        for i in range(picked):
            total = total + mine[:, i]
    shares = mine * (F32(factor) / total)[:, None]
    return chosen, shares if scales is None else shares * scales[chosen]


class Slots(NamedTuple):
    """int32: the slots of each token's experts [tokens, picked], the token of each slot [slots], and behind
    which slot each expert's end [experts].
    """

    slots: Array
    members: Array
    ends: Array


def gather_slots(chosen: Array, experts: int) -> Slots:
    order = np.argsort(chosen.reshape(-1), kind="stable").astype(np.int32)
    slots = np.empty(chosen.size, np.int32)
    slots[order] = np.arange(chosen.size, dtype=np.int32)
    ends = np.cumsum(np.bincount(chosen.reshape(-1), minlength=experts)).astype(np.int32)
    return Slots(slots.reshape(chosen.shape), order // chosen.shape[1], ends)


def gather(x: Array, members: Array) -> Array:
    return x[members]


def gather_quantized(x: Int8, members: Array) -> Int8:
    return Int8(*(part[members] for part in x))


def add_slots(y: Array, slots: Array, shares: Array, x: Array) -> Array:
    """x float32 [tokens, columns] and the rows of y, [slots, columns], in turn."""
    for j in range(slots.shape[1]):
        x = fma(shares[:, j, None], y[slots[:, j]], x)
    return x


def add_gated(y: Array, gate: Array, x: Array) -> Array:
    """x + sigmoid(gate) * y, the gate [tokens, 1]."""
    return fma(np.broadcast_to(sigmoid(gate), y.shape), y, x)


def _of_experts(product: Any, x: Any, width: int, ends: Array, of: Any) -> Array:
    """product(rows of x, e) for the slots of each expert e."""
    found, first = [], 0
    for e, end in enumerate(ends.tolist()):
        found.append(product(of(x, slice(first, end)), slice(e * width, (e + 1) * width)))
        first = end
    return np.concatenate(found)


def _rows(x: Any, rows: slice) -> Any:
    return Int8(*(part[rows] for part in x)) if isinstance(x, Int8) else x[rows]


def _bias(bias: Array | None, rows: slice) -> Array | None:
    return None if bias is None else bias[rows]


def matmul_experts(
    x: Int8, parts: Parts, scheme: Scheme, ends: Array, width: int, bias: Array | None = None
) -> Array:
    """y float32 [slots, width], of parts with the rows of all experts."""

    def product(rows: Int8, mine: slice) -> Array:
        own = {name: part[mine] for name, part in parts.items()}
        return meaning.matmul(rows, own, scheme, _bias(bias, mine))

    return _of_experts(product, x, width, ends, _rows)


def matmul_experts_act(
    x: Array, parts: Parts, scheme: Scheme, ends: Array, width: int, bias: Array | None = None
) -> Array:
    def product(rows: Array, mine: slice) -> Array:
        own = {name: part[mine] for name, part in parts.items()}
        return meaning.matmul_act(rows, own, scheme, _bias(bias, mine))

    return _of_experts(product, x, width, ends, _rows)


def matmul_experts_float(
    x: Array, weights: Array, ends: Array, width: int, bias: Array | None = None
) -> Array:
    def product(rows: Array, mine: slice) -> Array:
        return meaning.matmul_float(rows, weights[mine], _bias(bias, mine))

    return _of_experts(product, x, width, ends, _rows)

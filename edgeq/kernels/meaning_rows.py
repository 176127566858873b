"""What kernels compute that work row by row and not for every family, in plain NumPy; see `meaning`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .meaning import F32, LANES, Array, Int8, exp, fma, fold, norm, quantize, silu, tanh
from .meaning_experts import sigmoid
from .table import ALONE, GATES, NORMED_GATES


def _polynomial(x: Array, *coefficients: float) -> Array:
    """The highest one first, one fma each."""
    p = np.full(x.shape, coefficients[0], F32)
    for c in coefficients[1:]:
        p = fma(p, x, F32(c))
    return p


# ---- activations ----
def gelu(x: Array) -> Array:
    """x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3))), the exponent at most 87."""
    with np.errstate(all="ignore"):
        u = x * F32(1.5957691216057308) * fma(x * x, F32(0.044715), F32(1.0))
        least = np.where(F32(-87.0) > u, F32(-87.0), u)
        return x / (F32(1.0) + exp(F32(0.0) - least))


def gelu_erf(x: Array) -> Array:
    """x / 2 (1 + erf(x / sqrt(2))); erf up to 1 a polynomial, beyond 1 - t exp(-x^2 + p(t))."""
    with np.errstate(all="ignore"):
        y = x * F32(0.7071067811865476)
        square = y * y
        p = _polynomial(
            square,
            *(8.00655067037311e-05, -0.000805365018726129, 0.005192945798403472, -0.026856062671608227),
            *(0.11283634443744457, -0.37612629744671566, 1.1283791662251734),
        )
        t = F32(1.0) / fma(np.where(y < 0, F32(0.0) - y, y), F32(0.5), F32(1.0))
        q = _polynomial(
            t,
            *(0.12924978848823565, -0.11861951129541728, -0.34675415964623063, 0.29193708268195745),
            *(0.2987074924530602, 1.0138369544082066, -1.2665221105095283),
        )
        beyond = F32(1.0) - t * exp(q - square)
        large = np.where(y < 0, F32(0.0) - beyond, beyond)
        return F32(0.5) * x * (F32(1.0) + np.where(square < F32(1.0), y * p, large))


def relu2(x: Array) -> Array:
    """The square of x above 0, else 0."""
    positive = np.where(x < 0, F32(0.0), x)
    with np.errstate(over="ignore"):
        return positive * positive


def expm1(x: Array) -> Array:
    """exp(x) - 1 of x <= 0; above -0.5 x times a polynomial."""
    p = _polynomial(
        x,
        *(0.001123535712936743, 0.008188416797609167, 0.041628781147036414, 0.16666198662506718),
        *(0.4999997678014142, 1.0),
    )
    return np.where(F32(-0.5) < x, p * x, exp(x) - F32(1.0))


def xielu(x: Array, positive: float, negative: float, slope: float, highest: float) -> Array:
    """positive x^2 + slope x above 0, else negative (expm1(min(x, highest)) - x) + slope x."""
    with np.errstate(all="ignore"):
        low = F32(negative) * (expm1(np.where(F32(highest) < x, F32(highest), x)) - x)
        return fma(F32(slope), x, np.where(F32(0.0) < x, F32(positive) * x * x, low))


def clamped(gate: Array, up: Array) -> Array:
    """(u + 1) g sigmoid(1.702 g), with g the gate, at most 7, and u between -7 and 7."""
    with np.errstate(all="ignore"):
        g = np.where(F32(7.0) < gate, F32(7.0), gate)
        u = np.where(F32(7.0) < up, F32(7.0), np.where(up < F32(-7.0), F32(-7.0), up))
        scaled = g * F32(1.702)
        least = np.where(F32(-87.0) > scaled, F32(-87.0), scaled)
        return (u + F32(1.0)) * (g / (F32(1.0) + exp(F32(0.0) - least)))


def _activation(name: str, a: Array) -> Array:
    known = {"silu": silu, "gelu": gelu, "gelu_erf": gelu_erf, "relu2": relu2, "sigmoid": sigmoid}
    return known[name](a)


def _gated(name: str, gate: Array, up: Array) -> Array:
    """activation(gate) * up, but for the one that takes both."""
    return clamped(gate, up) if name == "clamped" else _activation(name, gate) * up


def _quantized(name: str, *rows: Array) -> Int8:
    return quantize(_gated(name, *rows) if len(rows) == 2 else _activation(name, *rows))


KERNELS: dict[str, Callable[..., Any]] = {
    **{name: partial(_activation, name) for name in ALONE},
    **{f"gated_{name}": partial(_gated, name) for name in (*GATES, *NORMED_GATES)},
    **{f"{name}_quantize": partial(_quantized, name) for name in ALONE},
    **{f"gated_{name}_quantize": partial(_quantized, name) for name in GATES},
}


# ---- norms, sums ----
def norm_add(a: Array, weight: Array, x: Array, epsilon: float, factor: float) -> Array:
    """x + factor * norm(a)."""
    return x + norm(a, weight, epsilon) * F32(factor)


def layer_norm(x: Array, weight: Array, bias: Array | None, epsilon: float) -> Array:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight (+ bias) over the last axis, in 16 lanes."""
    dim = x.shape[-1]
    total, squares = np.zeros((*x.shape[:-1], LANES), F32), np.zeros((*x.shape[:-1], LANES), F32)
    for line in _lines(x):
        total = total + line
    centred = x - (fold(total) / F32(dim))[..., None]
    for line in _lines(centred):
        squares = fma(line, line, squares)
    factor = F32(1.0) / np.sqrt(fold(squares) / F32(dim) + F32(epsilon))
    y = centred * factor[..., None] * weight
    return y if bias is None else y + bias


def layer_norm_quantize(x: Array, weight: Array, bias: Array | None, epsilon: float) -> Int8:
    return quantize(layer_norm(x, weight, bias, epsilon))


def layer_norm_heads(x: Array, weight: Array, epsilon: float) -> Array:
    """x float32 [count, heads, head_dim], every head with its weight [heads, head_dim]."""
    return layer_norm(x, weight, None, epsilon)


def _lines(x: Array) -> list[Array]:
    padded = np.zeros((*x.shape[:-1], -(-x.shape[-1] // LANES) * LANES), F32)
    padded[..., : x.shape[-1]] = x
    return [padded[..., i : i + LANES] for i in range(0, padded.shape[-1], LANES)]


def scale(x: Array, factor: float, cap: float) -> Array:
    """factor * x, and with a cap cap * tanh(that / cap)."""
    y = x * F32(factor)
    return F32(cap) * tanh(y / F32(cap)) if cap else y


def copy(a: Array) -> Array:
    """a [count, dim] once more."""
    return a.copy()


def add(a: Array, x: Array, factor: float) -> Array:
    """x + factor * a."""
    return x + a * F32(factor)


def add_positions(x: Array, table: Array, position: int) -> Array:
    """x [count, dim] + the rows of the table from `position` on."""
    return x + table[position : position + len(x)]

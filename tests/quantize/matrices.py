"""Random matrices and inputs that hang together, as those of models do."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats import SCHEMES, Parts
from edgeq.quantize.methods import METHODS
from edgeq.quantize.task import Seen, Task
from edgeq.runtime.dense import Dense

Array = np.ndarray[Any, Any]


def matrix(rows: int, columns: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, rows, columns]).standard_normal((rows, columns)).astype(np.float32)


def inputs(count: int, columns: int, seed: int = 0) -> Array:
    """Of very different sizes, each like others."""
    random = np.random.default_rng([seed, columns])
    mixed = random.standard_normal((count, columns)) + 2 * random.standard_normal((count, 4)) @ _mix(columns)
    return (mixed * np.exp(np.linspace(-1, 1, columns))).astype(np.float32)


def _mix(columns: int) -> Array:
    return np.random.default_rng(columns).standard_normal((4, columns))


def second_moments(x: Array) -> Array:
    """float32 [columns, columns], the mean of x x'."""
    found: Array = (x.astype(np.float64).T @ x / len(x)).astype(np.float32)
    return found


def task(dense: Dense, scheme: str, rows: int = 40, columns: int = 70, h: Array | None = None) -> Task:
    seen = Seen(second_moments(inputs(300, columns)) if h is None else h, dense)
    return Task(matrix(rows, columns), SCHEMES[scheme], seen, dense)


def error(found: Task, parts: Parts, h: Array | None = None) -> float:
    """tr(E h E') in float64."""
    assert found.seen is not None
    h = found.seen.h if h is None else h
    off = found.values(parts).astype(np.float64) - found.w
    return float(np.einsum("rj,jk,rk->", off, h, off))


def run(found: Task, *steps: str) -> Parts:
    parts: Parts | None = None
    for step in steps:
        parts = METHODS[step].run(found, parts)
    assert parts is not None
    return parts


def bits(parts: Parts) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(part).tobytes() for name, part in parts.items()}

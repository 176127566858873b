"""What a quantization will take, told before it begins: bytes of the file, memory, time."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.converters.source import Source
from edgeq.models import expected
from edgeq.models.experts import Config as Mixture
from edgeq.runtime.dense import Dense

if TYPE_CHECKING:
    from .quality import Quality

BASE_BYTES = 250 << 20  # of the process: Python, NumPy, numba and compiled kernels
SEARCH_SECONDS = 3e-7  # of a thread for a weight
COLUMN_SECONDS = 1.2e-9  # of a thread for a weight and a column of its matrix: GPTQ's and descent's own loops
TRIED = 512, 1024, 1024  # rows, columns and outputs of the product by which a machine is measured


@dataclass(frozen=True)
class Estimate:
    """bytes of the finished file, at the most; the largest memory of the process; seconds, roughly; tokens
    learnt from.
    """

    bytes: int
    memory: int
    seconds: float
    tokens: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Shapes:
    """The matrices of a model's largest layer, [rows, columns] each, and what stands beside the layers."""

    layers: int
    hidden: int
    matrices: tuple[tuple[int, int], ...]
    ends: tuple[tuple[int, int], ...]
    experts: tuple[tuple[int, int], ...] = ()  # of the matrices those of all experts, which are so many
    count: int = 1
    picked: int = 1  # for a token

    @classmethod
    def of(cls, source: Source) -> Shapes:
        layers: dict[str, list[tuple[tuple[int, int], bool]]] = {}
        ends, c = [], source.config
        for want in expected(source.family, c):
            if want.role == "vector":
                continue
            shape = (want.shape[0], want.shape[1])
            if want.name.startswith("blocks."):
                _, i, name = want.name.split(".", 2)
                layers.setdefault(i, []).append((shape, name.startswith("experts_")))
            else:
                ends.append(shape)
        largest = max(layers.values(), key=lambda rows: sum(prod(shape) for shape, _ in rows))
        found = cls(len(layers), c.hidden_size, tuple(shape for shape, _ in largest), tuple(ends))
        experts = tuple(shape for shape, stacked in largest if stacked)
        if not experts or not isinstance(c, Mixture):
            return found
        return replace(found, experts=experts, count=c.num_experts, picked=c.num_experts_per_tok)

    @property
    def weights(self) -> int:
        """Of a layer."""
        return sum(map(prod, self.matrices))

    @property
    def read(self) -> float:
        """Weights of a layer that a token is multiplied with."""
        return self.weights - sum(map(prod, self.experts)) * (1 - self.picked / self.count)


def memory(shapes: Shapes, tokens: int) -> int:
    """Bytes of memory for a calibration over so many tokens."""
    widest = max(columns for _, columns in shapes.matrices)
    largest = max(map(prod, shapes.matrices))
    apart = max((columns for _, columns in shapes.experts), default=0)
    moments = max(5 * widest * widest, (2 * shapes.count + 5) * apart * apart)
    layer = 4 * (2 * shapes.weights + moments + 8 * largest)
    rows = 2 * 4 * tokens * shapes.hidden
    end = 4 * 4 * max(map(prod, shapes.ends))
    return BASE_BYTES + rows + max(layer, end)


def seconds(shapes: Shapes, quality: Quality, dense: Dense, budget: bool) -> float:
    """Of this machine, as it is now."""
    every = shapes.layers * shapes.weights + sum(map(prod, shapes.ends))
    if not quality.tokens:
        return every * SEARCH_SECONDS / dense.workers
    columns = [columns for _, columns in shapes.matrices]
    passes = (4.0 if quality.follow else 2.0) + (2.0 if quality.follow else 0.0)
    token = passes * shapes.read + sum(n * n for n in sorted(set(columns))) * (4 if quality.follow else 2)
    tries = 2 if quality.follow else 1
    matrix = sum(rows * n * n for rows, n in shapes.matrices) * 8 * tries
    columns += [n for _, n in shapes.experts] * (shapes.count - 1)
    factors = sum(n**3 for n in columns) * (1 + 3 * quality.follow)
    products = shapes.layers * (token * quality.tokens + matrix + factors)
    loops = shapes.layers * sum(rows * n * n for rows, n in shapes.matrices) * COLUMN_SECONDS / 8 * tries
    found = products / rate(dense) + (every * SEARCH_SECONDS * 2 * tries + loops) / dense.workers
    return found * (1.6 if budget else 1.0)


def rate(dense: Dense) -> float:
    """Products a second."""
    n, columns, rows = TRIED
    x, w = np.ones((n, columns), np.float32), np.ones((rows, columns), np.float32)
    taken: list[float] = []
    for _ in range(4):
        start = time.perf_counter()
        dense.product(w, x)
        taken.append(time.perf_counter() - start)
    return n * columns * rows / sorted(taken)[1]


def fitting(shapes: Shapes, tokens: int, limit: int) -> int:
    """The most tokens, at most so many, whose memory is within a limit of bytes; 0 where none are."""
    room = limit - memory(shapes, 0)
    return max(0, min(tokens, room // (8 * shapes.hidden)))

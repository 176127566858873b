"""Activations rounded on their way into products, in float arithmetic: what the engine has no kernels for can
be held against what it has.

The float model goes layer by layer (`edgeq.calibrate.layers`) with another beside it, whose weights may be
others and whose rows are rounded where a product reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgeq.calibrate.layers import Head, Layer, embedded, floats_of
from edgeq.calibrate.moments import passed
from edgeq.converters.source import Source
from edgeq.cores import default_threads
from edgeq.errors import FormatError, UsageError
from edgeq.evaluate.windows import kld_of_rows
from edgeq.runtime.dense import Dense

Array = np.ndarray[Any, Any]
Weights = Callable[[str, Array], Array]  # of a matrix's name and its float32, what is in its place
TENSOR = -1  # in place of columns


@dataclass(frozen=True)
class Activations:
    """Signed integers of so many bits with one scale for so many columns of a token, TENSOR for all rows that
    a product ever reads, 0 for all columns: the largest magnitude divided by the largest integer. For TENSOR
    it is that of calibration, and what lies outside is clipped.
    """

    name: str
    bits: int
    columns: int
    about: str

    @property
    def static(self) -> bool:
        """Whether the scale is known before the rows are."""
        return self.columns == TENSOR

    def rounded(self, x: Array, largest: float | None = None) -> Array:
        """float32 [n, columns] of x, of which `largest` is what calibration found."""
        top = np.float32((1 << self.bits - 1) - 1)
        if self.static:
            if largest is None:
                raise UsageError(
                    f"activations {self.name} go by what a model does on a text, but there is none"
                )
            return steps(x, np.float32(largest) / top, top)
        width = self.columns or x.shape[1]
        found = np.zeros((len(x), -(-x.shape[1] // width) * width), np.float32)
        found[:, : x.shape[1]] = x
        groups = found.reshape(len(x), -1, width)
        groups[...] = steps(groups, np.abs(groups).max(axis=2, keepdims=True) / top, top)
        return found[:, : x.shape[1]]


def steps(x: Array, scale: Any, top: np.float32) -> Array:
    """The nearest of the multiples of a scale up to `top` times it."""
    with np.errstate(divide="ignore"):
        inverse = np.where(scale > 0, np.float32(1) / scale, np.float32(0))
    found: Array = np.clip(np.rint(x * inverse), -top, top) * scale
    return found


ACTIVATIONS: Mapping[str, Activations] = {
    row.name: row
    for row in (
        Activations("int8", 8, 32, "as the engine rounds them: a scale for 32 columns of a token"),
        Activations("int8-token", 8, 0, "a scale for each token"),
        Activations("int8-static", 8, TENSOR, "a scale for each product, from calibration"),
        Activations("int4", 4, 32, "4 bits, a scale for 32 columns of a token"),
        Activations("int4-128", 4, 128, "4 bits, a scale for 128 columns of a token"),
        Activations("int4-token", 4, 0, "4 bits, a scale for each token"),
        Activations("int4-static", 4, TENSOR, "4 bits, a scale for each product, from calibration"),
    )
}


@dataclass(frozen=True)
class Divergence:
    """Of a model from the float model: mean KLD in nats of the next-token distributions, the share of places
    with the same likeliest token, and how many these are: the second half of each window.
    """

    kld: float
    same_top: float
    tokens: int


def simulate(
    source: Source,
    ids: Array,
    activations: str | Activations | None = None,
    *,
    made: Source | None = None,
    weights: Weights | None = None,
    calibration: Array | None = None,
    threads: int | None = None,
    dense: Dense | None = None,
) -> Divergence:
    """How far a model with other weights, with rounded activations (a name of ACTIVATIONS) or with both goes
    from the float model `source` on windows of ids, int64 [windows, tokens].

    made: another source, such as a transform of it, that the other model begins with. weights(name, w): what
    is in a matrix's place; both ends are asked for as well. calibration: windows by which static scales are
    set, in the float model.
    """
    if dense is None:
        with Dense(threads or default_threads()) as own:
            return simulate(
                source, ids, activations, made=made, weights=weights, calibration=calibration, dense=own
            )
    other = made or source
    chosen = activation(activations) if isinstance(activations, str) else activations
    largest = None
    if chosen is not None and chosen.static and calibration is not None:
        largest = Run(other, dense).largest(calibration)
    exact, rounded = Run(source, dense), Run(other, dense, weights, chosen, largest)
    return compared(exact, exact.rows(ids), rounded, rounded.rows(ids))


def activation(name: str) -> Activations:
    """The row of that name; UsageError for a name that none has."""
    if name not in ACTIVATIONS:
        raise UsageError(f"activations {name!r:.80} are unknown; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


@dataclass
class Run:
    """A model with weights and activations of its own; `largest` magnitudes by the first matrix that reads
    them.
    """

    source: Source
    dense: Dense
    weights: Weights | None = None
    activations: Activations | None = None
    largest_of: Mapping[str, float] | None = None

    def rows(self, ids: Array) -> Array:
        """float32 [windows, tokens, hidden]: what comes to the last norm."""
        embed = self.put("embed", self.source.tensors["embed"].floats())
        windows = embedded(self.dense, self.source, embed, ids)
        for i in range(self.source.config.num_hidden_layers):
            arrays = {name: self.put(name, w) for name, w in floats_of(self.source, i).items()}
            layer = Layer(self.dense, self.source, i, ids.shape[1], arrays)
            for window in windows:
                for tap, rows in passed(layer, window):
                    rows[...] = self.read(tap.matrices[0], rows)
                window[...] = layer.x[: len(window)]
        if not np.isfinite(windows).all():
            raise FormatError("the model's rows are not finite")
        return windows

    def put(self, name: str, w: Array) -> Array:
        """A tensor, or what is in its place."""
        return w if self.weights is None or w.ndim == 1 else self.weights(name, w).astype(np.float32)

    def read(self, name: str, x: Array) -> Array:
        """Rows as the product with a matrix reads them."""
        if self.activations is None:
            return x
        return self.activations.rounded(x, None if self.largest_of is None else self.largest_of[name])

    def largest(self, ids: Array) -> dict[str, float]:
        """The largest magnitude that comes to each product, by the first matrix that reads it."""
        found: dict[str, float] = {}

        class Seen(Run):
            def read(self, name: str, x: Array) -> Array:
                found[name] = max(found.get(name, 0.0), float(np.abs(x).max()))
                return x

        seen = Seen(self.source, self.dense, self.weights)
        rows = seen.rows(ids)
        for window in rows:
            for _ in seen.logits(window):
                pass
        return found

    def logits(self, rows: Array) -> Any:
        """float32 [some, vocabulary] after another, of rows before the last norm, [n, hidden]."""
        name = "output" if "output" in self.source.tensors else "embed"
        w = self.put(name, self.source.tensors[name].floats())
        yield from Head(self.dense, self.source, w).logits(rows, partial(self.read, name))


def compared(exact: Run, rows: Array, other: Run, others: Array) -> Divergence:
    """Of rows [windows, tokens, hidden] of two models, the divergence of the other from the exact one."""
    half = rows.shape[1] // 2
    total, same, count = 0.0, 0, 0
    flat = (x[:, half:-1].reshape(-1, x.shape[2]) for x in (rows, others))
    for p, q in zip(*(run.logits(x) for run, x in zip((exact, other), flat, strict=True)), strict=True):
        total += float(kld_of_rows(p, q).sum())
        same += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
        count += len(p)
    return Divergence(total / count, same / count, count)

"""Windows that go through a model layer by layer, in the float model and in the quantized one beside it; and
the layer between them, whose matrices are quantized on what comes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeq.calibrate.layers import Layer, Tap, floats_of
from edgeq.calibrate.moments import symmetric
from edgeq.converters.source import Source
from edgeq.errors import FormatError
from edgeq.formats import Scheme, dequantize
from edgeq.runtime.dense import Dense

from .ladder import Found, Judge, quantize_matrix
from .task import Seen

Array = np.ndarray[Any, Any]
Tick = Callable[[float], object]  # called with the share of a layer's work that was done since the last call

LEARN, JUDGE, REPORT = "learn", "judge", "report"
ELSEWHERE = "elsewhere"  # windows of another text, that figures are told of, too


@dataclass
class Streams:
    """The residual rows of windows, float32 [windows, tokens, hidden] by part: before a layer, after it.

    The quantized model's are there for the parts that anybody asks for.
    """

    exact: dict[str, Array]
    rounded: dict[str, Array]
    ahead: set[str] = field(default_factory=set)  # parts whose exact rows are behind the layer already

    @classmethod
    def of(cls, ids: Mapping[str, Array], exact: Array, rounded: Array, parts: Collection[str]) -> Streams:
        """From ids [windows, tokens] and both embeddings, float32 [vocabulary, hidden]; the quantized model's
        rows for these parts of the ids.
        """
        return cls(
            {part: exact[found] for part, found in ids.items()},
            {part: rounded[found] for part, found in ids.items() if part in parts},
        )


@dataclass
class Pair:
    """A layer of both models."""

    dense: Dense
    source: Source
    i: int
    window: int

    def __post_init__(self) -> None:
        arrays = floats_of(self.source, self.i)
        self.exact = Layer(self.dense, self.source, self.i, self.window, arrays)
        self.rounded = Layer(self.dense, self.source, self.i, self.window, arrays)

    @property
    def matrices(self) -> list[str]:
        """The names of those that are multiplied with, in the order of the pass."""
        return [name for tap in self.exact.taps for name in tap.matrices]

    def matrix(self, name: str) -> Array:
        """float32 [rows, columns] of the float model."""
        return self.source.tensors[name].floats()

    def put(self, name: str, w: Array) -> None:
        """A matrix as it is rounded, float32 of the same shape, into the quantized model's layer."""
        self.rounded.held.exchange(name, w)

    def advance(self, streams: Streams) -> None:
        """Both streams to behind the layer."""
        layers = (self.exact, streams.exact), (self.rounded, streams.rounded)
        for layer, parts in layers:
            for part, windows in parts.items():
                if layer is self.exact and part in streams.ahead:
                    continue
                for n in range(len(windows)):
                    windows[n] = layer.run(windows[n])
        streams.ahead.clear()
        self.source.let_pages_go()


def quantize_layer(
    pair: Pair,
    streams: Streams,
    schemes: Mapping[str, Scheme],
    steps: Sequence[str],
    follow: bool,
    seed: int,
    tick: Tick,
) -> Iterator[tuple[str, Found]]:
    """Each matrix of the layer with what it became, in the order of the pass; the pair holds it at once.

    With `follow` inputs are those of the quantized model so far, and what is wanted of outputs the float
    model's: of products that are added to the residual rows, what brings these back to the float model's.
    Otherwise inputs are the float model's.
    """
    dense = pair.dense
    for exact, rounded in zip(pair.exact.taps, pair.rounded.taps, strict=True):
        learnt = _moments(pair, streams, LEARN, exact, rounded, follow)
        judged = _moments(pair, streams, JUDGE, exact, rounded, follow)
        tick(0.5 / len(pair.exact.taps))
        with named(exact.matrices[0]):
            seen = Seen(learnt.h, dense)
        for name in exact.matrices:
            if name not in schemes:  # it stays what it is
                continue
            w = pair.matrix(name)
            judge = Judge(judged.h, judged.pull(w, dense), dense)
            with named(name):
                found = quantize_matrix(w, schemes[name], steps, seen, judge, learnt.pull(w, dense), seed)
            pair.put(name, dequantize(found.parts, schemes[name])[:, : w.shape[1]])
            tick(0.5 / len(pair.exact.taps) / len(exact.matrices))
            yield name, found


@contextmanager
def named(name: str) -> Iterator[None]:
    """A tensor's name before what is wrong with it."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"tensor {name!r}: {error}") from None


@dataclass(frozen=True)
class Between:
    """Of rows x that come to a tap of the quantized model: h, the mean of x x'; `drift`, of (x0 - x) x', x0
    the float model's; or, where the product is added to the residual rows, `wanted`, of (t - w x) x'.
    """

    h: Array
    drift: Array | None = None
    wanted: Array | None = None

    def pull(self, w: Array, dense: Dense) -> Array | None:
        """float32 [rows, columns], the mean of (t - w x) x' for a matrix w that reads the tap."""
        if self.wanted is not None or self.drift is None:
            return self.wanted
        return dense.product(np.ascontiguousarray(self.drift.T), w)


@np.errstate(all="ignore")  # what is not finite is refused by what it comes to
def _moments(pair: Pair, streams: Streams, part: str, exact: Tap, rounded: Tap, follow: bool) -> Between:
    """The last tap's pass takes the exact rows behind the layer."""
    dense, columns = pair.dense, exact.columns
    h, count = dense.zeros(columns, columns), 0
    adds, last = exact.adds, exact is pair.exact.taps[-1]
    w = pair.matrix(exact.matrices[0])
    other = dense.zeros(len(w) if adds else columns, columns) if follow else None
    for n, window in enumerate(streams.exact[part]):
        if other is None:
            pair.exact.start(window)
            pair.exact.until(exact.first)
            x = pair.exact.read(exact)
        else:
            pair.rounded.start(streams.rounded[part][n])
            pair.rounded.until(rounded.first)
            x = pair.rounded.read(rounded)
            pair.exact.start(window)
            if adds:
                pair.exact.until(exact.last)
                wanted = pair.exact.x[: len(x)] - pair.rounded.x[: len(x)]
                dense.moments(wanted - dense.product(w, x), x, other)
            else:
                pair.exact.until(exact.first)
                dense.moments(pair.exact.read(exact) - x, x, other)
        dense.gram(x, h)
        count += len(x)
        if last:
            pair.exact.until()
            window[...] = pair.exact.x[: len(window)]
    if last:
        streams.ahead.add(part)
    mean = symmetric(h)
    mean /= np.float32(count)
    if other is None:
        return Between(mean)
    other /= np.float32(count)
    return Between(mean, wanted=other) if adds else Between(mean, drift=other)

"""Windows that go through a model layer by layer, in the float model and in the quantized one beside it; and
the layer between them, whose matrices are quantized on what comes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgeq.calibrate.layers import Layer, Tap, embedded, floats_of
from edgeq.calibrate.moments import Moments, symmetric
from edgeq.converters.source import Source
from edgeq.errors import FormatError
from edgeq.formats import Scheme, dequantize
from edgeq.runtime.dense import Dense

from .experts import known_of, quantize_experts
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
    def of(
        cls,
        dense: Dense,
        source: Source,
        ids: Mapping[str, Array],
        exact: Array,
        rounded: Array,
        parts: Collection[str],
    ) -> Streams:
        """From ids [windows, tokens] and both embeddings, float32 [vocabulary, hidden]; the quantized model's
        rows for these parts of the ids.
        """
        return cls(
            {part: embedded(dense, source, exact, found) for part, found in ids.items()},
            {part: embedded(dense, source, rounded, ids[part]) for part in ids if part in parts},
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
        """The names of those that have a scheme of their own, in the order of the pass."""
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
    Otherwise inputs are the float model's. Experts' matrices have no such target: a token may come to other
    experts in the quantized model.
    """
    each = 1 / len(pair.exact.taps)
    for exact, rounded in zip(pair.exact.taps, pair.rounded.taps, strict=True):
        wanted = {name: schemes[name] for name in exact.matrices if name in schemes}
        if not wanted:  # they stay what they are
            tick(each)
            continue
        learnt = between(pair, streams, LEARN, exact, rounded, follow)
        judged = between(pair, streams, JUDGE, exact, rounded, follow)
        tick(each / 2)
        known = zip(learnt, judged, strict=True)
        for name, found in quantize_tap(pair.dense, pair.source, wanted, exact.experts, steps, known, seed):
            pair.put(name, dequantize(found.parts, schemes[name])[:, : exact.columns])
            tick(each / 2 / len(wanted))
            yield name, found


def quantize_tap(
    dense: Dense,
    source: Source,
    schemes: Mapping[str, Scheme],
    experts: int,
    steps: Sequence[str],
    known: Iterable[tuple[Between, Between]],
    seed: int,
) -> Iterator[tuple[str, Found]]:
    """Matrices that read the same rows, or those of so many experts, by what is known of the rows to learn
    from and of those to judge by: of all, or of each expert's.
    """
    first = next(iter(schemes))
    if experts:
        matrices = {name: source.tensors[name].floats() for name in schemes}
        told = (known_of(a.count, a.h, b.count, b.h, dense) for a, b in known)
        with named(first):
            made = quantize_experts(matrices, schemes, steps, told, experts, dense, seed)
        yield from made.items()
        return
    ((learnt, judged),) = known
    with named(first):
        seen = Seen(learnt.h, dense)
    for name, scheme in schemes.items():
        w = source.tensors[name].floats()
        judge = Judge(judged.h, judged.pull(w, dense), dense)
        with named(name):
            found = quantize_matrix(w, scheme, steps, seen, judge, learnt.pull(w, dense), seed)
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
    """Of so many rows x that come to a tap of the quantized model: h, the mean of x x'; `drift`, of
    (x0 - x) x', x0 the float model's; or, where the product is added to the residual rows, `wanted`, of
    (t - w x) x'.
    """

    count: int
    h: Array
    drift: Array | None = None
    wanted: Array | None = None

    @classmethod
    def of(cls, moments: Moments) -> Between:
        """Of the float model's own rows."""
        return cls(moments.count, moments.mean)

    def pull(self, w: Array, dense: Dense) -> Array | None:
        """float32 [rows, columns], the mean of (t - w x) x' for a matrix w that reads the tap."""
        if self.wanted is not None or self.drift is None:
            return self.wanted
        return dense.product(np.ascontiguousarray(self.drift.T), w)


@np.errstate(all="ignore")  # what is not finite is refused by what it comes to
def between(pair: Pair, streams: Streams, part: str, exact: Tap, rounded: Tap, follow: bool) -> list[Between]:
    """Of all rows, or of those that come to each expert. The last tap's pass takes the exact rows behind the
    layer.
    """
    dense, columns = pair.dense, exact.columns
    h = [dense.zeros(columns, columns) for _ in range(max(1, exact.experts))]
    counts = [0] * len(h)
    adds, last = exact.adds, exact is pair.exact.taps[-1]
    w = pair.matrix(exact.matrices[0]) if adds and follow else None
    other = None
    if follow and not exact.experts:
        other = dense.zeros(columns if w is None else len(w), columns)
    layer, tap, rows = (
        (pair.rounded, rounded, streams.rounded) if follow else (pair.exact, exact, streams.exact)
    )
    for n, window in enumerate(streams.exact[part]):
        layer.start(rows[part][n])
        layer.until(tap.first)
        shares = layer.shared(tap)
        if follow:
            pair.exact.start(window)
        if w is not None and other is not None:
            (x,) = shares
            pair.exact.until(exact.last)
            wanted = pair.exact.x[: len(x)] - pair.rounded.x[: len(x)]
            if exact.bias is not None:
                wanted -= exact.bias.values[: exact.bias.columns]
            dense.moments(wanted - dense.product(w, x), x, other)
        elif other is not None:
            (x,) = shares
            pair.exact.until(exact.first)
            dense.moments(pair.exact.read(exact) - x, x, other)
        for k, x in enumerate(shares):
            if len(x):
                dense.gram(x, h[k])
                counts[k] += len(x)
        if last:
            pair.exact.until()
            window[...] = pair.exact.x[: len(window)]
    if last:
        streams.ahead.add(part)
    found = []
    for count in counts:
        mean = symmetric(h.pop(0))
        mean /= np.float32(max(1, count))
        found.append(Between(count, mean))
    if other is None:
        return found
    other /= np.float32(counts[0])
    return [replace(found[0], wanted=other) if adds else replace(found[0], drift=other)]

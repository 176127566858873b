"""What rounding each matrix costs: by the error of its outputs (a proxy), and by the divergence of the whole
model with that one matrix rounded (leave one in).

All variants go through the layers together, so that each layer is in memory once: a matrix of layer i is a
variant from there on, which the exact layers behind it carry to the head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgeq.calibrate.layers import Head, Layer, embedded, floats_of
from edgeq.calibrate.moments import Moments, learn
from edgeq.converters.recipe import matrices
from edgeq.converters.source import Source
from edgeq.errors import FormatError
from edgeq.evaluate.windows import log_softmax
from edgeq.formats import SCHEMES, dequantize
from edgeq.runtime.dense import Dense

from .experts import Known, known_of, quantize_experts
from .ladder import Judge, significant
from .methods.search import importance, search
from .task import Seen, Task

Array = np.ndarray[Any, Any]

CANDIDATES = ("e2", "e3", "e4", "e5", "e6", "e8")  # schemes that a matrix may get
MEASURED = "e4"  # in which divergences are measured
SAMPLED = 64  # rows of a matrix, by whose errors schemes are compared
LEAST = 1e-12
VARIANT_BYTES = 600 << 20  # of the rows of all variants together


@dataclass(frozen=True)
class Sensitivity:
    """Of a matrix: `proxy`, the error of its outputs relative to their size, and `divergence`, the mean KLD
    in nats of the model with it alone rounded, both in the scheme MEASURED; and the squared error of its rows
    in each scheme, relative to that in MEASURED.
    """

    name: str
    weights: int
    proxy: float
    divergence: float
    errors: dict[str, float] = field(default_factory=dict)

    def cost(self, scheme: str) -> float:
        """The divergence to be expected of a scheme: it grows as the squared error does. Never 0 where an
        error is: what could not be measured still counts, behind all else.
        """
        return (self.divergence or LEAST * self.proxy) * self.errors[scheme]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def sensitivities(
    source: Source,
    dense: Dense,
    learn: Array,
    judge: Array,
    steps: Sequence[str],
    progress: Callable[[float, str], object],
) -> list[Sensitivity]:
    """Of every matrix, in file order. learn and judge are windows of ids, [windows, tokens]: what methods
    learn from, and what divergences are measured on, of which as many are taken as memory allows.
    """
    return _Sweep(source, dense, learn, judge, steps, progress).all()


def affordable(source: Source, judge: Array) -> Array:
    """Of windows of ids as many as all variants' rows have memory for, one at least."""
    row = 4 * source.config.hidden_size * judge.shape[1]
    names = matrices(source.family, source.config)
    return judge[: max(1, VARIANT_BYTES // (row * len(names)))]


class _Sweep:
    """One pass of all variants through the layers."""

    def __init__(
        self,
        source: Source,
        dense: Dense,
        learn: Array,
        judge: Array,
        steps: Sequence[str],
        progress: Callable[[float, str], object],
    ):
        self.source, self.dense, self.steps, self.progress = source, dense, steps, progress
        self.names = matrices(source.family, source.config)
        self.judge_ids = affordable(source, judge)
        embed = source.tensors["embed"].floats()
        self.learn = embedded(dense, source, embed, learn)
        self.exact = embedded(dense, source, embed, self.judge_ids)
        self.variants: dict[str, Array] = {}
        self.proxies: dict[str, float] = {}
        self.errors: dict[str, dict[str, float]] = {}
        self.ends: dict[str, Array] = {}  # of embedding and head, as rounded
        for name in self.names:
            if not name.startswith("blocks."):
                self._end(name, embed if name == "embed" else source.tensors[name].floats())
        if "embed" in self.ends:
            self.variants["embed"] = embedded(dense, source, self.ends["embed"], self.judge_ids)

    def _end(self, name: str, w: Array) -> None:
        """Embedding or head, of whose inputs nothing is known."""
        scheme = SCHEMES[MEASURED]
        task = Task(w, scheme, None, self.dense)
        self.ends[name] = task.values(search(task, None))
        off = self.ends[name] - w
        self.proxies[name] = significant(
            float(
                np.cumsum((off * off).sum(axis=1), dtype=np.float64)[-1]
                / (np.cumsum((w * w).sum(axis=1), dtype=np.float64)[-1] or 1.0)
            )
        )
        self.errors[name] = compared(w, [None], self.dense)

    def all(self) -> list[Sensitivity]:
        layers = self.source.config.num_hidden_layers
        for i in range(layers):
            self._layer(i)
            self.progress((i + 1) / (layers + 2), f"layer {i + 1} of {layers}")
        return self._found()

    def _layer(self, i: int) -> None:
        arrays = floats_of(self.source, i)
        layer = Layer(self.dense, self.source, i, self.learn.shape[1], arrays)
        moments = learn(layer, self.learn, self.dense)
        for rows in self.variants.values():
            for n, window in enumerate(rows):
                rows[n] = layer.run(window)
        scheme = SCHEMES[MEASURED]
        for shares in moments:
            names = shares[0].matrices
            known = [self._known(each, len(shares) > 1) for each in shares]
            made = quantize_experts(
                {name: arrays[name] for name in names},
                dict.fromkeys(names, scheme),
                self.steps,
                known,
                len(shares),
                self.dense,
                0,
            )
            for name in names:
                w = arrays[name]
                self.proxies[name] = significant(made[name].error)
                self.errors[name] = compared(w, [each and each.seen for each in known], self.dense)
                layer.held.exchange(name, dequantize(made[name].parts, scheme)[:, : w.shape[1]])
                self.variants[name] = np.stack([layer.run(window).copy() for window in self.exact])
                layer.held.exchange(name, w)
        for n, window in enumerate(self.exact):
            self.exact[n] = layer.run(window)

    def _known(self, moments: Moments, apart: bool) -> Known | None:
        """Judged by what is learnt from; of one expert of several there must be enough."""
        h, count = moments.mean, moments.count
        if apart:
            return known_of(count, h, count, h, self.dense)
        return Known(Seen(h, self.dense), Judge(h, None, self.dense), count)

    def _found(self) -> list[Sensitivity]:
        name = "output" if "output" in self.source.tensors else "embed"
        exact = Head(self.dense, self.source, self.source.tensors[name].floats())
        rounded = Head(self.dense, self.source, self.ends[name])
        if name == "output":
            self.variants["output"] = self.exact
        half = self.exact.shape[1] // 2
        totals, count = dict.fromkeys(self.names, 0.0), 0
        for n in range(len(self.exact)):
            log_p = np.concatenate(
                [log_softmax(x).astype(np.float32) for x in exact.logits(self.exact[n, half:-1])]
            )
            p = np.exp(log_p)
            count += len(p)
            for number, (variant, rows) in enumerate(self.variants.items()):
                head, done = rounded if variant == name else exact, 0
                for x in head.logits(rows[n, half:-1]):
                    log_q = log_softmax(x).astype(np.float32)
                    part = slice(done, done + len(x))
                    totals[variant] += float((p[part] * (log_p[part] - log_q)).sum(dtype=np.float64))
                    done += len(x)
                self.progress(0.95 + 0.05 * number / len(self.variants), variant)
        if not np.isfinite(list(totals.values())).all():
            raise FormatError("the model's predictions are not finite, so it cannot be calibrated")
        return [
            Sensitivity(
                each,
                int(np.prod(self.source.tensors[each].shape)),
                self.proxies[each],
                significant(max(totals[each], 0.0) / count),
                self.errors[each],
            )
            for each in self.names
        ]


def compared(w: Array, seen: Sequence[Seen | None], dense: Dense) -> dict[str, float]:
    """Of some rows of w the squared error in each of CANDIDATES, relative to that in MEASURED, columns
    counted as their inputs' squares where these are known: of all rows, or of each expert's.
    """
    found = dict.fromkeys(CANDIDATES, 0.0)
    for own, known in zip(np.split(w, len(seen)), seen, strict=True):
        rows = np.ascontiguousarray(own[:: max(1, len(w) // SAMPLED)][:SAMPLED])
        counts = np.ones(w.shape[1], np.float32) if known is None else known.squares
        for name in CANDIDATES:
            task = Task(rows, SCHEMES[name], known, dense)
            off = task.values(search(task, None) if known is None else importance(task, None)) - rows
            found[name] += float(np.cumsum((off * off * counts).sum(axis=1), dtype=np.float64)[-1])
    base = found[MEASURED] or 1.0
    return {name: significant(error / base) for name, error in found.items()}


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: of the ranks of two lists; ties by their place."""
    first, second = (np.argsort(np.argsort(np.asarray(x), kind="stable"), kind="stable") for x in (a, b))
    n = len(first)
    return 1 - 6 * float(((first - second) ** 2).sum()) / (n * (n * n - 1)) if n > 1 else 1.0


def bytes_of(source: Source, schemes: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Bytes of each matrix in each scheme."""
    from edgeq.formats import nbytes

    return {
        name: {scheme: nbytes(scheme, "lines16", source.tensors[name].shape) for scheme in schemes}
        for name in matrices(source.family, source.config)
    }

"""One quantization: calibration, the layers one after another, and the file at the end.

Memory holds one layer, the moments of one tap, and the residual rows of the windows; the disk, beside the
output, what is done so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.calibrate.documents import Document
from edgeq.calibrate.statistics import Statistics, identity
from edgeq.calibrate.windows import Windows, cut
from edgeq.converters import pipeline as converting
from edgeq.converters.recipe import Recipe
from edgeq.converters.source import Source
from edgeq.errors import EdgeqError, UsageError
from edgeq.formats import Scheme, decode, dequantize, encode
from edgeq.runtime.dense import Dense

from .budget import Budget, recipe_within
from .grid import has_grid
from .heldout import divergence
from .ladder import Found
from .methods import METHODS
from .quality import Quality
from .result import Result, steps_of
from .sensitivity import Sensitivity, sensitivities
from .streams import (
    ELSEWHERE,
    JUDGE,
    LEARN,
    REPORT,
    Between,
    Pair,
    Streams,
    named,
    quantize_layer,
    quantize_tap,
)
from .task import Task
from .transforms import Transform, transformed
from .work import Work

Array = np.ndarray[Any, Any]
Progress = Callable[[float, str], object]  # the share that is done, what is being done
Tell = Callable[[str], object]

ELSEWHERE_TOKENS = 4096
SENSITIVITY_WINDOWS = 32  # that are learnt from where matrices are only compared


@dataclass(frozen=True)
class Order:
    """What is to be done: a preset, the scheme of each matrix or a budget for them, texts to calibrate on or
    what was learnt of them before, and a seed.
    """

    quality: Quality
    recipe: Recipe
    budget: Budget | None = None
    texts: Sequence[Document] | None = None
    statistics: Statistics | None = None
    transforms: Sequence[str | Transform] = ()
    seed: int = 0
    examine: converting.Examine | None = None


class Run:
    """One quantization."""

    def __init__(
        self, source: Source, target: Path, order: Order, dense: Dense, progress: Progress, tell: Tell
    ):
        self.target, self.order, self.recipe = target, order, order.recipe
        self.quality, self.budget = order.quality, order.budget
        self.dense, self.progress, self.tell = dense, progress, tell
        self.schemes: dict[str, Scheme] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.windows: Windows | None = None
        self.other: Windows | None = None  # of edgeq's own text, where the calibration has another
        if order.statistics is not None:
            order.statistics.check(source)
        elif self.quality.tokens:
            self.windows = cut(source, order.texts, self.quality.tokens)
            if order.texts is not None:
                self.other = cut(source, None, ELSEWHERE_TOKENS)
        self.source = source
        if order.transforms:
            learn = self.windows.parts()[LEARN] if self.windows else None
            self.source = transformed(
                source,
                order.transforms,
                recipe=self.recipe,
                ids=learn,
                seed=order.seed,
                dense=dense,
                allow_requantize=True,
            )

    def _choose(self, work: Work) -> None:
        """The scheme of each matrix."""
        if self.budget is not None:
            self.recipe = self._within(self.budget, work)
        chosen = self.recipe.schemes(self.source.family, self.source.config)
        self.schemes = {name: scheme or self.source.tensors[name].scheme for name, scheme in chosen.items()}

    def _within(self, budget: Budget, work: Work) -> Recipe:
        """The best recipe that fits."""
        assert self.windows is not None
        kept = work.note("sensitivity")
        if kept is None:
            parts = self.windows.parts()
            found = sensitivities(
                self.source,
                self.dense,
                parts[LEARN][:SENSITIVITY_WINDOWS],
                parts[JUDGE],
                self.quality.steps,
                lambda share, what: self.progress(0.25 * share, f"sensitivity, {what}"),
            )
            kept = [row.to_json() for row in found]
            work.keep("sensitivity", kept)
        rows = [Sensitivity(**row) for row in kept]
        return recipe_within(budget, self.source, rows, self.quality.follow)

    @property
    def plan(self) -> dict[str, Any]:
        """What the bytes of the result follow from."""
        from edgeq import __version__

        return {
            "edgeq": __version__,
            "model": identity(self.source),
            "recipe": self.recipe.to_json() if self.budget is None else asdict(self.budget),
            "quality": self.quality.name,
            "steps": list(self.quality.steps),
            "follow": self.quality.follow,
            "seed": self.order.seed,
            "transforms": list(map(str, self.order.transforms)),
            "statistics": self._told(self.order.statistics),
            "tokens": self.windows.tokens if self.windows else 0,
            "text_sha256": self.windows.text_sha256 if self.windows else None,
        }

    def _told(self, statistics: Statistics | None) -> dict[str, Any] | None:
        """What moments are of."""
        if statistics is None:
            return None
        about = statistics.about
        found = {
            "text_sha256": about["text_sha256"],
            "tokens": statistics.tokens,
            "window": int(about["window"]),
        }
        return found | ({"diagonal": True} if statistics.diagonal else {})

    def all(self) -> Result:
        work = Work(self.target.with_name(self.target.name + ".quantizing"), self.plan)
        with work.held():
            if work.resumed:
                self.tell(f"going on from {work.path}")
            return self._all(work)

    def _all(self, work: Work) -> Result:
        self._choose(work)
        found = self._matrices(work)
        if unseen := sum(facts.get("experts_unseen", 0) for facts in self.facts.values()):
            self.tell(
                f"{unseen} matrices of experts, to which too little came, are rounded without calibration"
            )
        words: dict[str, Any] = {
            "quality": self.quality.name,
            "steps": list(self.quality.steps),
            "follow": self.quality.follow,
            "transforms": list(map(str, self.order.transforms)),
            "seed": self.order.seed,
        }
        if self.order.statistics is not None:
            words["calibration"] = self._told(self.order.statistics)
        if self.windows is not None:
            words["calibration"] = {
                "text_sha256": self.windows.text_sha256,
                "tokens": self.windows.tokens,
                "window": self.windows.length,
            }
            for part, key in ((REPORT, "held_out"), (ELSEWHERE, "held_out_elsewhere")):
                if part in found:
                    words[key] = {"kld": float(f"{found[part][0]:.3g}"), "tokens": found[part][1]}
            if self.other is not None:
                words["held_out_elsewhere"]["text_sha256"] = self.other.text_sha256
        total = max(1, len(self.schemes))
        done = 0

        def ready(name: str) -> Mapping[str, Array] | None:
            nonlocal done
            kept = work.load(name, self.schemes[name].name) if name in self.schemes else None
            done += name in self.schemes
            self.progress(0.98 + 0.02 * done / total, "writing")
            if kept is None and name in self.facts:
                raise EdgeqError(f"{work.path} was changed meanwhile: {name} is not what was kept there")
            return None if kept is None else kept[0]

        converting.write(
            self.source,
            self.target,
            self.recipe,
            None,
            ready=ready,
            words={"quantization": words},
            extra=self.facts,
            examine=self.order.examine,
        )
        work.remove()
        weights = sum(math.prod(self.source.tensors[name].shape) for name in self.schemes)
        plans = converting.planned(self.source.family, self.source.config, self.recipe, self.source.tensors)
        bits = 8 * sum(plan.nbytes for plan in plans if plan.name in self.schemes) / weights
        return Result(
            file=str(self.target),
            quality=self.quality.name,
            recipe=self.recipe.name,
            bits_per_weight=bits,
            divergence=found[REPORT][0] if found else None,
            divergence_tokens=found[REPORT][1] if found else 0,
            elsewhere=found[ELSEWHERE][0] if ELSEWHERE in found else None,
            elsewhere_tokens=found[ELSEWHERE][1] if ELSEWHERE in found else 0,
            elsewhere_sha256=self.other.text_sha256 if self.other else None,
            window=self.windows.length if self.windows else 0,
            text_sha256=self.windows.text_sha256 if self.windows else None,
            text_tokens=self.windows.tokens if self.windows else 0,
            helped=steps_of(self.facts, "method"),
            undone=steps_of(self.facts, "undone"),
        )

    # ---- the matrices ----
    def _matrices(self, work: Work) -> dict[str, tuple[float, int]]:
        """All of them into the work's folder; the divergence of the whole on each part of the windows that
        figures are told of, and the tokens that it is of.
        """
        layers = self.source.config.num_hidden_layers
        begun = 0.25 if self.budget else 0.0
        share = (0.96 - begun) / (layers + 1)
        for name in [name for name in self.schemes if not name.startswith("blocks.")]:
            self._alone(work, name)
        self.progress(begun + share, "embedding and head")
        if self.order.statistics is not None:
            self._by_statistics(work, self.order.statistics)
            return {}
        if self.windows is None:
            names = [name for name in self.schemes if name.startswith("blocks.")]
            for n, name in enumerate(names):
                self._alone(work, name, self.quality.steps)
                self.progress(share + (0.96 - share) * (n + 1) / len(names), name)
            return {}
        streams = self._streams(work)
        for i in range(layers):
            done = begun + share * (i + 1)

            def tick(part: float, i: int = i) -> None:
                nonlocal done
                done += share * part * 0.9
                self.progress(min(done, begun + share * (i + 2)), f"layer {i + 1} of {layers}")

            pair = Pair(self.dense, self.source, i, self.windows.length)
            self._layer(work, pair, streams, tick)
            pair.advance(streams)
        return self._divergence(work, streams)

    def _by_statistics(self, work: Work, statistics: Statistics) -> None:
        """All matrices of the layers, by what was learnt of their inputs before."""
        taps = statistics.taps
        for n, tap in enumerate(taps):
            wanted = {name: self.schemes[name] for name in tap.names if not self._moves(name)}
            kept = {name: work.load(name, scheme.name) for name, scheme in wanted.items()}
            self.facts |= {name: found[1] for name, found in kept.items() if found is not None}
            left = {name: scheme for name, scheme in wanted.items() if kept[name] is None}
            for name in left:
                self._check_grid(name)
            if left:
                known = (
                    (
                        Between.of(statistics.moments(LEARN, tap, k)),
                        Between.of(statistics.moments(JUDGE, tap, k)),
                    )
                    for k in range(tap.parts)
                )
                self._keep(
                    work,
                    quantize_tap(
                        self.dense, self.source, left, tap.experts, self.quality.steps, known, self.order.seed
                    ),
                )
            self.progress(0.05 + 0.9 * (n + 1) / len(taps), tap.names[0])

    def _keep(self, work: Work, quantized: Iterable[tuple[str, Found]]) -> None:
        for name, made in quantized:
            self.facts[name] = made.facts
            work.save(name, made.parts, self.schemes[name].name, made.facts)

    def _check_grid(self, name: str) -> None:
        """UsageError where the scheme of a matrix is not one that methods choose codes of."""
        if not has_grid(self.schemes[name]):
            raise UsageError(
                f"scheme {self.schemes[name].name} of {name} is not one that calibration works on"
            )

    def _moves(self, name: str) -> bool:
        """Whether the converter writes a matrix without choosing codes: as a plain number, or as it is
        stored.
        """
        scheme = self.schemes[name]
        return not scheme.planes or scheme.holds(self.source.tensors[name].scheme)

    def _alone(self, work: Work, name: str, steps: Sequence[str] = ("search",)) -> None:
        """A matrix of which nothing is known but its weights, by steps that are not judged."""
        scheme = self.schemes[name]
        kept = work.load(name, scheme.name)
        if kept is None:
            if self._moves(name):
                return
            w = self.source.tensors[name].floats()
            with named(name):
                task, parts = Task(w, scheme, None, self.dense, self.order.seed), None
                for step in steps:
                    parts = METHODS[step].run(task, parts)
            assert parts is not None
            self.facts[name] = {"method": "+".join(steps)}
            work.save(name, parts, scheme.name, self.facts[name])
        else:
            self.facts[name] = kept[1]

    def _layer(self, work: Work, pair: Pair, streams: Streams, tick: Callable[[float], object]) -> None:
        wanted = {}
        for name in pair.matrices:
            if self._moves(name):
                pair.put(name, self._rounded(work, name, pair.matrix(name)))
            else:
                self._check_grid(name)
                wanted[name] = self.schemes[name]
        kept = {name: work.load(name, scheme.name) for name, scheme in wanted.items()}
        if all(kept.values()):
            for name, found in kept.items():
                assert found is not None
                pair.put(name, dequantize(found[0], wanted[name])[:, : self.source.tensors[name].shape[1]])
                self.facts[name] = found[1]
            tick(1.0)
            return
        steps, follow = self.quality.steps, self.quality.follow
        self._keep(work, quantize_layer(pair, streams, wanted, steps, follow, self.order.seed, tick))

    def _streams(self, work: Work) -> Streams:
        assert self.windows is not None
        exact = self.source.tensors["embed"].floats()
        ids = self.windows.parts()
        if self.other is not None:
            ids[ELSEWHERE] = self.other.ids
        asked = ids if self.quality.follow else (REPORT, ELSEWHERE)
        rounded = self._rounded(work, "embed", exact)
        return Streams.of(self.dense, self.source, ids, exact, rounded, asked)

    def _rounded(self, work: Work, name: str, exact: Array) -> Array:
        """A matrix, float32 `exact`, as the result has it."""
        scheme = self.schemes[name]
        kept = work.load(name, scheme.name)
        if kept is not None:
            return dequantize(kept[0], scheme)[:, : exact.shape[1]]
        return exact if scheme.planes else decode(encode(exact, scheme), scheme, exact.shape)

    def _divergence(self, work: Work, streams: Streams) -> dict[str, tuple[float, int]]:
        told = {
            part: (streams.exact[part], streams.rounded[part])
            for part in (REPORT, ELSEWHERE)
            if part in streams.exact
        }
        for rows in (streams.exact, streams.rounded):  # the head needs their room
            rows.clear()
        name = "output" if "output" in self.source.tensors else "embed"
        w = self.source.tensors[name].floats()
        rounded_w = self._rounded(work, name, w)
        return {
            part: divergence(self.dense, self.source, exact, rounded, w, rounded_w)
            for part, (exact, rounded) in told.items()
        }

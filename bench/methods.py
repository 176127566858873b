"""What each method, transform and preset of quantization does to a model: mean KLD from the float model on
text that nothing was learnt from, the same windows for all.

usage: python -m bench.methods MODEL CALIBRATION TEXT [--windows N] [--calibrate N] [--threads N] [--only
WORD]

MODEL is a checkpoint of floats, CALIBRATION and TEXT are files of text; of one .json file of a list
FILE.json:A-B takes the documents from A up to B - 1. Weights are rounded, activations are not, but where a
row says so. Embedding and head have 8 bits in all rows. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeq import tokenizer
from edgeq.calibrate.documents import Document, read
from edgeq.calibrate.windows import windows
from edgeq.converters.pipeline import open_source
from edgeq.converters.recipe import choose
from edgeq.converters.source import Source
from edgeq.quantize.activations import ACTIVATIONS, Run, activation, compared
from edgeq.quantize.methods import METHODS
from edgeq.quantize.presets import PRESETS
from edgeq.quantize.quality import LADDER
from edgeq.quantize.transforms import Rotate, Setting, Transform, transformed
from edgeq.quantize.transforms.base import observed
from edgeq.quantize.trial import TABLE, rounded
from edgeq.runtime.dense import Dense

IMPORTANCE, GPTQ = ("importance",), ("search", "importance", "gptq")
Way = tuple[str | Transform, ...]


@dataclass(frozen=True)
class Case:
    """A row: the scheme of the blocks ("": floats throughout), what is done first, the steps, and
    activations.
    """

    scheme: str
    steps: tuple[str, ...] = ()
    transforms: Way = ()
    activations: str = ""
    preset: str = ""

    @property
    def label(self) -> str:
        """For people."""
        words = [t if isinstance(t, str) else described(t) for t in self.transforms]
        return (
            ", ".join(filter(None, [self.preset, *words, "+".join(self.steps), self.activations])) or "ends"
        )


def described(transform: Transform) -> str:
    """A transform with options, by those that are not the usual ones."""
    changed = {k: v for k, v in vars(transform).items() if v != getattr(type(transform)(), k)}
    return transform.name + "".join(f" {key}={value}" for key, value in changed.items())


def cases() -> Iterator[Case]:
    """All rows."""
    yield Case("f32")
    plain: tuple[tuple[str, ...], ...] = (("rtn",), ("stochastic",), ("hqq",), ("search",), IMPORTANCE)
    for steps in (*plain, ("rtn", "gptq"), ("hqq", "gptq"), GPTQ, LADDER):
        yield Case("e4", steps)
    for scheme in ("e4", "e3"):
        for steps in (IMPORTANCE, LADDER):
            yield Case(scheme, steps)
            yield Case(scheme, (TABLE, *steps))
    ways: tuple[Way, ...] = (
        ("awq",), ("smoothquant",), ("sinq",), (Rotate(residual=False),), (Rotate(),), (Rotate(tries=8),),
    )  # fmt: skip
    for way in ways:
        for steps in (("search",), IMPORTANCE, LADDER):
            yield Case("e4", steps, way)
    grouped: tuple[tuple[str, ...], ...] = (("rtn",), ("clip",), ("rtn", "gptq"), ("clip", "gptq"))
    for scheme in ("q4", "q4g128"):
        for steps in grouped:
            yield Case(scheme, steps)
        for way in (("awq",), ("sinq",), ("rotate",)):
            yield Case(scheme, ("clip",), way)
        yield Case(scheme, ("clip", "gptq"), ("awq",))
        yield Case(scheme, ("clip", "gptq"), ("rotate",))
    for scheme, steps in (
        ("q4m", ("rtn",)),
        ("q4m", ("hqq",)),
        ("nf4", ("rtn",)),
        ("q8r", ("rtn",)),
    ):
        yield Case(scheme, steps)
    for name in ACTIVATIONS:
        for way in ((), ("smoothquant",), ("rotate",)):
            yield Case("", (), way, name)
    for name, preset in PRESETS.items():
        yield Case(preset.scheme, preset.steps, preset.transforms, preset.activations, name)


def documents(words: str) -> list[Document]:
    """The documents of a file, or those from A to B - 1 of FILE:A-B."""
    match = re.fullmatch(r"(.*):(\d+)-(\d+)", words)
    return read([match[1]])[int(match[2]) : int(match[3])] if match else read([words])


@dataclass
class Bench:
    """A model, and what all rows share."""

    source: Source
    calibration: Any
    ids: Any
    dense: Dense

    def __post_init__(self) -> None:
        self.exact = Run(self.source, self.dense)
        self.rows = self.exact.rows(self.ids)
        self.made: dict[tuple[Way, str], tuple[Source, list[Any]]] = {}

    def layers(self, case: Case, recipe: Any) -> tuple[Source, list[Any]]:
        """The transformed source with the moments of its layers; the last one is kept."""
        key = (case.transforms, case.scheme if case.transforms else "")
        if key not in self.made:
            self.made = {kept: found for kept, found in self.made.items() if not kept[0]}
            made = transformed(
                self.source, case.transforms, recipe=recipe, ids=self.calibration, dense=self.dense
            )
            self.made[key] = made, list(observed(made, Setting({}, self.calibration, self.dense)))
        return self.made[key]

    def run(self, case: Case) -> dict[str, Any]:
        start = time.perf_counter()
        recipe = (
            PRESETS[case.preset].recipe
            if case.preset
            else choose(scheme=case.scheme or "f32", embed_scheme="e8", output_scheme="e8")
        )
        made, layers = self.layers(case, choose(scheme="e4") if not case.scheme else recipe)
        weights = rounded(made, recipe, case.steps, layers, self.dense) if case.scheme else {}
        activations = activation(case.activations) if case.activations else None
        largest = None
        if activations is not None and activations.static:
            largest = Run(made, self.dense).largest(self.calibration[:16])
        other = Run(made, self.dense, lambda name, w: weights.get(name, w), activations, largest)
        found = compared(self.exact, self.rows, other, other.rows(self.ids))
        return {
            "scheme": case.scheme,
            "case": case.label,
            "kld": float(f"{found.kld:.4g}"),
            "same_top": round(found.same_top, 5),
            "seconds": round(time.perf_counter() - start, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    for name in ("model", "calibration", "text"):
        parser.add_argument(name)
    for name, count in (("--windows", 16), ("--calibrate", 48), ("--threads", 1)):
        parser.add_argument(name, type=int, default=count)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    source = open_source(given.model)
    spoken = source.tokenizer()
    if spoken is None:
        parser.error("the model has no tokenizer")
    speaker = tokenizer.load(spoken[0], spoken[1], source.config.vocab_size)
    length = min(512, source.config.max_position_embeddings)
    ids = {
        name: windows(source, speaker, documents(words), count * length).ids[:count]
        for name, words, count in (
            ("calibration", given.calibration, given.calibrate),
            ("text", given.text, given.windows),
        )
    }
    found = []
    with Dense(given.threads) as dense:
        bench = Bench(source, ids["calibration"], ids["text"], dense)
        scored = len(ids["text"]) * (length - 1 - length // 2)
        print(f"{source.name}: {ids['calibration'].size} tokens of calibration, {scored} scored; KLD x 1000")
        done: dict[tuple[Any, ...], dict[str, Any]] = {}
        for case in cases():
            if given.only not in f"{case.scheme} {case.label}":
                continue
            same = (case.scheme, case.steps, case.transforms, case.activations)
            if same not in done:
                done[same] = bench.run(case)
            row = done[same] | {"case": case.label}
            found.append(row)
            kld, top = 1000 * row["kld"], 100 * row["same_top"]
            print(
                f"{row['scheme']:7s} {row['case']:48s} {kld:9.3f} {top:6.2f} % {row['seconds']:6.1f} s",
                flush=True,
            )
    print(json.dumps({"model": source.name, "scored": scored, "methods": sorted(METHODS), "rows": found}))


if __name__ == "__main__":
    main()

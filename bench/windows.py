"""What far pages add to a model's divergence, by which positions are kept near, in NumPy.

usage: python -m bench.windows MODEL --text FILE [--bytes N] [--context N] [--windows N] [--kinds KIND,…]
    [--rules RULE,…] [--json]

The first page and the last two of a sequence are read in 8 bits, so that contexts of 512 tokens meet no far
page at all, and no figure of the engine says there what far pages cost: `bench.cache` asks the engine, this a
NumPy model of the pass (`bench.forward`) whose keys and values are what the kernels' meanings give
(`bench.coded`), under other rules as well:

    edgeq   the engine's own: near are chunk 0, the query's own and the one before
    64+64   near are the first 64 positions and the last 65 to 128
    4+64    near are the first 4 positions and the last 64
    none    all is far

The divergence (Kullback-Leibler, mean, in nats) is from the same model with an exact cache, over llama.cpp's
windows of the text; --windows takes so many of them, spread evenly. BARS were set for gutenberg-7m and the
first 120 000 bytes of wiki.test.raw in windows of 512, and are told at that context alone. MODEL is a Hugging
Face checkpoint or a GGUF file of the llama family. With --json the last line of stdout is one object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import cache
from bench.coded import Coded, Rule, exact
from bench.files import say
from bench.forward import Array, Forward
from bench.quality import spread
from edgeq.cache import KINDS
from edgeq.errors import EdgeqError
from edgeq.evaluate.windows import Windows, kld_of_rows, standard_error
from edgeq.kernels.catalog import CHUNK

EDGEQ = Rule("edgeq", CHUNK, 2 * CHUNK, CHUNK)
NONE = Rule("none", 0, 0)
RULES = (EDGEQ, Rule("64+64", 64, 128, 64), Rule("4+64", 4, 64), NONE)
KNOWN = {rule.name: rule for rule in RULES}
NEAR = "q8"  # the kind that is near everywhere
BARS = {(kind, rule.name): cache.BARS[kind] for kind in ("k8v4", "q4", "q2") for rule in RULES[:-1]}
BARS |= {(NEAR, "-"): cache.BARS[NEAR], ("q4", NONE.name): 3e-3}
BARS_CONTEXT = 512


@dataclass(frozen=True)
class Row:
    """What a kind of cache adds under a rule, at each scored token."""

    kind: str
    rule: str
    klds: Array  # float64 [tokens]
    same: Array  # bool [tokens], whether the likeliest token stays
    bar: float | None

    @property
    def kld(self) -> float:
        return float(self.klds.mean())

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "rule": self.rule,
            "kld": self.kld,
            "kld_se": standard_error(self.klds),
            "same": float(self.same.mean()),
            "bar": self.bar,
        }

    def line(self) -> str:
        bar = f"{1e3 * self.bar:9.4f}" if self.bar else f"{'-':>9}"
        over = " over" if self.bar and self.kld > self.bar else ""
        added = f"{1e3 * self.kld:10.5f} ± {1e3 * standard_error(self.klds):.5f}"
        return f"{self.kind:6}{self.rule:8}{added}{self.same.mean():9.2%}{bar}{over}"


def measured(
    model: Forward, windows: Windows, rows: Sequence[int], kinds: Sequence[str], rules: Sequence[Rule] = RULES
) -> Iterator[Row]:
    """A row for q8 and for each kind under each rule, over the windows of these numbers."""
    wanted = [(NEAR, None), *((kind, rule) for kind in kinds for rule in rules)]
    attentions = [attention_of(kind, rule, windows.context) for kind, rule in wanted]
    klds: dict[Coded, list[Array]] = {each: [] for each in attentions}  # once each: some rows share theirs
    same: dict[Coded, list[Array]] = {each: [] for each in attentions}
    for n, ids in enumerate(windows.ids[rows]):
        say(f"window {n + 1} of {len(rows)}")
        truth = model.logits(ids, exact, windows.first)[:-1]
        for attention in klds:
            found = model.logits(ids, attention, windows.first)[:-1]
            klds[attention].append(kld_of_rows(truth, found))
            same[attention].append(truth.argmax(1) == found.argmax(1))
    for (kind, rule), attention in zip(wanted, attentions, strict=True):
        name = rule.name if rule else "-"
        bar = BARS.get((kind, name)) if windows.context == BARS_CONTEXT else None
        yield Row(kind, name, np.concatenate(klds[attention]), np.concatenate(same[attention]), bar)


def attention_of(kind: str, rule: Rule | None, context: int) -> Coded:
    """The attention of a kind under a rule: that of q8 where a window has nothing far."""
    places = np.arange(context)
    if rule is None or not np.tril(rule.far(places, places)).any():
        return Coded(KINDS[NEAR], None)
    return Coded(KINDS[kind], rule)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.windows", description=__doc__, formatter_class=raw)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--bytes", type=int, default=120_000, help="of the text, from its beginning [120000]")
    parser.add_argument("--context", type=int, default=512, help="tokens of a window, whole chunks [512]")
    parser.add_argument("--windows", type=int, help="how many, spread evenly [all]")
    parser.add_argument("--kinds", default="k8v4,q4,q2", help="separated by commas [k8v4,q4,q2]")
    parser.add_argument("--rules", default=",".join(KNOWN), help="separated by commas [all]")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kinds = [kind for kind in given.kinds.split(",") if kind]
    rules = [rule for rule in given.rules.split(",") if rule]
    coded = [name for name, kind in KINDS.items() if kind.has_far]
    if unknown := [kind for kind in kinds if kind not in coded]:
        sys.exit(f"no cache with far pages is called {', '.join(unknown)}; there are {', '.join(coded)}")
    if unknown := [rule for rule in rules if rule not in KNOWN]:
        sys.exit(f"no rule is called {', '.join(unknown)}; there are {', '.join(KNOWN)}")
    if given.context % CHUNK:
        sys.exit(
            f"a window of {given.context} tokens is not of whole chunks: a multiple of {CHUNK} is needed"
        )
    text = given.text.read_bytes()[: given.bytes].decode(errors="ignore")
    try:
        model = Forward(given.model)
        windows = model.windows(text, given.context)
    except EdgeqError as error:
        sys.exit(str(error))
    rows = spread(windows.count, given.windows)
    print(f"KLD x 1000 from an exact cache, all in NumPy; {len(rows)} of {windows.count} windows")
    print(f"{'kind':6}{'near':8}{'KLD':>10}{'':10}{'same':>9}{'bar':>9}")
    found = []
    for row in measured(model, windows, rows, kinds, [KNOWN[rule] for rule in rules]):
        found.append(row.to_json())
        print(row.line(), flush=True)
    if given.json:
        about = {"model": given.model.name, "text": given.text.name, "bytes": given.bytes}
        protocol = {
            "context": windows.context,
            "windows": len(rows),
            "tokens": len(rows) * windows.scored_per_window,
        }
        print(json.dumps({**about, **protocol, "rows": found}))


if __name__ == "__main__":
    main()

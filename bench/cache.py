"""What each kind of cache adds to a model's divergence, beside llama.cpp's kinds.

usage: python -m bench.cache MODEL --text FILE [--bytes N] [--context N] [--kinds KIND,…] [--threads N]
    [--json]

MODEL is a Hugging Face checkpoint or a GGUF file. Its weights are float32 in both engines, and edgeq's
activations too, so that nothing but the cache rounds: the Kullback-Leibler divergence (mean, in nats) is from
the same engine with a float32 cache, over llama.cpp's windows of the text. BARS were set for gutenberg-7m and
the first 120 000 bytes of wiki.test.raw in windows of 512. llama.cpp is asked through llama-cpp-python where
that is installed. With --json the last line of stdout is one object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import floats
from bench.files import say
from edgeq import engine
from edgeq.cache import KINDS
from edgeq.converters import convert
from edgeq.evaluate.divergence import Divergence, divergences
from edgeq.evaluate.windows import Windows, cut

EXACT = "f32"
BARS = {"q8": 0.015e-3, "q4": 0.06e-3, "k8v4": 0.02e-3, "q2": 2e-3}  # of the mean divergence
THEIRS = {  # llama.cpp's types of keys and values that take about as much room
    "f16": ("f16", "f16"),
    "q8": ("q8_0", "q8_0"),
    "k8v4": ("q8_0", "q4_0"),
    "q4": ("q4_0", "q4_0"),
}
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """A kind of cache: what it adds, and what llama.cpp's does, or why that is not known."""

    kind: str
    ours: Divergence
    theirs: Divergence | str

    @property
    def bar(self) -> float | None:
        return BARS.get(self.kind)

    def to_json(self) -> dict[str, Any]:
        known = None if isinstance(self.theirs, str) else self.theirs
        return {
            "kind": self.kind,
            "kld": self.ours.kld_mean,
            "kld_se": self.ours.kld_standard_error,
            "same": self.ours.agreement,
            "bar": self.bar,
            "llamacpp": " ".join(THEIRS.get(self.kind, ())),
            "llamacpp_kld": known.kld_mean if known else None,
            "llamacpp_kld_se": known.kld_standard_error if known else None,
            "llamacpp_why_not": None if known else self.theirs,
        }

    def line(self) -> str:
        bar = f"{1e3 * self.bar:9.4f}" if self.bar else f"{'-':>9}"
        over = " over" if self.bar and self.ours.kld_mean > self.bar else ""
        return f"{self.kind:6}{said(self.ours)}{self.ours.agreement:9.2%}{bar}{over:5}  {said(self.theirs)}"


def said(found: Divergence | str) -> str:
    if isinstance(found, str):
        return found
    return f"{1e3 * found.kld_mean:10.5f} ± {1e3 * found.kld_standard_error:.5f}"


def measured(model: Path, text: str, kinds: list[str], context: int, threads: int) -> Iterator[Row]:
    """A row for each kind."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "model.edgeq"), Path(folder, "model.gguf")
        convert(model, ours, scheme="f32")
        floats.write(model, theirs)
        with engine.load(ours, kv=EXACT, act="f32", threads=threads, context=context) as exact:
            windows = cut(exact, text, context)
            for kind in kinds:
                say(f"{model.name}: {kind}")
                with engine.load(ours, kv=kind, act="f32", threads=threads, context=context) as other:
                    found = divergences([other], exact, text, context=context)[0].figures
                yield Row(kind, found, of_llamacpp(theirs, windows, kind, threads))


def of_llamacpp(path: Path, windows: Windows, kind: str, threads: int) -> Divergence | str:
    """Of llama.cpp's twin of the kind from its own float32 cache, on the same windows."""
    from bench.llamacpp import LlamaCpp

    if kind not in THEIRS:
        return f"{NOT_MEASURED}: it has nothing alike"
    context = windows.context
    try:
        with ExitStack() as stack:
            exact, other = (
                stack.enter_context(LlamaCpp(path, context, threads, kv))
                for kv in ((EXACT, EXACT), THEIRS[kind])
            )
            ids = windows.ids.reshape(-1).tolist()
            return divergences([other], exact, ids, context=context)[0].figures
    except (ImportError, RuntimeError) as error:
        return f"{NOT_MEASURED}: {error}"


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.cache", description=__doc__, formatter_class=raw)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--bytes", type=int, default=120_000, help="of the text, from its beginning [120000]")
    parser.add_argument("--context", type=int, default=512, help="tokens of a window [512]")
    parser.add_argument("--kinds", default="", help="separated by commas [all but f32]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kinds = [kind for kind in given.kinds.split(",") if kind] or [kind for kind in KINDS if kind != EXACT]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        sys.exit(f"no cache is called {', '.join(unknown)}; there are {', '.join(KINDS)}")
    text = given.text.read_bytes()[: given.bytes].decode(errors="ignore")
    print("KLD x 1000 from a float32 cache, weights and activations float32")
    print(f"{'kind':6}{'edgeq':>13}{'':8}{'same':>9}{'bar':>9}{'':5}  llama.cpp")
    rows = []
    for row in measured(given.model, text, kinds, given.context, given.threads):
        rows.append(row)
        print(row.line(), flush=True)
    if given.json:
        about = {"model": given.model.name, "text": given.text.name, "bytes": given.bytes}
        protocol = {"context": given.context, "windows": rows[0].ours.windows if rows else 0}
        print(json.dumps({**about, **protocol, "rows": [row.to_json() for row in rows]}))


if __name__ == "__main__":
    main()

"""Long contexts: decode far into a text, on one thread and two, and long prompts, beside llama.cpp.

usage: python -m bench.long [TABLE …] [--threads 2] [--repeat 3] [--peer-python PYTHON] [--dir DIR] [--json]

TABLE is any of decode, heads and prefill; all without one. Random weights, Q4_0.

decode   1.1 B, INT8 cache: at 16 000 positions beside 64, and beside what the machine allows there (the
         slower of only reading weights and cache and only multiplying, at the rates measured beside it)
heads    a shape with one key-value head (of 256 dimensions, four queries): at 8000 positions with two threads
         beside one
prefill  1.1 B, 8192 tokens: beside llama.cpp with flash attention and its cache in 16 bits

Figures are the fastest of --repeat turns, the engines' by turns. The last line of stdout is one JSON object;
the exit code is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.files import decode_bytes, default_directory, prepare, say
from bench.peers import Worker, processor, warn_if_busy
from bench.scale import Machine, Model
from bench.weights import SHAPES
from edgeq.cli.terminal import table

BODY, ONE_HEAD = "tinyllama-1.1b", "one-kv-head"
FAR, NEAR, HEADS_AT, PROMPT = 16000, 64, 8000, 8192
TOKENS = 16
Rows = list[dict[str, Any]]


def row(what: str, value: float, bar: float, **facts: float) -> dict[str, Any]:
    return {"what": what, "ratio": round(value, 3), "bar": bar} | {k: round(v, 2) for k, v in facts.items()}


def decode(given: argparse.Namespace) -> Rows:
    files = prepare(given.dir, BODY, "q4_0")
    model, machine = Model(SHAPES[BODY], files.edgeq, "edgeq", files.edgeq), Machine()
    best = dict.fromkeys((NEAR, FAR), float("inf"))
    options = {"model": str(files.edgeq), "threads": given.threads, "context": FAR + TOKENS}
    with Worker("edgeq", options) as worker:
        for _ in range(given.repeat):
            asked = worker.ask(do="decode", prompt=FAR, tokens=TOKENS)
            best[FAR] = min(best[FAR], asked["seconds"])
    with Worker("edgeq", options) as worker:  # apart: to cut the context would be to compute it again
        for _ in range(3 * given.repeat):
            asked = worker.ask(do="decode", prompt=NEAR, tokens=TOKENS)
            best[NEAR] = min(best[NEAR], asked["seconds"])
    rates = machine.limits(given.threads)
    machine.close()
    near, far = (TOKENS / best[after] for after in (NEAR, FAR))
    limit = model.limit(rates, 1, FAR)
    return [
        row(f"decode at {FAR} / at {NEAR}", far / near, 0.5, far_tps=far, near_tps=near),
        row(f"decode at {FAR} / the machine's limit", far / limit, 0.69, far_tps=far, limit_tps=limit),
    ]


def heads(given: argparse.Namespace) -> Rows:
    path = prepare(given.dir, ONE_HEAD, "q4_0").edgeq
    best = {1: float("inf"), 2: float("inf")}
    options = {"model": str(path), "context": HEADS_AT + TOKENS}
    with (
        Worker("edgeq", {**options, "threads": 1}) as one,
        Worker("edgeq", {**options, "threads": 2}) as two,
    ):
        for _ in range(given.repeat):
            for threads, worker in ((1, one), (2, two)):
                asked = worker.ask(do="decode", prompt=HEADS_AT, tokens=TOKENS)
                best[threads] = min(best[threads], asked["seconds"])
    rates = {threads: TOKENS / seconds for threads, seconds in best.items()}
    facts = {"one_tps": rates[1], "two_tps": rates[2], "read_mb": decode_bytes(path) / 1e6}
    return [row(f"decode at {HEADS_AT}, 2 threads / 1", rates[2] / rates[1], 1.6, **facts)]


def prefill(given: argparse.Namespace) -> Rows:
    files = prepare(given.dir, BODY, "q4_0")
    common = {"threads": given.threads, "context": PROMPT + TOKENS}
    best = {"edgeq": float("inf"), "llamacpp": float("inf")}
    with (
        Worker("edgeq", {**common, "model": str(files.edgeq)}) as ours,
        Worker("llamacpp", {**common, "model": str(files.gguf)}, given.peer_python) as peer,
    ):
        for _ in range(given.repeat):
            for name, worker in (("edgeq", ours), ("llamacpp", peer)):
                best[name] = min(best[name], worker.ask(do="prefill", tokens=PROMPT)["seconds"])
    rates = {f"{name}_tps": PROMPT / seconds for name, seconds in best.items()}
    return [row(f"prefill of {PROMPT} / llama.cpp", rates["edgeq_tps"] / rates["llamacpp_tps"], 2.0, **rates)]


TABLES: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "decode": decode,
    "heads": heads,
    "prefill": prefill,
}


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.long", description=__doc__, formatter_class=raw)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="turns of each figure [3]")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has llama_cpp")
    parser.add_argument("--dir", type=Path, default=default_directory(), help="where model files are kept")
    parser.add_argument("--json", action="store_true", help="the JSON object alone")
    given = parser.parse_args()
    if unknown := set(given.tables) - set(TABLES):
        parser.error(f"{', '.join(sorted(unknown))}: tables are {', '.join(TABLES)}")
    return given


def main() -> int:
    given = parse()
    warn_if_busy()
    rows: Rows = []
    for name in given.tables or TABLES:
        say(f"measuring {name}")
        rows += TABLES[name](given)
    if not given.json:
        print(f"{processor()}, {given.threads} threads")
        cells = [[r["what"], str(r["ratio"]), str(r["bar"])] for r in rows]
        more = [", ".join(f"{name} {value}" for name, value in list(r.items())[3:]) for r in rows]
        lines = [[*cell, rest] for cell, rest in zip(cells, more, strict=True)]
        print(table(["", "ratio", "bar", "figures"], lines, left=1))
    missed = [r["what"] for r in rows if r["ratio"] < r["bar"]]
    print(json.dumps({"threads": given.threads, "rows": rows, "missed": missed}))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

"""Many sequences in one pass: tokens a second of all together, beside one alone and the bars.

usage: python -m bench.batch [--shape tinyllama-1.1b] [--format q4_0] [--threads 2] [--sequences 1,4,8,16]
                             [--prompt 64] [--tokens 16] [--repeat 5] [--dir DIR] [--json]

Random weights of a real model's shape. Each step is one pass over a row of every sequence. The counts take
turns in one process and the fastest of a count's turns is reported: what other programs took away in the
slower ones is not the engine's cost. The limit is the slower of two machines: one that only reads weights and
caches, and one that only multiplies, at the rates measured beside it. The last line of stdout is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.files import PLAIN, decode_bytes, default_directory, prepare
from bench.peers import Worker, processor, warn_if_busy
from bench.scale import Machine
from bench.weights import SHAPES
from edgeq.cache import LayerShape, Plan, kind_of
from edgeq.cli.terminal import table

BARS = {4: 2.5, 8: 2.8, 16: 3.0}  # by sequences: tokens a second, as a multiple of one sequence's
AIMS = {4: 3.0, 8: 3.5, 16: 4.0}


def limit(path: Path, shape: str, rates: tuple[float, float], sequences: int, position: int) -> float:
    """Tokens a second that the machine allows."""
    s, (read, dot) = SHAPES[shape], rates
    cache = Plan.of(kind_of("q8"), position, [LayerShape(s.kv_heads, s.head_dim)] * s.layers)
    nbytes = decode_bytes(path) + sequences * position * cache.token_bytes
    scores = 2 * s.layers * s.heads * s.head_dim * position
    macs = sequences * (s.body_macs() + s.output_macs() + scores)
    return sequences / max(nbytes / read, macs / dot)


def measure(given: argparse.Namespace, counts: list[int]) -> list[dict[str, Any]]:
    path = prepare(given.dir, given.shape, given.format).edgeq
    context = given.prompt + given.tokens
    machine = Machine()
    rates = machine.limits(given.threads)
    machine.close()
    best = dict.fromkeys(counts, float("inf"))
    with Worker("edgeq", {"model": str(path), "threads": given.threads, "context": context}) as worker:
        for _ in range(given.repeat + 1):  # the first turn warms up
            for count in counts:
                asked = dict(do="batch", sequences=count, prompt=given.prompt, tokens=given.tokens)
                best[count] = min(best[count], worker.ask(**asked)["seconds"])
    alone = given.tokens / best[counts[0]]
    rows = []
    for count in counts:
        rate = count * given.tokens / best[count]
        most = limit(path, given.shape, rates, count, context)
        rows.append(
            {
                "sequences": count,
                "tps": round(rate, 2),
                "ratio": round(rate / alone, 3),
                "bar": BARS.get(count),
                "aim": AIMS.get(count),
                "limit_tps": round(most, 2),
                "of_limit": round(rate / most, 3),
            }
        )
    return rows


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.batch", description=__doc__, formatter_class=raw)
    parser.add_argument("--shape", default="tinyllama-1.1b", choices=SHAPES)
    parser.add_argument("--format", default="q4_0", choices=PLAIN)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", default="1,4,8,16", help="the first is what others are held to")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each before [64]")
    parser.add_argument("--tokens", type=int, default=16, help="steps [16]")
    parser.add_argument("--repeat", type=int, default=5, help="turns of each count [5]")
    parser.add_argument("--dir", type=Path, default=default_directory(), help="where model files are kept")
    parser.add_argument("--json", action="store_true", help="the JSON object alone")
    return parser.parse_args()


def main() -> int:
    given = parse()
    warn_if_busy()
    rows = measure(given, [int(n) for n in given.sequences.split(",")])
    if not given.json:
        print(f"{processor()}, {given.threads} threads; {given.shape} {given.format}, INT8 cache")
        names = ("sequences", "tps", "ratio", "bar", "aim", "limit_tps", "of_limit")
        print(table(list(names), [["" if row[n] is None else str(row[n]) for n in names] for row in rows]))
    missed = [row["sequences"] for row in rows if row["bar"] and row["ratio"] < row["bar"]]
    print(json.dumps({"shape": given.shape, "threads": given.threads, "rows": rows, "missed": missed}))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

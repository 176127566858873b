"""A whole model in edgeq's own schemes, beside each other and the machine's limits, in turns in one run.

usage: python -m bench.models [SCHEME ...] [--threads 1,2] [--repeat 5] [--shape SHAPE] [--dir DIR] [--json]

Random weights in a real model's shape, converted from float16 to each scheme once per directory. Every scheme
gets a fresh process that loads its file; the processes take turns, one computing at a time, and medians are
reported: prefill beside q4's, decode beside e4's and beside the read bandwidth for the bytes it has to read.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.files import bits_per_weight, converted, decode_bytes, default_directory, say, weights
from bench.peers import Worker, processor, warn_if_busy
from bench.weights import SHAPES
from edgeq.cli.terminal import table
from edgeq.kernels.catalog import CODES

PREFILL_BASE, DECODE_BASE = "q4", "e4"  # what the others' rates are divided by
SCHEMES = ("e8", "e6", "e5", "e3", "e2", "t2")  # beside them, if none is named


def measure(files: dict[str, Path], threads: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each scheme, all at one thread count."""
    options = {"threads": threads, "context": given.prompt + max(given.tokens, given.prompt)}
    rates: dict[str, list[float]] = defaultdict(list)
    for path in files.values():  # compiles and keeps the kernels
        with Worker("edgeq", {"model": str(path), **options}) as worker:
            worker.ask(do="prefill", tokens=given.prompt)
            worker.ask(do="decode", prompt=given.prompt, tokens=1)
    with ExitStack() as stack:
        machine = stack.enter_context(Worker("machine", {"threads": threads}))
        workers = {
            name: stack.enter_context(Worker("edgeq", {"model": str(path), **options}))
            for name, path in files.items()
        }
        for turn in range(given.repeat):
            order = list(workers.items())[:: 1 if turn % 2 else -1]
            for name, worker in order:
                seconds = worker.ask(do="prefill", tokens=given.prompt)["seconds"]
                rates[f"{name} prefill"].append(given.prompt / seconds)
            for name, worker in order:
                seconds = worker.ask(do="decode", prompt=given.prompt, tokens=given.tokens)["seconds"]
                rates[f"{name} decode"].append(given.tokens / seconds)
            rates["read"].append(machine.ask(do="read")["rate"])
            say(f"  turn {turn + 1}: " + "  ".join(f"{key} {value[-1]:.1f}" for key, value in rates.items()))
    return [{"scheme": row["scheme"], "threads": threads, **row} for row in figures(files, rates)]


def figures(files: dict[str, Path], rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row for each scheme: medians, and what follows from them."""
    middle = {key: statistics.median(values) for key, values in rates.items()}
    rows = []
    for name, path in files.items():
        prefill, decode = middle[f"{name} prefill"], middle[f"{name} decode"]
        gbps = decode * decode_bytes(path) / 1e9
        row = {
            "bits": bits_per_weight(path),
            "prefill_tps": prefill,
            "prefill_of_q4": prefill / middle[f"{PREFILL_BASE} prefill"],
            "decode_tps": decode,
            "decode_of_e4": decode / middle[f"{DECODE_BASE} decode"],
            "decode_gbps": gbps,
            "read_gbps": middle["read"],
            "of_read": gbps / middle["read"],
        }
        rows.append({"scheme": name, **{key: round(value, 3) for key, value in row.items()}})
    return rows


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__, formatter_class=raw)
    parser.add_argument(
        "schemes", nargs="*", metavar="SCHEME", help=f"[{' '.join(SCHEMES)}], q4 and e4 always"
    )
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas")
    parser.add_argument("--repeat", type=int, default=5, help="turns; medians are reported")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of prefill, and before decode")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of decode")
    parser.add_argument("--shape", default="tinyllama-1.1b", choices=SHAPES)
    parser.add_argument("--dir", type=Path, help="where model files are kept [the user's cache]")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    given = parser.parse_args()
    names = list(dict.fromkeys([PREFILL_BASE, DECODE_BASE, *(given.schemes or SCHEMES)]))
    if unknown := set(names) - set(CODES):
        parser.error(f"{', '.join(sorted(unknown))}: schemes are {', '.join(CODES)}")
    warn_if_busy()
    directory, rows = given.dir or default_directory(), []
    directory.mkdir(parents=True, exist_ok=True)
    source = weights(directory, given.shape, "f16")
    files = {name: converted(source, directory / f"{given.shape}-as-{name}.edgeq", name) for name in names}
    for threads in map(int, given.threads.split(",")):
        say(f"{threads} thread(s)")
        rows += measure(files, threads, given)
    if not given.json:
        print(f"{given.shape}, {processor()}; q4's prefill and e4's decode are 1")
        print(table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    print(json.dumps({"shape": given.shape, "processor": processor(), "rows": rows}))


if __name__ == "__main__":
    main()

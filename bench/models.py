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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.files import bits_per_weight, converted, decode_bytes, default_directory, say, weights
from bench.peers import Worker, add_options, compile_for, options, processor, take_turns, warn_if_busy
from edgeq.cli.terminal import table
from edgeq.kernels.row import CODES

PREFILL_BASE, DECODE_BASE = "q4", "e4"  # what the others' rates are divided by
SCHEMES = ("e8", "e6", "e5", "e3", "e2", "t2")  # beside them, if none is named


def measure(files: dict[str, Path], threads: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each scheme, all at one thread count."""
    ours = {name: {"model": str(path), **options(given, threads)} for name, path in files.items()}
    for one in ours.values():
        compile_for(one, given)
    with ExitStack() as stack:
        workers = {"machine": stack.enter_context(Worker("machine", {"threads": threads}))}
        workers |= {name: stack.enter_context(Worker("edgeq", one)) for name, one in ours.items()}
        rates = take_turns(workers, given)
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
    add_options(parser)
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

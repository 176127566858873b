"""Short runs by the thousand with few and many workers: each gives the same bits, and none gets stuck.

usage: python -m bench.stress [MODEL] [--threads 1,2,3,8,64] [--runs 1000] [--limit 60]

A run loads MODEL (an .edgeq file; without it the bundled one is converted), feeds a prompt and a few tokens
with pauses of random length between them, compares all logits with those of one worker, and closes. A run
of more than --limit seconds counts as stuck: the stacks of all threads are printed and the process ends
with code 1. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PROMPT = [1, *np.random.default_rng(0).integers(3, 500, 39).tolist()]
TOKENS = [7, 300, 45, 8]


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.stress", description=__doc__, formatter_class=raw)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--threads", default="1,2,3,8,64", help="numbers of workers, separated by commas")
    parser.add_argument("--runs", type=int, default=1000, help="for each number of workers")
    parser.add_argument("--limit", type=float, default=60, help="seconds after which a run counts as stuck")
    return parser.parse_args()


def logits(model: Path, threads: int, rng: random.Random) -> Any:
    """The bits of all logits of one short run."""
    import edgeq

    with edgeq.load(model, threads=threads, context=64) as loaded:
        sequence = loaded.sequence()
        rows = [sequence.feed(PROMPT)]
        for token in TOKENS:
            time.sleep(rng.choice([0, 0, 20e-6, 300e-6, 2e-3]))  # awake, drowsy, asleep
            rows.append(sequence.feed([token]))
        return np.stack(rows).view(np.uint32)


def stress(model: Path, threads: int, runs: int, limit: float) -> dict[str, Any]:
    """The figures of that many runs; AssertionError at the first whose bits differ."""
    want = logits(model, 1, random.Random(0))
    longest, start, cpu = 0.0, time.perf_counter(), time.process_time()
    try:
        for run in range(runs):
            faulthandler.dump_traceback_later(limit, exit=True)
            begun = time.perf_counter()
            got = logits(model, threads, random.Random(run))
            longest = max(longest, time.perf_counter() - begun)
            assert np.array_equal(got, want), f"run {run} with {threads} workers gives other logits"
    finally:
        faulthandler.cancel_dump_traceback_later()
    return {
        "threads": threads,
        "runs": runs,
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "longest_s": round(longest, 3),
    }


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if model is None:
            from edgeq.converters import convert
            from edgeq.demo import checkpoint

            model = Path(folder) / "demo.edgeq"
            convert(checkpoint(), model, scheme="q4")
        rows = []
        for threads in map(int, arguments.threads.split(",")):
            rows.append(stress(model, threads, arguments.runs, arguments.limit))
            print(
                "  ".join(f"{name} {value}" for name, value in rows[-1].items()), file=sys.stderr, flush=True
            )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()

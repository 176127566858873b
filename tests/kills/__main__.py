"""kill -9 while a server streams and writes its prompt cache, and what the next one finds.

usage: python -m tests.kills [--runs 100] [--seed 0] [--json]

Each life of `edgeq serve`, over the bundled model, reads the cache that the one before left: nothing half
written is there, every file can be read to its end, and answers are those of the first life. Then it is
killed, at random or as soon as a file is being written. Exit code 1 where one of this does not hold, or
where a start after the first took more than 3 s to the answer of /health.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tests.kills.run import Lives
from tests.serve.spawned import demo

READY_S = 3.0


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__, formatter_class=raw)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a last line for programs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeq-kills-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # kernels of its own, which nobody else's take the place of
        lives = Lives(demo(Path(folder)), Path(folder), arguments.seed)
        for number in range(arguments.runs + 1):
            lives.life()
            if number and number % 10 == 0:
                print(f"{number} kills, {len(lives.wrong)} wrong", flush=True)
    warm = lives.ready_s[1:]
    late = [seconds for seconds in warm if seconds > READY_S]
    problems = [*lives.wrong[:10], *(f"a start took {seconds:.2f} s" for seconds in late)]
    figures = {
        "kills": len(lives.ready_s),
        "ready_median_s": round(statistics.median(warm), 3),
        "ready_median_cpu_s": round(statistics.median(lives.ready_cpu_s[1:]), 3),
        "ready_longest_s": round(max(warm), 3),
        **lives.seen,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    for problem in problems:
        print(f"WRONG {problem}")
    if arguments.json:
        print(json.dumps({**figures, "wrong": problems}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

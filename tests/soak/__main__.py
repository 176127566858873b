"""Mixed requests against one `edgeq serve` for a long time: what does it hold that it did not before?

usage: python -m tests.soak [--minutes 60] [--clients 6] [--seed 0] [--json]

Chats, streams, completions, log-probabilities, schemas, tools, the other dialects, refusals, clients that
leave and clients that read slowly ask the bundled model, with a prompt cache on the disk. Each minute the
server comes to rest, and a line tells its requests, memory of its own, bytes of pages, descriptors and
threads. Exit code 1 where one answer was wrong, the log tells of a fault, fewer than 10 000 requests were
made in an hour (or as many in part of one), a request leaves 1 KiB of memory or more after the first
quarter, or pages, descriptors or threads grow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.serve.spawned import Spawned, demo
from tests.soak.run import CACHE, REQUESTS_MIN, WORDS, Soak, for_seconds, judged, settled, slope

MINUTES_MAX = 24 * 60
ROUND_S = 60
ROUND_REQUESTS = 20_000


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, formatter_class=raw)
    parser.add_argument("--minutes", type=int, default=60, choices=range(1, MINUTES_MAX + 1), metavar="N")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a last line for programs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeq-soak-") as folder:
        log = Path(folder) / "log"
        cache = ("--prompt-cache", str(Path(folder) / "cache"), *CACHE)
        server = Spawned(demo(Path(folder)), log, *WORDS, *cache)
        try:
            soak = Soak(server, arguments.clients, say, arguments.seed)
            for minute in range(1, arguments.minutes + 1):
                held = soak.round(for_seconds(ROUND_S, ROUND_REQUESTS))
                say(
                    f"{minute:4} min {held.requests:8} requests {held.memory / 2**20:8.2f} MiB "
                    f"{held.cache / 2**20:6.2f} MiB of pages {held.descriptors:3} descriptors "
                    f"{held.threads:2} threads {len(soak.wrong)} wrong"
                )
            code = server.end()
        finally:
            server.kill()
        problems = [*soak.wrong[:10], *soak.faults(log)[:10], *judged(settled(soak.held))]
    if code:
        problems.append(f"the server ended with {code}")
    if soak.requests * 60 < REQUESTS_MIN * arguments.minutes:
        problems.append(f"{soak.requests} requests are too few to tell")
    print(f"{soak.requests} requests, {slope(settled(soak.held)):.1f} bytes of memory each after the warm-up")
    for problem in problems:
        print(f"WRONG {problem}")
    if arguments.json:
        print(json.dumps({"held": [asdict(each) for each in soak.held], "wrong": problems}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

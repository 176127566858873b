"""What starting costs: the command line's own start, the first run ever, and a process from its start to the
first token, its memory, and what a second one shares.

usage: python -m bench.start [MODEL.edgeq] [--repeat 9] [--threads N] [--json]
                             [--peer 'llama-completion -m FILE.gguf …']

Without MODEL, what is kept to a limit (`bench.bars`): help, completion, the first token of the bundled model,
and its first run with nothing compiled yet.

With MODEL, times `edgeq run MODEL -p PROMPT -n 1`, from the start of the process to the first byte of its
answer and to its end, kernels and pages warm; a peer's command line takes turns with it where one is given.
Memory is the whole process's peak, beside the file and the cache. Then two processes load the same file: what
each holds alone and what they share, from /proc/PID/smaps_rollup. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from bench import bars
from bench.files import say
from bench.peers import Worker, warn_if_busy
from bench.processes import middle, once

PROMPT = "Once upon a time"
CONTEXT = 256  # small, so that the cache is
OPTIONS = ("-c", str(CONTEXT), "--temp", "0", "-n", "1")  # for the peer's command as well


def cache_mb(model: Path) -> float:
    """The KV cache, whole."""
    from edgeq import load

    with load(model, threads=1, context=CONTEXT) as loaded:
        return loaded.cache.context_bytes / 1e6


def shared(model: Path, threads: int) -> dict[str, float]:
    """Two processes that have decoded with the same file: per process, in MB."""
    options: dict[str, Any] = {"model": str(model), "threads": threads, "context": CONTEXT}
    with Worker("edgeq", options) as one, Worker("edgeq", options) as two:
        for worker in (one, two):
            worker.ask(do="decode", prompt=8, tokens=2)
        rows = [rollup(worker.process.pid) for worker in (one, two)]
    return {key: statistics.mean(row[key] for row in rows) for key in rows[0]}


def rollup(pid: int) -> dict[str, float]:
    """Rss, Pss (shared pages divided by their users) and private memory of a process in MB."""
    fields = {}
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if value.endswith("kB\n"):
                fields[name] = int(value.split()[0]) * 1024 / 1e6
    return {
        "rss_mb": fields["Rss"],
        "pss_mb": fields["Pss"],
        "private_mb": fields["Private_Clean"] + fields["Private_Dirty"],
    }


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__, formatter_class=raw)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peer", help="a peer's command line, without prompt, -c, -n and --temp")
    parser.add_argument("--json", action="store_true", help="only the JSON object")
    return parser.parse_args()


def of_model(model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What `edgeq run` with the model takes, and the peer's command line beside it where one is given."""
    common = ["-t", str(arguments.threads), "-p", PROMPT, *OPTIONS]
    commands = {"edgeq": [sys.executable, "-m", "edgeq", "run", str(model), *common]}
    if arguments.peer:
        commands["peer"] = [*shlex.split(arguments.peer), *common]
    for command in commands.values():
        once(command)  # kernels compiled, pages read
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(arguments.repeat):
        for name, command in commands.items():
            runs[name].append(once(command))
    result: dict[str, Any] = {name: middle(rows) for name, rows in runs.items()}
    result["file_mb"] = round(model.stat().st_size / 1e6, 3)
    result["cache_mb"] = round(cache_mb(model), 3)
    over = result["edgeq"]["peak_rss_mb"] - result["file_mb"] - result["cache_mb"]
    result["over_mb"] = round(over, 3)
    if Path("/proc/self/smaps_rollup").exists():
        result["shared"] = {key: round(value, 3) for key, value in shared(model, 1).items()}
    return result


def table(result: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{'':8}{'first token s':>15}{'end s':>8}{'CPU s':>8}{'peak MB':>9}"]
    for name in ("edgeq", "peer"):
        if row := result.get(name):
            seconds = f"{row['first_s']:15.3f}{row['end_s']:8.3f}{row['cpu_s']:8.3f}"
            lines.append(f"{name:8}{seconds}{row['peak_rss_mb']:9.0f}")
    over = result["over_mb"]
    lines.append(
        f"peak = file {result['file_mb']:.0f} + cache {result['cache_mb']:.0f} + {over:.0f} MB "
        f"({over * 1e6 / 2**20:.0f} MiB)"
    )
    if "shared" in result:
        s = result["shared"]
        lines.append(
            f"of two processes, each: resident {s['rss_mb']:.0f} MB, its share {s['pss_mb']:.0f} MB, "
            f"its own alone {s['private_mb']:.0f} MB"
        )
    return "\n".join(lines)


def main() -> None:
    arguments = parse()
    warn_if_busy()
    told: dict[str, Any]
    if arguments.model:
        told = of_model(arguments.model, arguments)
        words = table(told)
        say(f"peer: {arguments.peer or 'none given'}")
    else:
        told = {"bars": bars.measured(arguments.repeat)}
        words = bars.table(told["bars"])
    if not arguments.json:
        print(words)
    print(json.dumps({**{k: str(v) for k, v in vars(arguments).items()}, **told}))


if __name__ == "__main__":
    main()

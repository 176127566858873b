"""Run every scenario many times, in processes of their own, and tell what became of them.

usage: python -m tests.lives [--runs 1000] [--threads 1,2,8] [--only NAME,...] [--json] [FILE.edgeq]

The ends of a process take `runs` processes in all, `drop` takes `runs` loads, and a scenario of another
kind a fifth of them, each spread over the numbers of threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lives.scenarios import ENDINGS, SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 1200  # after which a process counts as stuck


def run(name: str, file: Path, threads: int, count: int, seed: int = 0) -> str:
    """Run a scenario; "" or how it failed."""
    command = [sys.executable, "-m", "tests.lives.scenarios", name, str(file)]
    words = [*command, *map(str, (threads, count, seed))]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"stuck for {LIMIT_S} s"
    if done.returncode == 0 and not done.stderr:
        return ""
    return f"exit code {done.returncode}: {done.stderr[-2000:]}"


def times(name: str, runs: int) -> tuple[int, int]:
    """(processes, count in each) of a scenario for each number of threads."""
    if name in ENDINGS:
        return max(1, runs // len(ENDINGS)), 1
    return 1, runs if name == "drop" else max(1, runs // 5)


def demo(folder: str) -> Path:
    """The bundled model, converted."""
    from edgeq.converters import convert
    from edgeq.demo import checkpoint

    path = Path(folder) / "demo.edgeq"
    convert(checkpoint(), path, scheme="q4")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--threads", default="1,2,8")
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    numbers = [int(n) for n in options.threads.split(",")]
    names = options.only.split(",") if options.only else list(SCENARIOS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = options.file or demo(folder)
        run("exit_at_module_level", file, 1, 1)  # compiles what is not there yet
        for name in names:
            start, failures, total = time.perf_counter(), [], 0
            for threads in numbers:
                processes, count = times(name, -(-options.runs // len(numbers)))
                for seed in range(processes):
                    total += count
                    failure = run(name, file, threads, count, seed)
                    if failure:
                        failures.append(f"{threads} threads, seed {seed}: {failure}")
            rows.append({"scenario": name, "runs": total, "failures": failures})
            seconds = time.perf_counter() - start
            print(f"{name:32} {total:6} runs {len(failures):4} failed {seconds:7.1f} s", file=sys.stderr)
            for failure in failures[:3]:
                print(f"    {failure}", file=sys.stderr)
    if options.json:
        print(json.dumps(rows))
    failed = sum(len(row["failures"]) for row in rows)  # type: ignore[arg-type, misc]
    print(f"{sum(int(str(row['runs'])) for row in rows)} runs, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

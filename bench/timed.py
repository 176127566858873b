"""Run a command and tell what it took.

usage: python -m bench.timed NOTE.json COMMAND…

NOTE.json gets {"seconds", "cpu_s", "peak_rss_mb"}: wall clock, CPU time of all threads, and the most memory
resident at once, mapped files included, in MB (10^6 bytes). The exit code is the command's. A process of its
own, since on Linux a child's peak begins with what its parent holds: here a bare interpreter, some 15 MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def timed(command: list[str]) -> dict[str, float]:
    """The note of a command run to its end; RuntimeError with the last line that it wrote where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note.json"
        done = subprocess.run(
            [sys.executable, "-m", "bench.timed", str(note), *command],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            lines = done.stdout.strip().splitlines() or [f"it ended with code {done.returncode}"]
            raise RuntimeError(f"{Path(command[0]).name}: {lines[-1].strip()}")
        figures: dict[str, float] = json.loads(note.read_text())
        return figures


def main() -> None:
    import resource

    note, *command = sys.argv[1:]
    start = time.perf_counter()
    code = subprocess.call(command)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    figures = {
        "seconds": round(seconds, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_rss_mb": round(usage.ru_maxrss * unit / 1e6, 1),
    }
    Path(note).write_text(json.dumps(figures))
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()

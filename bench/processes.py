"""One process, from its start to its end: how long it takes, its processor time, its memory."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from bench.quantize import ROOT


def once(command: Sequence[str], variables: Mapping[str, str] | None = None) -> dict[str, float]:
    """Seconds to the first byte of stdout and to the end; processor time of the process and of those that it
    started and waited for; and its peak memory in MB (10^6 bytes). `variables` are added to this process's.
    """
    # an installed package has its bytecode
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(variables or {})}
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = os.read(process.stdout.fileno(), 1)
        first_s = time.perf_counter() - start
        process.stdout.read()
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for
    if status or not first:
        raise SystemExit(f"{shlex.join(command)} failed: {error.decode(errors='replace')[-500:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "first_s": first_s,
        "end_s": time.perf_counter() - start,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_rss_mb": usage.ru_maxrss * unit / 1e6,
    }


def middle(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}

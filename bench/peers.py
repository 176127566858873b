"""edgeq beside llama.cpp beside the machine's own limits, measured in turns in one run.

usage: python -m bench.peers [--formats q4_0,q8_0] [--threads 1,2] [--repeat 5] [--shape SHAPE] [--dir DIR]
                             [--peer-python PYTHON] [--json]

Random weights in a real model's shape are written as GGUF once per directory, quantized by llama.cpp for all
formats but q4_0 and q8_0, and converted to .edgeq with every number kept as it is; a format that edgeq cannot
keep is named and left out. For each format and thread count every engine gets a fresh process that loads its
file once; then the processes take turns, one computing at a time, and the medians are reported. The last line
of stdout is one JSON object. bench/README.md says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.files import TYPES, Files, bits_per_weight, decode_bytes, default_directory, prepare, say
from bench.quantize import ROOT
from bench.weights import SHAPES, Shape
from edgeq.errors import EdgeqError

PAUSE = 0.05  # seconds between turns: threads of the last engine that still spin have parked by then


class Worker:
    """A bench.worker process; leaving the context ends it."""

    def __init__(self, engine: str, options: dict[str, Any], python: str = sys.executable) -> None:
        command = [python, "-m", "bench.worker", engine, json.dumps(options)]
        self.name = engine
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            self.ready = self._line()
        except BaseException:
            self.__exit__()
            raise

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            hint = " (is llama-cpp-python there? else see --peer-python)" if self.name == "llamacpp" else ""
            raise SystemExit(f"the {self.name} worker ended with code {self.process.wait()}{hint}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._line()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def options(given: argparse.Namespace, threads: int) -> dict[str, Any]:
    """What every engine's worker is told besides its model."""
    return {"threads": threads, "context": given.prompt + max(given.tokens, given.prompt)}


def compile_for(ours: dict[str, Any], given: argparse.Namespace) -> None:
    """Have edgeq compile and keep its kernels: the next load is a warm one."""
    with Worker("edgeq", ours) as worker:
        worker.ask(do="prefill", tokens=given.prompt)
        worker.ask(do="decode", prompt=given.prompt, tokens=1)


def take_turns(workers: dict[str, Worker], given: argparse.Namespace) -> dict[str, list[float]]:
    """The rates of all engines ("NAME prefill", "NAME decode") and of the machine, the worker of that name
    ("dot", "read"), one for each turn.
    """
    rates: dict[str, list[float]] = defaultdict(list)
    engines = [name for name in workers if name != "machine"]
    for turn in range(given.repeat):
        order = engines[:: 1 if turn % 2 else -1]
        for name in order:
            seconds = workers[name].ask(do="prefill", tokens=given.prompt)["seconds"]
            rates[f"{name} prefill"].append(given.prompt / seconds)
        rates["dot"].append(workers["machine"].ask(do="dot")["rate"])
        for name in order:
            seconds = workers[name].ask(do="decode", prompt=given.prompt, tokens=given.tokens)["seconds"]
            rates[f"{name} decode"].append(given.tokens / seconds)
        rates["read"].append(workers["machine"].ask(do="read")["rate"])
        say(f"  turn {turn + 1}: " + "  ".join(f"{key} {value[-1]:.1f}" for key, value in rates.items()))
    return rates


def measure(arguments: argparse.Namespace, files: Files, threads: int) -> dict[str, Any]:
    """One row: every engine at one thread count, in turns."""
    both = options(arguments, threads)
    ours = {"model": str(files.edgeq), **both}
    compile_for(ours, arguments)
    with ExitStack() as stack:
        workers = {"machine": stack.enter_context(Worker("machine", {"threads": threads}))}
        workers["edgeq"] = stack.enter_context(Worker("edgeq", ours))
        for flash in {"on": [True], "off": [False], "best": [False, True]}[arguments.peer_flash]:
            theirs = {"model": str(files.gguf), "flash": flash, **both}
            workers[f"llamacpp flash {'on' if flash else 'off'}"] = stack.enter_context(
                Worker("llamacpp", theirs, arguments.peer_python)
            )
        rates = take_turns(workers, arguments)
        engines = [name for name in workers if name != "machine"]
        memory = {name: workers[name].ask(do="memory") for name in engines}
    ready = {name: workers[name].ready for name in engines}
    return row(arguments, files, threads, rates, ready, memory)


def row(
    arguments: argparse.Namespace,
    files: Files,
    threads: int,
    rates: dict[str, list[float]],
    ready: dict[str, dict[str, Any]],
    memory: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Medians, and what follows from them. llama.cpp gets the better setting for each figure alone."""
    shape: Shape = SHAPES[arguments.shape]
    middle = {key: statistics.median(values) for key, values in rates.items()}
    peers = [name for name in ready if name.startswith("llamacpp")]
    best = {what: max(peers, key=lambda name: middle[f"{name} {what}"]) for what in ("prefill", "decode")}
    macs = shape.body_macs() + shape.output_macs() / arguments.prompt  # per token of the prompt
    result = {
        "threads": threads,
        "edgeq_prefill_tps": middle["edgeq prefill"],
        "llamacpp_prefill_tps": middle[f"{best['prefill']} prefill"],
        "edgeq_decode_tps": middle["edgeq decode"],
        "llamacpp_decode_tps": middle[f"{best['decode']} decode"],
        "decode_gbps": middle["edgeq decode"] * decode_bytes(files.edgeq) / 1e9,
        "read_gbps": middle["read"],
        "prefill_gmacs": middle["edgeq prefill"] * macs / 1e9,
        "dot_gmacs": middle["dot"],
        "edgeq_load_s": ready["edgeq"]["load_s"],
        "llamacpp_load_s": min(ready[name]["load_s"] for name in peers),
        "edgeq_first_token_s": ready["edgeq"]["first_token_s"],
        "llamacpp_first_token_s": min(ready[name]["first_token_s"] for name in peers),
        "edgeq_peak_rss_mb": memory["edgeq"]["peak_rss_mb"],
        "llamacpp_peak_rss_mb": min(memory[name]["peak_rss_mb"] for name in peers),
        "edgeq_file_mb": files.edgeq.stat().st_size / 1e6,
        "gguf_file_mb": files.gguf.stat().st_size / 1e6,
        "edgeq_bits_per_weight": bits_per_weight(files.edgeq),
        "gguf_bits_per_weight": bits_per_weight(files.gguf),
    }
    return {
        **{key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()},
        "best": {key: round(max(values), 2) for key, values in rates.items()},
        "llamacpp_prefill_setting": best["prefill"].partition(" ")[2],
        "llamacpp_decode_setting": best["decode"].partition(" ")[2],
        "about": [memory["edgeq"]["about"], memory[peers[0]]["about"]],
        "load_average": os.getloadavg()[0],
    }


COLUMNS: tuple[tuple[str, str, Callable[[dict[str, Any]], float | str]], ...] = (  # title, format, figure
    ("format", "7", lambda r: r["format"]),
    ("thr", "3", lambda r: r["threads"]),
    ("| prefill t/s", "13.1f", lambda r: r["edgeq_prefill_tps"]),
    ("llama.cpp", "9.1f", lambda r: r["llamacpp_prefill_tps"]),
    ("ratio", "5.2f", lambda r: r["edgeq_prefill_tps"] / r["llamacpp_prefill_tps"]),
    ("GMAC/s", "6.1f", lambda r: r["prefill_gmacs"]),
    ("dot", "6.1f", lambda r: r["dot_gmacs"]),
    ("of dot", "6.0%", lambda r: r["prefill_gmacs"] / r["dot_gmacs"]),
    ("| decode t/s", "12.2f", lambda r: r["edgeq_decode_tps"]),
    ("llama.cpp", "9.2f", lambda r: r["llamacpp_decode_tps"]),
    ("ratio", "5.2f", lambda r: r["edgeq_decode_tps"] / r["llamacpp_decode_tps"]),
    ("GB/s", "5.1f", lambda r: r["decode_gbps"]),
    ("read", "5.1f", lambda r: r["read_gbps"]),
    ("of read", "7.0%", lambda r: r["decode_gbps"] / r["read_gbps"]),
    ("| bits", "6.2f", lambda r: r["edgeq_bits_per_weight"]),
    ("GGUF", "5.2f", lambda r: r["gguf_bits_per_weight"]),
    ("file MB", "7.0f", lambda r: r["edgeq_file_mb"]),
    ("GGUF", "5.0f", lambda r: r["gguf_file_mb"]),
    ("| load s", "8.2f", lambda r: r["edgeq_load_s"]),
    ("llama.cpp", "9.2f", lambda r: r["llamacpp_load_s"]),
    ("| peak MB", "9.0f", lambda r: r["edgeq_peak_rss_mb"]),
    ("llama.cpp", "9.0f", lambda r: r["llamacpp_peak_rss_mb"]),
)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people: each figure with the peer's and its part of the machine's limit beside it."""
    lines = ["  ".join(f"{title:>{len(format(0, spec))}}" for title, spec, _ in COLUMNS)]
    for result in rows:
        cells = [f"{figure(result):{'>' if spec.isdigit() else ''}{spec}}" for _, spec, figure in COLUMNS]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of every bench that times whole models in turns."""
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas")
    parser.add_argument("--repeat", type=int, default=5, help="turns; medians are reported")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of prefill, and before decode")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of decode")
    parser.add_argument("--shape", default="tinyllama-1.1b", choices=SHAPES)
    parser.add_argument("--dir", type=Path, help="where model files are kept [the user's cache]")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = f"all, or some of {', '.join(TYPES)}, separated by commas"
    parser.add_argument("--formats", default="q4_0,q8_0", help=known)
    add_options(parser)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has llama_cpp")
    parser.add_argument(
        "--peer-flash", default="best", choices=["best", "on", "off"], help="llama.cpp's flash attention"
    )
    arguments = parser.parse_args()
    arguments.formats = list(TYPES) if arguments.formats == "all" else arguments.formats.split(",")
    if unknown := set(arguments.formats) - set(TYPES):
        parser.error(f"{', '.join(sorted(unknown))}: formats are {', '.join(TYPES)} or all")
    return arguments


def files_of(arguments: argparse.Namespace) -> tuple[dict[str, Files], dict[str, str]]:
    """(files of each format, why each of the others is left out), said as it happens."""
    directory = arguments.dir or default_directory()
    files, left_out = {}, {}
    for kind in arguments.formats:
        try:
            files[kind] = prepare(directory, arguments.shape, kind, arguments.peer_python)
        except (EdgeqError, RuntimeError) as error:
            left_out[kind] = str(error)
            say(f"{kind} is left out: {error}")
    return files, left_out


def main() -> None:
    arguments = parse()
    warn_if_busy()
    files, left_out = files_of(arguments)
    rows = []
    for kind in files:
        for threads in map(int, arguments.threads.split(",")):
            say(f"{kind}, {threads} thread(s)")
            rows.append({"format": kind, **measure(arguments, files[kind], threads)})
    facts = {"machine": platform.machine(), "processor": processor(), "cores": os.cpu_count()}
    about = rows[0]["about"] if rows else []
    if not arguments.json:
        print(", ".join([arguments.shape, *(f"{name} {value}" for name, value in facts.items())]))
        print(*about, table(rows), sep="\n")
        print(*(f"{kind} is left out: {reason}" for kind, reason in left_out.items()), sep="\n")
    print(json.dumps({"shape": arguments.shape, **facts, "rows": rows, "left_out": left_out}))
    if not rows:
        sys.exit("nothing was measured")


def warn_if_busy() -> None:
    """Say so where other work will spoil the figures: those of a busy machine are not the machine's."""
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    if busy > 0.3 * cores:
        say(f"note: load average {busy:.1f} on {cores} cores; others are computing, and figures will be low")


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()

"""edgeq beside llama.cpp beside the machine's own limits, measured in turns in one run.

usage: python -m bench.peers [--formats q4_0,q8_0] [--threads 1,2] [--repeat 5] [--dir DIR]
                             [--peer-python PYTHON]

Random weights in TinyLlama-1.1B's shape are written as GGUF once per directory and converted to .edgeq. For
each format and thread count every engine gets a fresh process that loads its file once; then the processes
take turns, one computing at a time, and the medians are reported. The last line of stdout is one JSON
object. bench/README.md says what each figure means.
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
from pathlib import Path
from typing import Any

from bench.weights import SHAPES, Shape, write

ROOT = Path(__file__).resolve().parents[1]
SCHEMES = {"q4_0": "q4", "q8_0": "q8"}  # GGUF type: the scheme that holds it losslessly
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


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def default_directory() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgeq")) / "bench"


def prepare(directory: Path, shape_name: str, kind: str) -> tuple[Path, Path]:
    """(GGUF, .edgeq) of this shape and type, made where missing or older than the code that makes them."""
    directory.mkdir(parents=True, exist_ok=True)
    gguf_path = directory / f"{shape_name}-{kind}.gguf"
    if not gguf_path.exists() or gguf_path.stat().st_mtime < (ROOT / "bench/weights.py").stat().st_mtime:
        say(f"writing {gguf_path}")
        write(gguf_path, SHAPES[shape_name], kind, name=f"random-{shape_name}")
    edgeq_path = gguf_path.with_suffix(".edgeq")
    sources = [path for folder in ("formats", "converters") for path in (ROOT / folder).rglob("*.py")]
    newest = max(path.stat().st_mtime for path in [gguf_path, *sources])
    if not edgeq_path.exists() or edgeq_path.stat().st_mtime < newest:
        say(f"converting to {edgeq_path}")
        from edgeq.converters import convert

        convert(str(gguf_path), str(edgeq_path), scheme=SCHEMES[kind])
    return gguf_path, edgeq_path


def decode_bytes(path: Path) -> int:
    """Bytes that one token must read: every tensor but blobs and the embedding, where it needs one row."""
    from edgeq.formats import open_model

    with open_model(path) as file:
        tied = "output" not in file.tensors
        return sum(
            tensor.nbytes
            for name, tensor in file.tensors.items()
            if tensor.scheme.name != "bytes" and (tied or name != "embed")
        )


def measure(arguments: argparse.Namespace, files: tuple[Path, Path], threads: int) -> dict[str, Any]:
    """One row: every engine at one thread count, in turns."""
    gguf_path, edgeq_path = files
    prompt, tokens = arguments.prompt, arguments.tokens
    options = {"threads": threads, "context": prompt + max(tokens, prompt)}
    ours = {"model": str(edgeq_path), **options}
    with Worker("edgeq", ours) as worker:  # compiles and keeps its kernels: the next load is a warm one
        worker.ask(do="prefill", tokens=prompt)
        worker.ask(do="decode", prompt=prompt, tokens=1)
    rates: dict[str, list[float]] = defaultdict(list)
    workers = {"machine": Worker("machine", {"threads": threads}), "edgeq": Worker("edgeq", ours)}
    try:
        for flash in {"on": [True], "off": [False], "best": [False, True]}[arguments.peer_flash]:
            theirs = {"model": str(gguf_path), "flash": flash, **options}
            workers[f"llamacpp flash {'on' if flash else 'off'}"] = Worker(
                "llamacpp", theirs, arguments.peer_python
            )
        engines = [name for name in workers if name != "machine"]
        for turn in range(arguments.repeat):
            for name in engines if turn % 2 else reversed(engines):
                seconds = workers[name].ask(do="prefill", tokens=prompt)["seconds"]
                rates[f"{name} prefill"].append(prompt / seconds)
            rates["dot"].append(workers["machine"].ask(do="dot")["rate"])
            for name in engines if turn % 2 else reversed(engines):
                seconds = workers[name].ask(do="decode", prompt=prompt, tokens=tokens)["seconds"]
                rates[f"{name} decode"].append(tokens / seconds)
            rates["read"].append(workers["machine"].ask(do="read")["rate"])
            say(f"  turn {turn + 1}: " + "  ".join(f"{key} {value[-1]:.1f}" for key, value in rates.items()))
        memory = {name: workers[name].ask(do="memory") for name in engines}
    finally:
        for worker in workers.values():
            worker.__exit__()
    ready = {name: workers[name].ready for name in engines}
    return row(arguments, edgeq_path, threads, rates, ready, memory)


def row(
    arguments: argparse.Namespace,
    path: Path,
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
        "decode_gbps": middle["edgeq decode"] * decode_bytes(path) / 1e9,
        "read_gbps": middle["read"],
        "prefill_gmacs": middle["edgeq prefill"] * macs / 1e9,
        "dot_gmacs": middle["dot"],
        "edgeq_load_s": ready["edgeq"]["load_s"],
        "llamacpp_load_s": min(ready[name]["load_s"] for name in peers),
        "edgeq_first_token_s": ready["edgeq"]["first_token_s"],
        "llamacpp_first_token_s": min(ready[name]["first_token_s"] for name in peers),
        "edgeq_peak_rss_mb": memory["edgeq"]["peak_rss_mb"],
        "llamacpp_peak_rss_mb": min(memory[name]["peak_rss_mb"] for name in peers),
        "edgeq_file_mb": path.stat().st_size / 1e6,
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
    ("format", "6", lambda r: r["format"]),
    ("thr", "3", lambda r: r["threads"]),
    ("| prefill t/s", "13.1f", lambda r: r["edgeq_prefill_tps"]),
    ("llama.cpp", "9.1f", lambda r: r["llamacpp_prefill_tps"]),
    ("ratio", "5.2f", lambda r: r["edgeq_prefill_tps"] / r["llamacpp_prefill_tps"]),
    ("GMAC/s", "6.1f", lambda r: r["prefill_gmacs"]),
    ("of dot", "6.0%", lambda r: r["prefill_gmacs"] / r["dot_gmacs"]),
    ("| decode t/s", "12.2f", lambda r: r["edgeq_decode_tps"]),
    ("llama.cpp", "9.2f", lambda r: r["llamacpp_decode_tps"]),
    ("ratio", "5.2f", lambda r: r["edgeq_decode_tps"] / r["llamacpp_decode_tps"]),
    ("GB/s", "5.1f", lambda r: r["decode_gbps"]),
    ("of read", "7.0%", lambda r: r["decode_gbps"] / r["read_gbps"]),
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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--formats", default="q4_0,q8_0", help="q4_0 and q8_0, separated by commas")
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas")
    parser.add_argument("--repeat", type=int, default=5, help="turns; medians are reported")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of prefill, and before decode")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of decode")
    parser.add_argument("--shape", default="tinyllama-1.1b", choices=SHAPES)
    parser.add_argument("--dir", type=Path, help="where model files are kept [the user's cache]")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has llama_cpp")
    parser.add_argument(
        "--peer-flash", default="best", choices=["best", "on", "off"], help="llama.cpp's flash attention"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    warn_if_busy()
    directory = arguments.dir or default_directory()
    rows = []
    for kind in arguments.formats.split(","):
        files = prepare(directory, arguments.shape, kind)
        for threads in map(int, arguments.threads.split(",")):
            say(f"{kind}, {threads} thread(s)")
            rows.append({"format": kind, **measure(arguments, files, threads)})
    print(table(rows))
    machine = {"machine": platform.machine(), "processor": processor(), "cores": os.cpu_count()}
    print(json.dumps({"shape": arguments.shape, **machine, "rows": rows}))


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

"""How cost grows with threads, context, batch and model; each rate beside the machine's limit.

usage: python -m bench.scale [TABLE …] [--quick] [--format q4_0] [--shape tinyllama-1.1b] [--threads N,N]
                             [--repeat 3] [--engine edgeq] [--peer-python PYTHON] [--dir DIR]

TABLE is any of threads, context, batch and shapes; all without one. Random weights of real models' shapes
are written once per directory, as by bench.peers. Each figure is the fastest of --repeat turns: what other
programs took away in the slower ones is not the engine's cost. The last line of stdout is one JSON object.

The limit of a figure is the rate at which the slower of two machines would do: one that only reads the
weights and the cache, at the bandwidth measured beside it, and one that only multiplies, at the rate of the
dot product measured beside it. `bench.machine` tells how both are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files import PLAIN, decode_bytes, default_directory, prepare, say
from bench.peers import Worker, processor, warn_if_busy
from bench.weights import SHAPES, Shape
from edgeq.cache import LayerShape, Plan, kind_of
from edgeq.cli.terminal import table
from edgeq.cores import default_threads

TABLES = ("threads", "context", "batch", "shapes")
DECODE_TOKENS = 16
PROMPT = 256  # tokens of a prefill
NEAR = 64  # tokens before, where depth is not the subject
CONTEXTS = (64, 256, 1024, 4096, 16000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MODELS = ("smollm2-135m", "danube3-500m", "tinyllama-1.1b", "llama-3.2-3b")  # by size
CACHES = {"edgeq": "q8", "llamacpp": "f16"}


Limits = tuple[float, float]  # bytes read and int8 multiply-adds, per second


class Machine:
    """The machine's own process, for one number of threads at a time: it holds a large buffer."""

    def __init__(self) -> None:
        self.threads = 0
        self.worker: Worker | None = None

    def limits(self, threads: int) -> Limits:
        """The best of a few measurements now: a busy machine's limits are not those of a quiet one."""
        if threads != self.threads:
            self.close()
            self.worker, self.threads = Worker("machine", {"threads": threads}), threads
        assert self.worker is not None
        read, dot = (max(self.worker.ask(do=what)["rate"] for _ in range(3)) for what in ("read", "dot"))
        return read * 1e9, dot * 1e9

    def close(self) -> None:
        if self.worker is not None:
            self.worker.__exit__()
        self.worker, self.threads = None, 0


@dataclass(frozen=True)
class Model:
    """A shape, its file, and the engine that runs it."""

    shape: Shape
    path: Path  # the .edgeq file, which tells the bytes of both engines' weights
    engine: str
    file: Path  # the engine's own

    def limit(self, limits: Limits, tokens: int, after: int) -> float:
        """Tokens per second, `tokens` of them at once after so many others."""
        s, (read, dot) = self.shape, limits
        kind = kind_of(CACHES[self.engine])
        cache = Plan.of(kind, after + tokens, [LayerShape(s.kv_heads, s.head_dim)] * s.layers)
        scores = 2 * s.layers * s.heads * s.head_dim * (after + tokens / 2)  # and values: for each token
        macs = tokens * (s.body_macs() + scores) + s.output_macs()
        return tokens / max((decode_bytes(self.path) + cache.bytes_for(after + tokens)) / read, macs / dot)


class Bench:
    """The arguments, and measurements as rows."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.directory = arguments.dir or default_directory()
        self.cores = default_threads()
        self.machine = Machine()

    def model(self, shape: str) -> Model:
        files = prepare(self.directory, shape, self.arguments.format)
        engine = self.arguments.engine
        return Model(SHAPES[shape], files.edgeq, engine, files.edgeq if engine == "edgeq" else files.gguf)

    def worker(self, model: Model, threads: int, context: int) -> Worker:
        """The engine's process, warm: kernels compiled, every page read."""
        options = {"model": str(model.file), "threads": threads, "context": context}
        python = self.arguments.peer_python if model.engine == "llamacpp" else sys.executable
        worker = Worker(model.engine, options, python)
        worker.ask(do="prefill", tokens=16)
        worker.ask(do="decode", prompt=16, tokens=1)
        return worker

    def row(self, worker: Worker, model: Model, threads: int, what: str, tokens: int, after: int) -> Any:
        """Rate and limit of `tokens` at once ("prefill") or one by one ("decode") after so many others."""
        position = {"after": after} if what == "prefill" else {"prompt": after}
        answers = [worker.ask(do=what, tokens=tokens, **position) for _ in range(self.arguments.repeat)]
        rate = tokens / min(answer["seconds"] for answer in answers)
        limit = model.limit(self.machine.limits(threads), tokens if what == "prefill" else 1, after)
        return {f"{what}_tps": round(rate, 2), f"{what}_limit_tps": round(limit, 2)}

    # ---- the tables ----
    def threads(self) -> list[dict[str, Any]]:
        model = self.model(self.arguments.shape)
        rows = []
        for threads in self.thread_counts():
            with self.worker(model, threads, NEAR + PROMPT) as worker:
                prefill = self.row(worker, model, threads, "prefill", PROMPT, 0)
                decode = self.row(worker, model, threads, "decode", DECODE_TOKENS, NEAR)
            rows.append({"threads": threads, **prefill, **decode})
        return rows

    def thread_counts(self) -> list[int]:
        """Powers of two and all cores; twice as many as there are shows what that costs."""
        if self.arguments.threads:
            return [int(n) for n in self.arguments.threads.split(",")]
        powers = [2**n for n in range(10) if 2**n < self.cores]
        return [*powers, self.cores, 2 * self.cores]

    def context(self) -> list[dict[str, Any]]:
        model = self.model(self.arguments.shape)
        contexts = CONTEXTS[:3] if self.arguments.quick else CONTEXTS
        rows = []
        with self.worker(model, self.cores, contexts[-1] + PROMPT) as worker:
            for after in contexts:
                prefill = self.row(worker, model, self.cores, "prefill", PROMPT, after)
                decode = self.row(worker, model, self.cores, "decode", DECODE_TOKENS, after)
                rows.append({"after": after, **prefill, **decode})
        return rows

    def batch(self) -> list[dict[str, Any]]:
        model = self.model(self.arguments.shape)
        batches = BATCHES[:7] if self.arguments.quick else BATCHES
        with self.worker(model, self.cores, NEAR + batches[-1]) as worker:
            return [{"tokens": n, **self.row(worker, model, self.cores, "prefill", n, NEAR)} for n in batches]

    def shapes(self) -> list[dict[str, Any]]:
        rows = []
        for name in MODELS[:1] if self.arguments.quick else MODELS:
            model = self.model(name)
            with self.worker(model, self.cores, NEAR + PROMPT) as worker:
                prefill = self.row(worker, model, self.cores, "prefill", PROMPT, 0)
                decode = self.row(worker, model, self.cores, "decode", DECODE_TOKENS, NEAR)
            megabytes = round(decode_bytes(model.path) / 1e6)
            rows.append({"shape": name, "read_mb": megabytes, **prefill, **decode})
        return rows


def cells(row: dict[str, Any], first: dict[str, Any]) -> list[tuple[str, str]]:
    """(title, text) of a row's cells: a rate is followed by how it compares with the first row's, its limit,
    and its part of that.
    """
    out = []
    for key, value in row.items():
        what = key.removesuffix("_tps")
        if key.endswith("_limit_tps"):
            rate = row[key.replace("_limit", "")]
            out += [("limit", f"{value:.1f}"), ("of it", f"{rate / value:.0%}")]
        elif what != key:
            out += [(f"| {what} t/s", f"{value:.1f}"), ("of first", f"{value / first[key]:.2f}")]
        else:
            out.append((key, str(value)))
    return out


def spell(rows: Sequence[dict[str, Any]]) -> str:
    """Rows for people."""
    lines = [cells(row, rows[0]) for row in rows]
    named = isinstance(next(iter(rows[0].values())), str)
    return table([title for title, _ in lines[0]], [[t for _, t in line] for line in lines], left=int(named))


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__, formatter_class=raw)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--quick", action="store_true", help="a small model, short contexts, one turn")
    parser.add_argument("--format", default="q4_0", choices=PLAIN)
    parser.add_argument("--shape", choices=SHAPES, help="of threads, context and batch [tinyllama-1.1b]")
    parser.add_argument("--threads", help="those of the table of threads, separated by commas")
    parser.add_argument("--repeat", type=int, help="turns, the fastest counts [3]")
    parser.add_argument("--engine", default="edgeq", choices=CACHES)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has llama_cpp")
    parser.add_argument("--dir", type=Path, help="where model files are kept [the user's cache]")
    arguments = parser.parse_args()
    unknown = set(arguments.tables) - set(TABLES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: tables are {', '.join(TABLES)}")
    arguments.shape = arguments.shape or (MODELS[0] if arguments.quick else "tinyllama-1.1b")
    arguments.repeat = arguments.repeat or (1 if arguments.quick else 3)
    return arguments


def main() -> None:
    arguments = parse()
    warn_if_busy()
    bench = Bench(arguments)
    read, dot = bench.machine.limits(bench.cores)
    facts = {
        "machine": platform.machine(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "cores": bench.cores,
        "read_gbps": round(read / 1e9, 2),
        "dot_gmacs": round(dot / 1e9, 1),
    }
    setting = {"engine": arguments.engine, "format": arguments.format, "shape": arguments.shape}
    for names in (facts, setting):
        print(", ".join(f"{name} {value}" for name, value in names.items()))
    rows = {}
    for name in arguments.tables or TABLES:
        say(f"measuring {name}")
        rows[name] = getattr(bench, name)()
        print(f"\n{name}\n{spell(rows[name])}", flush=True)
    bench.machine.close()
    print(json.dumps({**facts, **setting, **rows}))


if __name__ == "__main__":
    main()

"""`edgeq serve` beside llama.cpp's llama-server and beside the model alone, in turns on one machine.

usage: python -m bench.serve [--llama-server PROGRAM] [--formats q4_0,q4_k_m] [--streams 1,4,8,16]
                             [--threads N] [--tokens 48] [--turns 3] [--shape SHAPE] [--dir DIR]
                             [--only PART,…]

The same random weights in a real model's shape go to both (`bench.files`): the GGUF file to llama-server,
what it converts to with every number kept to edgeq. Prompts are random ids, every answer has as many tokens
as were asked for, and both draw with the same settings. All servers stay loaded and take turns; a ratio is
the median of those of neighbouring turns. One figure a line with its bar; the last line of stdout is one
JSON object.

llama-server is built from llama.cpp's sources, which the source distribution of llama-cpp-python has:

    pip download --no-deps --no-binary :all: llama-cpp-python && tar xzf llama_cpp_python-*.tar.gz
    cmake -S llama_cpp_python-*/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \\
        -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \\
        -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
    cmake --build build --target llama-server        # build/bin/llama-server

Without it the peer's columns stay empty, which is said. PARTS are streams, alone, prefix, gap, memory, start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.connections import UNREAD, idle_connection, unread
from bench.files import Files, default_directory, prepare, say
from bench.processes import middle, once
from bench.quantize import ROOT
from bench.servers import Server, Stream, body, edgeq, llama, read_all, rss_anon
from bench.weights import SHAPES, Shape

PARTS = ("streams", "alone", "prefix", "gap", "memory", "start")
PROMPT, SHARED, LONG = 16, 1000, 4000  # tokens of prompts
CONTEXT, LONG_CONTEXT = 2048, 5120  # of a text, at the most
END = 2  # the end token of `bench.weights`
PAUSE_S = 0.2  # between turns: threads of the other server that still spin have parked by then
STREAMS_BARS = {1: 1.6, 4: 1.4, 8: 1.4, 16: 1.4}

ALONE = """
import sys, edgeq
from edgeq.evaluate.throughput import measure
with edgeq.load(sys.argv[1], threads=int(sys.argv[2]), context=int(sys.argv[3])) as model:
    with model.batch() as batch:
        batch.add([1], max_tokens=8, ignore_eos=True, logprobs=1, seed=1)
        batch.run()
    print("ready", flush=True)
    for line in sys.stdin:
        row = measure(model, prefill=0, decode=int(line), depth=int(sys.argv[4]), repetitions=1)
        print(row.decode.median, flush=True)
"""


@dataclass
class Row:
    """A figure beside what it is held to. bar: the least, or the most where `most`; peer: llama-server's."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    most: bool = False
    peer: float | None = None
    note: str = ""

    @property
    def held(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value <= self.bar if self.most else self.value >= self.bar

    def line(self) -> str:
        bar = "" if self.bar is None else f"{'<=' if self.most else '>='} {self.bar:g}"
        verdict = {None: "", True: "", False: "MISSED"}[self.held]
        peer = "" if self.peer is None else f"{self.peer:.4g}"
        return f"{self.name:46}{self.value:10.4g} {self.unit:9}{bar:>10} {verdict:7}{peer:>10}  {self.note}"


class Ids:
    """Prompts that nobody has seen before."""

    def __init__(self, vocab: int) -> None:
        self._random, self._vocab = np.random.default_rng(os.getpid()), vocab

    def __call__(self, count: int) -> list[int]:
        found: list[int] = self._random.integers(300, self._vocab, count).tolist()
        return found


class Alone:
    """The model in a process without a server, which does what `edgeq bench` does."""

    def __init__(self, model: Path, threads: int, context: int) -> None:
        line = [sys.executable, "-c", ALONE, str(model), str(threads), str(context), str(PROMPT)]
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def rate(self, tokens: int) -> float:
        """Tokens a second that are computed one by one."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{tokens}\n")
        self.process.stdin.flush()
        return float(self._line())

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def rate(server: Server, ids: Ids, streams: int, tokens: int) -> float:
    """Tokens a second of all streams while all of them are under way: none reads its prompt any more, and
    none has ended. A token that ends no character has no event, so a stream's events stand for its tokens."""
    time.sleep(PAUSE_S)
    asked = [Stream(server.port, body(ids(PROMPT), tokens, END)) for _ in range(streams)]
    read_all(asked)
    first, last = max(each.times[0] for each in asked), min(each.times[-1] for each in asked)
    total = 0.0
    for stream in asked:
        if stream.tokens != tokens:
            raise RuntimeError(f"{tokens} tokens were asked for, {stream.tokens} came")
        total += tokens * sum(first < each <= last for each in stream.times) / len(stream.times)
    return total / (last - first)


def first_token(server: Server, ids: Sequence[int]) -> float:
    """Seconds to the first event behind a prompt."""
    time.sleep(PAUSE_S)
    stream = Stream(server.port, body(ids, 2, END))
    read_all([stream])
    return stream.first_s


def alternate(servers: dict[str, Any], turn: int) -> Iterator[tuple[str, Any]]:
    """In each turn the other one begins."""
    yield from list(servers.items())[:: 1 if turn % 2 else -1]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


# the parts --------------------------------------------------------------------------------------------


def streams_rows(servers: dict[str, Server], ids: Ids, given: argparse.Namespace) -> Iterator[Row]:
    """Total tokens a second of so many streams."""
    for count in given.streams:
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for turn in range(given.turns):
            for name, server in alternate(servers, turn):
                rates[name].append(rate(server, ids, count, given.tokens))
        ours = statistics.median(rates["edgeq"])
        theirs = statistics.median(rates["llama"]) if "llama" in rates else None
        yield Row(f"{count} streams, total", ours, "tokens/s", peer=theirs, note=spread(rates))
        if theirs is not None:
            bar = STREAMS_BARS.get(count)
            yield Row(f"{count} streams / llama-server", ratio(rates["edgeq"], rates["llama"]), "x", bar)


def spread(rates: dict[str, list[float]]) -> str:
    return "; ".join(
        f"{name} {' '.join(f'{value:.4g}' for value in values)}" for name, values in rates.items()
    )


def alone_rows(server: Server, alone: Alone, ids: Ids, given: argparse.Namespace) -> Iterator[Row]:
    """One stream over HTTP beside `edgeq bench`."""
    rates: dict[str, list[float]] = {"bench": [], "served": []}
    for turn in range(2 * given.turns):
        for name in ("bench", "served")[:: 1 if turn % 2 else -1]:
            time.sleep(PAUSE_S)
            made = alone.rate(given.tokens) if name == "bench" else rate(server, ids, 1, given.tokens)
            rates[name].append(made)
    found = ratio(rates["served"], rates["bench"])
    yield Row("1 stream over HTTP / edgeq bench", found, "x", 0.97, note=spread(rates))


def prefix_rows(servers: dict[str, Server], ids: Ids, given: argparse.Namespace) -> Iterator[Row]:
    """The first token behind a prompt whose beginning is known, beside the first time."""
    cold: dict[str, list[float]] = {name: [] for name in servers}
    known: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(given.turns):
        for name, server in alternate(servers, turn):
            shared = ids(SHARED)
            cold[name].append(first_token(server, shared + ids(PROMPT)))
            known[name].append(first_token(server, shared + ids(PROMPT)))
    peer = "llama" in servers
    for what, times in (("cold", cold), ("known", known)):
        theirs = statistics.median(times["llama"]) if peer else None
        yield Row(
            f"first token, {SHARED} shared tokens, {what}",
            1000 * statistics.median(times["edgeq"]),
            "ms",
            peer=1000 * theirs if theirs is not None else None,
        )
    share = 100 * ratio(known["llama"], cold["llama"]) if peer else None
    yield Row("first token, known / cold", 100 * ratio(known["edgeq"], cold["edgeq"]), "%", 5, True, share)


def gap(server: Server, ids: Ids) -> tuple[float, float]:
    """Seconds: the longest time between two events of a stream while a long prompt is read, and the usual
    one."""
    time.sleep(PAUSE_S)
    running = Stream(server.port, body(ids(PROMPT), 1000, END))
    read_all([running], time.perf_counter() + 2)
    other = Stream(server.port, body(ids(LONG), 2, END))
    while not other.times:
        read_all([running, other], time.perf_counter() + 0.05)
    running.socket.close()
    other.socket.close()
    usual = np.diff([each for each in running.times if each < other.asked])
    beside = [each for each in running.times if other.asked <= each <= other.times[0]]
    return float(np.diff([other.asked, *beside, other.times[0]]).max()), float(np.median(usual))


def gap_rows(servers: dict[str, Server], ids: Ids, given: argparse.Namespace) -> Iterator[Row]:
    """How long a running stream stands still beside a long prompt."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for turn in range(given.turns):
        for name, server in alternate(servers, turn):
            found[name].append(gap(server, ids))
    worst = {name: 1000 * max(longest for longest, _ in pairs) for name, pairs in found.items()}
    step = 1000 * statistics.median(usual for _, usual in found["edgeq"])
    name = f"longest gap beside a prompt of {LONG} tokens"
    yield Row(name, worst["edgeq"], "ms", 300 + step, True, worst.get("llama"), "of all turns; 300 + a step")


def memory_rows(server: Server, alone: Alone) -> Iterator[Row]:
    """What the server holds beside the engine, and for connections at rest."""
    beyond = server.memory - rss_anon(alone.process.pid)
    yield Row("memory beyond the engine", beyond / 1e6, "MB", 40, True)
    yield Row("an idle connection", idle_connection(server) / 1e3, "kB", 16, True)


def start_rows(model: Path, given: argparse.Namespace) -> Iterator[Row]:
    """How soon a server answers, and the processor time of the least that the program does."""
    starts = []
    for _ in range(given.turns):
        with edgeq(model, threads=given.threads, parallel=4, context=0) as server:
            starts.append(server.start_s)
    yield Row("start to /health 200", statistics.median(starts), "s", 2, True)
    line = [sys.executable, "-m", "edgeq", "--help"]
    once(line)
    took = middle([once(line) for _ in range(max(5, given.turns))])
    yield Row("edgeq --help, processor time", took["cpu_s"], "s", 0.15, True)


def unread_rows(given: argparse.Namespace) -> Iterator[Row]:
    """What a client that asks and never reads costs: of the bundled model, whose pages are small."""
    import tempfile

    from edgeq.converters import convert
    from edgeq.demo import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "story.edgeq")
        convert(checkpoint(), model, scheme="q4")
        with edgeq(model, threads=given.threads, parallel=UNREAD, context=0) as server:
            yield Row("a client that never reads", unread(server) / 1e3, "kB", 128, True)


# all of it --------------------------------------------------------------------------------------------


def measured(files: Files, shape: Shape, given: argparse.Namespace) -> Iterator[Row]:
    """The figures of one format."""
    ids, most, context = Ids(shape.vocab), max(given.streams), min(CONTEXT, shape.context)
    with ExitStack() as stack:
        if {"streams", "alone", "memory"} & given.only:
            numbers = {"threads": given.threads, "parallel": most, "context": context}
            servers = {"edgeq": stack.enter_context(edgeq(files.edgeq, **numbers))}
            rate(servers["edgeq"], ids, 1, 8)
            if {"alone", "memory"} & given.only:
                alone = stack.enter_context(Alone(files.edgeq, given.threads, context))
            if "memory" in given.only:
                yield from memory_rows(servers["edgeq"], alone)
            if "alone" in given.only:
                yield from alone_rows(servers["edgeq"], alone, ids, given)
            if "streams" in given.only:
                if given.llama_server is not None:
                    peer = llama(given.llama_server, files.gguf, **numbers)
                    servers["llama"] = stack.enter_context(peer)
                    rate(servers["llama"], ids, 1, 8)
                yield from streams_rows(servers, ids, given)
    with ExitStack() as stack:
        if {"prefix", "gap"} & given.only:
            numbers = {"threads": given.threads, "parallel": 4, "context": LONG_CONTEXT}
            servers = {"edgeq": stack.enter_context(edgeq(files.edgeq, **numbers))}
            if given.llama_server is not None:
                peer = llama(given.llama_server, files.gguf, **numbers)
                servers["llama"] = stack.enter_context(peer)
            for server in servers.values():
                rate(server, ids, 1, 8)
            if "prefix" in given.only:
                yield from prefix_rows(servers, ids, given)
            if "gap" in given.only:
                yield from gap_rows(servers, ids, given)
    if "start" in given.only:
        yield from start_rows(files.edgeq, given)


def main() -> None:
    given = arguments()
    if given.llama_server is None:
        say("no --llama-server: the peer's column stays empty, and nothing is compared with it")
    found: dict[str, Any] = {"threads": given.threads, "shape": given.shape, "tokens": given.tokens}
    print(f"{'':46}{'':10} {'':9}{'bar':>10} {'':7}{'llama':>10}")
    for n, kind in enumerate(given.formats):
        files = prepare(given.dir, given.shape, kind, given.peer_python)
        print(f"{given.shape} {kind}, {given.threads} threads", flush=True)
        rows = []
        for row in measured(files, SHAPES[given.shape], given):
            print(row.line(), flush=True)
            rows.append({**asdict(row), "held": row.held})
        found[kind] = rows
        if n == 0 and "memory" in given.only:
            for row in unread_rows(given):
                print(row.line(), flush=True)
                found["unread"] = {**asdict(row), "held": row.held}
    found["load_average"] = os.getloadavg()[0]
    print(json.dumps(found))


def arguments() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM")
    parser.add_argument("--formats", type=words, default=["q4_0", "q4_k_m"])
    parser.add_argument(
        "--streams", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 8, 16]
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--shape", default="tinyllama-1.1b", choices=sorted(SHAPES))
    parser.add_argument("--dir", type=Path, default=default_directory())
    parser.add_argument("--peer-python", default=sys.executable, help="has llama-cpp-python, which quantizes")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set(PARTS), metavar="PARTS")
    given = parser.parse_args()
    if unknown := given.only - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    return given


if __name__ == "__main__":
    main()

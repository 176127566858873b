"""What a server costs beside the model alone: its start, its memory, and the rate of one stream and of many.

    python -m bench.serve MODEL [--tokens 64] [--streams 1,4,8,16] [--threads N]

One process computes in itself, and `edgeq serve` in another, in turns on the same machine. The last line of
stdout is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROMPT = "Once upon a time"
READY_S = 300

ALONE = """
import sys, time, edgeq
threads = int(sys.argv[2]) or None
with edgeq.load(sys.argv[1], threads=threads) as model:
    list(model.generate("Once", max_tokens=8, ignore_eos=True))
    print("ready", flush=True)
    for line in sys.stdin:
        count = int(line)
        start, first = time.perf_counter(), None
        for piece in model.generate("Once upon a time", max_tokens=count, seed=1, ignore_eos=True):
            first = first or time.perf_counter()
        print((count - 1) / (time.perf_counter() - first), flush=True)
"""


def rss_anon(pid: int) -> int:
    """Bytes that a process holds of its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Alone:
    """The model in a process without a server."""

    def __init__(self, model: str, threads: int) -> None:
        line = [sys.executable, "-c", ALONE, model, str(threads)]
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def rate(self, tokens: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{tokens}\n")
        self.process.stdin.flush()
        return float(self._line())


class Served:
    """The model behind `edgeq serve`."""

    def __init__(self, model: str, threads: int) -> None:
        start = time.perf_counter()
        words = ["--port", "0", "-np", "16", "-q", *(["-t", str(threads)] if threads else [])]
        line = [sys.executable, "-m", "edgeq", "serve", model, *words]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split("http://")[1].split(": context")[0]
        connection = http.client.HTTPConnection(self.address, timeout=READY_S)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        self.start_s = time.perf_counter() - start

    def rate(self, tokens: int, streams: int = 1) -> tuple[float, float]:
        """(tokens a second of all streams, seconds to the first token of the slowest)"""
        times: list[list[float]] = [[] for _ in range(streams)]
        several = enumerate(times)
        threads = [threading.Thread(target=self._stream, args=(own, tokens, n)) for n, own in several]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first = min(each[0] for each in times)
        last = max(each[-1] for each in times)
        return streams * (tokens - 1) / (last - first), max(each[0] for each in times) - start

    def _stream(self, times: list[float], tokens: int, seed: int) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=READY_S)
        body = {
            "prompt": PROMPT,
            "max_tokens": tokens,
            "seed": 1 + seed,
            "stream": True,
            "logit_bias": BANNED,
        }
        connection.request("POST", "/v1/completions", json.dumps(body))
        response = connection.getresponse()
        while line := response.readline():
            if line.startswith(b"data: {"):
                times.append(time.perf_counter())
        connection.close()


BANNED: dict[str, float] = {}  # the end token, so that all texts are of one length


def end_token(address: str) -> dict[str, float]:
    connection = http.client.HTTPConnection(address, timeout=READY_S)
    connection.request("GET", "/tokenizer_info")
    return {str(json.loads(connection.getresponse().read())["eos_token_id"]): -100.0}


@contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def measure(model: str, tokens: int, streams: Sequence[int], threads: int, turns: int = 5) -> dict[str, Any]:
    alone = Alone(model, threads)
    with ended(alone.process):
        served = Served(model, threads)
        with ended(served.process):
            BANNED.update(end_token(served.address))
            served.rate(8)
            memory = rss_anon(served.process.pid) - rss_anon(alone.process.pid)
            pairs = [(alone.rate(tokens), served.rate(tokens)[0]) for _ in range(turns)]
            found: dict[str, Any] = {
                "start_s": served.start_s,
                "memory_beyond_bytes": memory,
                "alone_tokens_s": statistics.median(pair[0] for pair in pairs),
                "served_tokens_s": statistics.median(pair[1] for pair in pairs),
            }
            found["ratio"] = statistics.median(served / alone for alone, served in pairs)
            found["streams"] = {}
            for count in streams:
                rate, first = served.rate(tokens, count)
                found["streams"][count] = {"tokens_s": rate, "first_token_s": first}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--streams", default="1,4,8,16")
    parser.add_argument("--threads", type=int, default=0, help="0: the cores of this process")
    given = parser.parse_args()
    found = measure(given.model, given.tokens, [int(n) for n in given.streams.split(",")], given.threads)
    print(f"start to /health 200       {found['start_s']:.2f} s")
    print(f"memory beyond the engine   {found['memory_beyond_bytes'] / 1e6:.1f} MB")
    print(f"one stream, alone          {found['alone_tokens_s']:.1f} tokens/s")
    print(f"one stream, served         {found['served_tokens_s']:.1f} tokens/s, {found['ratio']:.3f} of it")
    for count, row in found["streams"].items():
        late = f"first token after {row['first_token_s']:.3f} s"
        print(f"{count:3} streams  {row['tokens_s']:8.1f} tokens/s, {late}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

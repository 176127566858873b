"""Servers under measurement, and a client that costs little: one thread reads all streams of a turn."""

from __future__ import annotations

import http.client
import json
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.quantize import ROOT

READY_S, STUCK_S = 300, 600
EVENT = b"data: {"


def rss_anon(pid: int) -> int:
    """Bytes that a process holds of its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Server:
    """A process that serves HTTP on 127.0.0.1, ready; leaving the context ends it. `start_s`: until /health
    answered 200."""

    def __init__(self, command: Sequence[str], port: int | None = None) -> None:
        """port: where it will listen; None where its first line of stdout tells."""
        start = time.perf_counter()
        told = subprocess.PIPE if port is None else subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=told, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
        try:
            self.port = self._told() if port is None else port
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        self.start_s = time.perf_counter() - start

    def _told(self) -> int:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise SystemExit(f"the server ended with code {self.process.wait()} before it listened")
        return int(found[1])

    def _wait(self) -> None:
        end = time.perf_counter() + READY_S
        while time.perf_counter() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with code {self.process.returncode}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise SystemExit(f"the server was not ready within {READY_S} s")

    def get(self, path: str) -> tuple[int, str]:
        """The status and the body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @property
    def memory(self) -> int:
        return rss_anon(self.process.pid)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def edgeq(model: Path, *, threads: int, parallel: int, context: int) -> Server:
    """`edgeq serve`. context: tokens of each text."""
    numbers = ["--port", "0", "-q", "-np", str(parallel), "-c", str(context), "-t", str(threads)]
    return Server([sys.executable, "-m", "edgeq", "serve", str(model), *numbers])


def llama(program: Path, model: Path, *, threads: int, parallel: int, context: int) -> Server:
    """llama.cpp's llama-server, by its own defaults but for what is the same for both."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    numbers = ["-np", str(parallel), "-c", str(parallel * context), "-t", str(threads), "-tb", str(threads)]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    return Server([str(program), "-m", str(model), *numbers, "-cb", *place], port)


class Stream:
    """One completion that is read as it comes. The times are those of `time.perf_counter`."""

    def __init__(self, port: int, body: dict[str, Any], receive_bytes: int | None = None) -> None:
        """Asks at once. receive_bytes: of the socket's buffer."""
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(STUCK_S)
        self.socket.connect(("127.0.0.1", port))
        data = json.dumps({"stream": True, "stream_options": {"include_usage": True}, **body}).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        self.asked = time.perf_counter()
        self.socket.sendall(head.encode() + data)
        self.times: list[float] = []  # of events
        self.over = False
        self._parts: list[bytes] = []
        self._last = b""

    def read(self) -> None:
        """Take what is there. RuntimeError where it is no stream of events."""
        part = self.socket.recv(1 << 16)
        now = time.perf_counter()
        self._parts.append(part)
        seen, self._last = self._last + part, part[1 - len(EVENT) :]
        self.times += [now] * seen.count(EVENT)
        if b"[DONE]" in seen:
            self.over = True
        elif not part:
            self.socket.close()
            raise RuntimeError(f"a stream broke off: {b''.join(self._parts)[-300:]!r}")

    @property
    def tokens(self) -> int:
        """How many it was told to have had."""
        found = re.findall(rb'"completion_tokens":\s*(\d+)', b"".join(self._parts))
        return int(found[-1]) if found else 0

    @property
    def first_s(self) -> float:
        """Seconds to the first event."""
        return self.times[0] - self.asked


def read_all(streams: Sequence[Stream], until: float | None = None) -> None:
    """Read streams to their ends, or until a time."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            if not stream.over:
                selector.register(stream.socket, selectors.EVENT_READ, stream)
        while selector.get_map():
            wait = STUCK_S if until is None else until - time.perf_counter()
            if wait <= 0:
                return
            for key, _ in selector.select(wait):
                key.data.read()
                if key.data.over:
                    selector.unregister(key.fileobj)
                    key.data.socket.close()


def body(ids: Sequence[int], tokens: int, end: int, **more: Any) -> dict[str, Any]:
    """A request for exactly so many tokens after the ids: never the end token, and drawn with the same
    settings by all servers."""
    drawn = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "seed": 1}
    return {"prompt": list(ids), "max_tokens": tokens, "logit_bias": {str(end): -100}, **drawn, **more}

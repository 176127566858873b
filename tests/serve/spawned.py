"""`edgeq serve` in a process of its own, over the bundled model, and what the system says of that process."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.patience import STUCK_S
from tests.serve.live import TEMPLATE

ROOT = Path(__file__).resolve().parents[2]
READY = " is served at http://"


def demo(folder: Path) -> Path:
    """The bundled model in a folder, and its template beside it."""
    from edgeq.converters import convert
    from edgeq.demo import checkpoint

    path = folder / "stories.edgeq"
    convert(checkpoint(), path, scheme="q4")
    path.with_suffix(".jinja").write_text(TEMPLATE)
    return path


class Spawned:
    """A server, ready, until `end` or `kill`. Its log is appended to `log`.

    ready_s: seconds from its start to the answer of /health. AssertionError where it does not come up.
    """

    def __init__(self, model: Path, log: Path, *words: str) -> None:
        template = str(model.with_suffix(".jinja"))
        line = [sys.executable, "-m", "edgeq", "serve", str(model), "--port", "0", "-t", "1"]
        line += ["--chat-template-file", template, *words]
        began = time.monotonic()
        with open(log, "ab") as said:
            self.process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=said)
        try:
            told = self._line()
            assert READY in told, f"it said {told!r}, and {log.read_text()[-2000:]}"
            self.port = int(told.split(READY)[1].split(": context")[0].rpartition(":")[2])
            assert self.get("/health")[0] == 200
        except BaseException:
            self.kill()
            raise
        self.ready_s = time.monotonic() - began

    def _line(self) -> str:
        """The first line of stdout, which tells that it is ready."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:  # select() knows no descriptor above 1023
            selector.register(self.process.stdout, selectors.EVENT_READ)
            ready = selector.select(STUCK_S)
        assert ready, f"it was not ready within {STUCK_S} s"
        return self.process.stdout.readline().decode()

    def end(self) -> int:
        """As systemd does it: the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STUCK_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """kill -9, if it lives."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    # a client -------------------------------------------------------------------------------------------

    def connect(self, timeout: float = STUCK_S) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """(status, body) of an answer. A body that is not bytes is sent as JSON."""
        connection = self.connect()
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, bytes]:
        return self.ask("GET", path)

    def post(self, path: str, body: Any) -> tuple[int, bytes]:
        return self.ask("POST", path, body)

    # its process ------------------------------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        """The numbers of /metrics that have no labels."""
        lines = self.get("/metrics")[1].decode().splitlines()
        words = [line.split() for line in lines if not line.startswith("#") and "{" not in line]
        return {name: float(value) for name, value in words}

    def memory(self) -> int:
        """Bytes that it holds of its own, in memory or swapped out."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in status)
        return sum(1024 * int(found[name].split()[0]) for name in ("RssAnon", "VmSwap"))

    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

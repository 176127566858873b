"""What a server does under what no client should do, beside its bars: half requests, and all at once.

usage: python -m bench.abuse [--count 1000]

`edgeq serve` of the bundled model, 4 at once and 64 waiting. First so many connections send half a header and
nothing else: all must be closed within 12 s, and /health answered within 100 ms meanwhile. Then as many
connections that are open already send a request each in one moment: each is answered, or turned away within
200 ms. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.serve.spawned import Spawned, demo

CLOSED_S, HEALTH_S, REFUSED_S = 12.0, 0.1, 0.2
LIMIT_S = 60.0
HALF = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-"
BODY = json.dumps({"prompt": "Once upon a time", "max_tokens": 32, "seed": 1}).encode()
WHOLE = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


def connected(port: int, count: int) -> list[socket.socket]:
    made = [socket.create_connection(("127.0.0.1", port), LIMIT_S) for _ in range(count)]
    for connection in made:
        connection.setblocking(False)
    return made


def half_headers(server: Spawned, count: int) -> dict[str, float]:
    """{"closed_s": until the last of them is closed, "health_s": the longest answer of /health meanwhile}"""
    connections = connected(server.port, count)
    began = time.monotonic()
    for connection in connections:
        connection.send(HALF)
    longest = 0.0
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < began + LIMIT_S:
            asked = time.monotonic()
            assert server.get("/health")[0] == 200
            longest = max(longest, time.monotonic() - asked)
            for key, _ in selector.select(0.05):
                selector.unregister(key.fileobj)
        left = len(selector.get_map())
    for connection in connections:
        connection.close()
    assert not left, f"{left} of {count} half headers were not closed within {LIMIT_S:g} s"
    return {"closed_s": time.monotonic() - began, "health_s": longest}


def at_once(server: Spawned, count: int) -> dict[str, Any]:
    """{status: [answers, seconds to the first and to the last of them]}"""
    connections = connected(server.port, count)
    time.sleep(0.2)  # until the server has taken them all
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        began = time.monotonic()
        for connection in connections:
            connection.send(WHOLE)
        times: dict[str, list[float]] = {}
        while selector.get_map() and time.monotonic() < began + LIMIT_S:
            for key, _ in selector.select(1):
                selector.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                status = key.fileobj.recv(1 << 16).split()[1:2]
                times.setdefault(status[0].decode() if status else "closed", []).append(
                    time.monotonic() - began
                )
        if left := len(selector.get_map()):
            times["none"] = [LIMIT_S] * left
    for connection in connections:
        connection.close()
    return {status: [len(row), min(row), max(row)] for status, row in sorted(times.items())}


def measure(count: int, turns: int = 3) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edgeq-abuse-") as folder:
        words = ("-np", "4", "--queue", "64", "-q")
        server = Spawned(demo(Path(folder)), Path(folder) / "log", *words)
        try:
            return {
                "half": half_headers(server, count),
                "at_once": [at_once(server, count) for _ in range(turns)],
            }
        finally:
            server.kill()


def shown(found: dict[str, Any], count: int) -> Sequence[str]:
    half = found["half"]
    lines = [
        f"{count} half headers    closed after {half['closed_s']:.1f} s (bar {CLOSED_S:g})",
        f"/health meanwhile    {1000 * half['health_s']:.0f} ms at the longest (bar {1000 * HEALTH_S:.0f})",
    ]
    for turn in found["at_once"]:
        for status, (number, first, last) in turn.items():
            bar = f" (bar {REFUSED_S:g})" if status == "429" else ""
            lines.append(f"{count} at once         {number} x {status} from {first:.3f} to {last:.3f} s{bar}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    found = measure(count)
    print("\n".join(shown(found, count)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

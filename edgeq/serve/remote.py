"""A server on another machine, asked over HTTP with what Python brings along: nothing is installed for it.

What it sends is hostile input like any other: sizes, types and times are bounded.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edgeq.errors import UsageError, printable, shown

CONNECT_S = 10.0
ANSWER_S = 4500.0  # a request may wait in the server's queue and then be computed for that long
ANSWER_BYTES_MAX = 64 << 20
RETRY_S, RETRY_MAX_S = 1.0, 60.0  # where a busy server does not say when, and what is taken of what it says
# a machine that is gone says nothing: the system looks after 30 s of silence, and gives up 30 s later
ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class Busy(Exception):
    """The server takes no more just now; it may be asked again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"busy for {seconds:g} s")
        self.seconds = seconds


class Failed(Exception):
    """No answer came, and another try may bring one. answer: (status, body) of a fault of the server's.
    sent: whether the server may have begun with the request."""

    def __init__(self, why: str, answer: tuple[int, Any] | None = None, sent: bool = True) -> None:
        super().__init__(why)
        self.answer, self.sent = answer, sent


class Unfit(Exception):
    """The server answers no request of ours, however often it is asked."""


@dataclass(frozen=True)
class Address:
    """Where a server is. name: as it was given, for people."""

    name: str
    is_secure: bool
    host: str
    port: int | None
    path: str  # before /v1
    key: str | None = None


def address(url: str, key: str | None = None) -> Address:
    """The parts of a URL such as http://pi1:8080; /v1 at its end means nothing. UsageError for no URL."""
    name = printable(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"{name} is no URL of a server: http://HOST:PORT is expected") from None
    is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
    is_clean = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain or not is_clean:
        raise UsageError(f"{name} is no URL of a server: http://HOST:PORT is expected")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Address(url.rstrip("/"), parts.scheme == "https", parts.hostname, port, path, key)


class Call:
    """One request and its answer, on a connection of its own. `end`, from any thread, ends it at once."""

    def __init__(self, server: Address) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None
        self._ended = False

    def end(self) -> None:
        """Let go: the server stops computing, and `ask` raises Failed."""
        self._ended = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def ask(self, url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """(status, body) of the answer; of a refusal, too, that every server would give. Raises Busy, Failed
        or Unfit for anything else."""
        server = self._server
        kind = http.client.HTTPSConnection if server.is_secure else http.client.HTTPConnection
        connection = self._connection = kind(server.host, server.port, timeout=CONNECT_S)
        headers = {"content-type": "application/json"}
        if server.key is not None:
            headers["authorization"] = f"Bearer {server.key}"
        sent = False
        try:
            connection.connect()
            watch(connection.sock)
            if self._ended:
                raise Failed("it was ended")
            sent = True
            connection.request("POST", server.path + url, json.dumps(body).encode(), headers)
            with connection.getresponse() as response:
                data = response.read(ANSWER_BYTES_MAX + 1)
                if response.length and len(data) <= ANSWER_BYTES_MAX:
                    raise Failed("its answer was cut short")
        except ssl.SSLCertVerificationError as error:
            raise Unfit(f"its certificate is not taken: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Failed(str(error) or type(error).__name__, sent=sent) from None
        finally:
            connection.close()
        if len(data) > ANSWER_BYTES_MAX:
            raise Unfit(f"it answers with more than {ANSWER_BYTES_MAX} bytes")
        return judged(response.status, response.headers.get("retry-after"), data)


def watch(connection: socket.socket) -> None:
    """Let a connection be silent for as long as an answer takes, but not where its machine is gone."""
    connection.settimeout(ANSWER_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def judged(status: int, retry_after: str | None, data: bytes) -> tuple[int, dict[str, Any]]:
    """What an answer means: see `Call.ask`."""
    try:
        body: Any = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    is_object = isinstance(body, dict)
    if status == 429 or (status == 503 and retry_after is not None):
        raise Busy(seconds(retry_after))
    if status == 408 or status in (500, 502, 503, 504):
        raise Failed(f"it answers with {status}", (status, body) if is_object else None)
    if status == 200 and not is_object:
        raise Failed("it answers with no JSON object")
    error = body.get("error") if is_object else None
    code = error.get("code") if isinstance(error, dict) else None
    is_answer = status == 200 or (400 <= status < 500 and isinstance(error, dict)) or status == 501
    if status in (401, 403, 405) or (status == 404 and code != "model_not_found"):
        is_answer = False
    if not is_answer or not is_object:
        told = error.get("message") if isinstance(error, dict) else None
        raise Unfit(f"it answers with {status}" + (f": {shown(told)}" if told else ""))
    return status, body


def seconds(retry_after: str | None) -> float:
    """What a header says, within bounds; a date counts as nothing said."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdecimal()):
        return RETRY_S
    return min(max(float(retry_after[:9]), RETRY_S), RETRY_MAX_S)

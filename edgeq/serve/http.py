"""HTTP as uvicorn and h11 speak it, with limits on connections, on their headers, and on how long these take.

Only h11 reads requests. Bodies and slow readers have their limits in `answer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeq.serve.errors import ApiError
from edgeq.serve.wire import error_json

POST = re.compile(rb"POST (/[a-z0-9/_-]{1,80}) HTTP/1\.1\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,7})(?=\r\n|\Z)", re.IGNORECASE)
# of pages, which are told by what they may read, and of bodies that do not come in one piece
FOREIGN = re.compile(rb"\r\n(?:origin|transfer-encoding|expect|upgrade)[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What one client may take: bytes, seconds and counts."""

    header_bytes: int = 16 << 10
    header_s: float = 10
    body_bytes: int = 8 << 20
    body_idle_s: float = 30
    body_s: float = 120
    idle_s: float = 75  # of a connection between requests
    connections: int = 1024
    requests: int = 128  # that are under way
    reader_s: float = 60  # that a reader may take nothing
    queue_s: float = 600
    request_s: float = 3600
    ping_s: float = 15
    drain_s: float = 10


def whole_post(data: bytes) -> str | None:
    """The path of a request that `data` is from its first byte to its last, if it is a plain POST that no
    page sends: nothing of it is left on the way, whatever becomes of the connection."""
    head, found, body = data.partition(b"\r\n\r\n")
    line = POST.match(head)
    if not found or line is None or FOREIGN.search(head):
        return None
    lengths = LENGTH.findall(head)
    return line[1].decode() if len(lengths) == 1 and int(lengths[0]) == len(body) else None


def response_bytes(error: ApiError, body: object) -> bytes:
    """A whole answer, after which the connection ends."""
    data = msgspec.json.encode(body)
    found = {
        "content-type": "application/json",
        "content-length": str(len(data)),
        "connection": "close",
        **error.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in found.items())
    return f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n{head}\r\n".encode() + data


def protocol_class(app: Any, limits: Limits) -> type[H11Protocol]:
    """The protocol of a connection with these limits.

    Where as many requests are under way as are taken, one more is turned away before it is parsed: a crowd
    costs little, and what runs goes on. app.turned_away(path): the bytes of its refusal, or None for a path
    that is to be parsed all the same.
    """

    class Protocol(H11Protocol):
        _headers: asyncio.TimerHandle | None = None

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.app_state = {**self.app_state, "protocol": self}

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._refuse(
                    ApiError(
                        503,
                        f"{limits.connections} connections are open, and no more are taken",
                        code="too_many_connections",
                        retry_after=5,
                    )
                )
                return
            self._wait_for_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._have_headers()
            super().connection_lost(exc)
            if exc is not None:
                self._unset_keepalive_if_required()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if len(self.tasks) >= limits.requests and (refused := self._one_too_many(data)) is not None:
                self._have_headers()
                self.transport.write(refused)
                self.transport.close()
                return
            if self._headers is None and (self.cycle is None or self.cycle.response_complete):
                self._wait_for_headers()
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self._have_headers()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.transport.is_closing() and self.conn.trailing_data[0]:
                self._wait_for_headers()  # the beginning of another request is there

        def send_400_response(self, msg: str) -> None:
            too_long = len(self.conn.trailing_data[0]) >= limits.header_bytes
            if too_long:
                self._refuse(
                    ApiError(
                        431, f"the header has more than {limits.header_bytes} bytes", code="header_too_large"
                    )
                )
            else:
                self._refuse(ApiError(400, "this is no HTTP request", code="invalid_http"))

        @property
        def is_behind(self) -> bool:
            """Whether the client reads less than it is sent, so that what is sent next waits."""
            return self.flow.write_paused

        def abort(self) -> None:
            """End the connection, whatever it was not able to send."""
            self.transport.abort()

        def _one_too_many(self, data: bytes) -> bytes | None:
            """The refusal of what may be turned away unparsed: a whole request, and no part of another."""
            is_new = (self.cycle is None or self.cycle.response_complete) and not self.conn.trailing_data[0]
            path = whole_post(data) if is_new else None
            return None if path is None else app.turned_away(path)

        def _wait_for_headers(self) -> None:
            if self._headers is None:
                self._headers = self.loop.call_later(limits.header_s, self._late)

        def _have_headers(self) -> None:
            if self._headers is not None:
                self._headers.cancel()
                self._headers = None

        def _late(self) -> None:
            self._headers = None
            if not self.transport.is_closing():
                self.abort()

        def _refuse(self, error: ApiError) -> None:
            """Answer without a request, and close."""
            self._have_headers()
            body = msgspec.json.encode(error_json(error))
            headers = {
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
                **error.headers,
            }
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                self.abort()
                return
            with contextlib.suppress(h11.LocalProtocolError):
                for event in (
                    h11.Response(status_code=error.status, headers=list(headers.items())),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Protocol


class Server(uvicorn.Server):
    """uvicorn's server, whose signals and end are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop_listening(self) -> None:
        for server in self.servers:
            server.close()


def server_for(app: Any, limits: Limits) -> Server:
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).disabled = True  # the app tells what is to be told
    config = uvicorn.Config(
        app,
        http=protocol_class(app, limits),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_keep_alive=int(limits.idle_s),
        timeout_graceful_shutdown=1,
        backlog=2048,
    )
    return Server(config)

"""From a request's body to the last byte of its answer, the same for each dialect.

All that can fail is decided before the status line: the body is read, checked, tokenized and admitted first.
A client that leaves, at whatever moment, is no longer computed for from the next step on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from edgeq.serve import fields
from edgeq.serve.errors import ApiError, api_error
from edgeq.serve.request import Reply, Whole
from edgeq.serve.served import Served
from edgeq.serve.work import Work

if TYPE_CHECKING:
    from edgeq.serve.app import App

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Dialect = Callable[[Served, Mapping[str, Any]], Reply | Whole]

RELAXED = "x-edgeq-relaxed"  # the header that tells which keywords of tools no answer is held to
RELAXED_CHARS = 1024
INLINE_BYTES = 1 << 16  # of a body that is read on the loop; a longer one would hold others up


class Left(Exception):
    """The client has left."""


async def body_of(app: App, receive: Receive) -> bytes:
    """The whole body. ApiError where it is too large or does not come."""
    limits, parts, size = app.limits, [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            while True:
                async with asyncio.timeout(limits.body_idle_s):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise Left
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limits.body_bytes:
                    raise too_large(limits.body_bytes)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise ApiError(
            408,
            f"the body did not come within {limits.body_idle_s:g} s without a pause and {limits.body_s:g} s "
            "in all",
            code="body_timeout",
            headers={"connection": "close"},
        ) from None


def headers_of(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"the body has more than the {most} bytes that are taken",
        code="body_too_large",
        headers={"connection": "close"},
    )


async def data_of(app: App, receive: Receive) -> dict[str, Any]:
    """The JSON object of a body."""
    body = await body_of(app, receive)
    if len(body) <= INLINE_BYTES:
        return fields.decoded(body)
    return await asyncio.get_running_loop().run_in_executor(app.pool, fields.decoded, body)


async def json_response(
    send: Send, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    body = msgspec.json.encode(value)
    found = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    await start(send, status, found)
    await send({"type": "http.response.body", "body": body})


async def start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    listed = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})


async def answer(app: App, dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request in a dialect. ApiError, before anything is sent, for what is refused."""
    app.ready()
    data = await data_of(app, receive)
    served, worker = app.meant(data)
    loop = asyncio.get_running_loop()
    work = worker.reserve()
    scope["edgeq"].work, scope["edgeq"].model = work, served.name
    left = asyncio.ensure_future(leaving(receive))
    left.add_done_callback(lambda _: work.close())
    try:
        try:
            reply = await loop.run_in_executor(app.pool, dialect, served, data)
            if isinstance(reply, Whole):
                worker.release(work)
                await json_response(send, reply.value)
                return
            app.metrics.ignored(getattr(reply, "unknown", ()))
            served.check_predicts()
            if reply.relaxed:
                scope["edgeq"].headers[RELAXED] = listed(reply.relaxed)
            worker.widen(work, sum(request.n for request in reply.requests))
            salt = scope["edgeq"].salt
            requests = [replace(request, salt=salt + request.salt) for request in reply.requests]
            await loop.run_in_executor(app.pool, worker.submit, work, requests)
        except BaseException:
            worker.release(work)
            raise
        reply.begin(work.generations)
        if reply.stream:
            protocol = scope.get("state", {}).get("protocol")
            behind = (lambda: protocol.is_behind) if protocol is not None else (lambda: True)
            await _stream(app, reply, work, left, send, behind)
        else:
            await _whole(app, reply, work, left, send)
    finally:
        work.close()
        left.cancel()


def listed(places: Sequence[str]) -> str:
    """JSON pointers in a header: as in the fragment of a URI, so that whatever names tools and properties
    have stays one word; as many as are short enough to be sent, and how many more there are."""
    words: list[str] = []
    left = RELAXED_CHARS
    for place in places:
        word = quote(place, safe="/~$")
        left -= len(word)
        if left < 0:
            words.append(f"and {len(places) - len(words)} more")
            break
        words.append(word)
    return ", ".join(words)


async def leaving(receive: Receive) -> None:
    """Waits until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _whole(app: App, reply: Reply, work: Work, left: asyncio.Future[None], send: Send) -> None:
    timed = _until(work, app.limits.queue_s, app.limits.request_s)
    async with contextlib.aclosing(timed):
        async for events in timed:
            if events:
                reply.take(events)
    if left.done():
        raise Left
    await json_response(send, reply.whole())


async def _stream(
    app: App,
    reply: Reply,
    work: Work,
    left: asyncio.Future[None],
    send: Send,
    behind: Callable[[], bool],
) -> None:
    """behind(): whether `send` would wait for the client to read."""
    limits = app.limits

    async def write(data: bytes, more: bool = True) -> None:
        if left.done():
            raise Left
        message = {"type": "http.response.body", "body": data, "more_body": more}
        if not behind():  # nothing is waited for, and a timer for each token costs as much as the rest
            await send(message)
            return
        try:
            async with asyncio.timeout(limits.reader_s):
                await send(message)
        except TimeoutError:
            raise Left from None  # it takes nothing: as if it had left

    await start(
        send, 200, {"content-type": reply.media, "cache-control": "no-cache", "x-accel-buffering": "no"}
    )
    await write(reply.opening())
    try:
        timed = _until(work, limits.queue_s, limits.request_s, limits.ping_s)
        async with contextlib.aclosing(timed):
            async for events in timed:
                data = reply.take(events) if events else reply.ping
                if data:
                    await write(data)
        last = reply.closing()
    except Left:
        raise
    except Exception as error:
        if left.done():
            raise Left from None
        app.failed(error)
        last = reply.failure(api_error(error))
    await write(last, more=False)


async def _until(
    work: Work, queue_s: float, request_s: float, ping_s: float | None = None
) -> AsyncGenerator[list[Any], None]:
    """The work's events, and an empty list whenever `ping_s` seconds went by without one. ApiError where it
    does not begin, or end, in time."""
    clock = asyncio.get_running_loop().time
    begun, end = clock() + queue_s, clock() + request_s

    def limit() -> float:
        return end if work.started.is_set() else min(begun, end)

    def until() -> float:
        return limit() if ping_s is None else min(limit(), clock() + ping_s)

    async with contextlib.aclosing(work.events(until)) as events:
        async for found in events:
            if not found and clock() >= limit():
                raise _late(work.started.is_set(), queue_s, request_s)
            yield found


def _late(is_started: bool, queue_s: float, request_s: float) -> ApiError:
    if is_started:
        return ApiError(503, f"the answer took more than {request_s:g} s", code="request_timeout")
    return ApiError(
        503,
        f"the request waited {queue_s:g} s and its turn did not come",
        code="queue_timeout",
        retry_after=30,
    )

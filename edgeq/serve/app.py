"""The application: which path is answered by what, and what is around every answer."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.routing import Match, Route

from edgeq.errors import EdgeqError
from edgeq.serve import anthropic, llamacpp, ollama, tokens
from edgeq.serve.answer import (
    Dialect,
    Left,
    Receive,
    Scope,
    Send,
    answer,
    data_of,
    json_response,
    leaving,
    start,
    too_large,
)
from edgeq.serve.completions import CompletionReply
from edgeq.serve.embeddings import embeddings
from edgeq.serve.errors import ApiError, api_error
from edgeq.serve.guard import OPEN, Guard
from edgeq.serve.http import Limits, response_bytes
from edgeq.serve.metrics import Metrics
from edgeq.serve.openai import ChatReply
from edgeq.serve.page import page_answer, pages, wants_page
from edgeq.serve.served import Served
from edgeq.serve.wire import error_json
from edgeq.serve.worker import Work, Worker

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Errors = Callable[[ApiError, str], dict[str, Any]]  # of a dialect: the error, the request's id

PREPARERS = 2  # threads that read, render and tokenize


@dataclass
class Facts:
    """What is known of a request while it is answered, for the line in the log."""

    id: str
    began: float
    status: int = 0
    has_begun: bool = False  # its answer
    work: Work | None = None
    salt: str = ""  # of whoever asks, for what is known of prompts


class Endpoint:
    """A path, how it is answered, and in which dialect errors are told."""

    def __init__(self, path: str, methods: list[str], handler: Handler, errors: Errors) -> None:
        self.path, self.handler, self.errors = path, handler, errors
        self.route = Route(path, endpoint=_unused, methods=methods)


async def _unused(_: Any) -> Any:
    raise AssertionError("endpoints are called by App")


def openai_errors(error: ApiError, _: str) -> dict[str, Any]:
    return error_json(error)


class App:
    """The ASGI application. It answers from the beginning on; what needs the model waits for `serve`.

    log(line) is told of each request that is over.
    """

    def __init__(
        self, *, guard: Guard, limits: Limits | None = None, log: Callable[[str], object] = lambda line: None
    ) -> None:
        self.guard, self.limits, self.log = guard, limits or Limits(), log
        self.metrics = Metrics()
        self.pool = ThreadPoolExecutor(PREPARERS, "edgeq-serve-prepare")
        self.served: Served | None = None
        self.worker: Worker | None = None
        self.draining = False
        self.running = 0  # requests
        self.endpoints = self._endpoints()
        posts = (each for each in self.endpoints if each.route.methods == {"POST"})
        self.answering = {each.path: each for each in posts}  # what computes

    def serve(self, served: Served, worker: Worker) -> None:
        """The model is ready."""
        self.served, self.worker = served, worker
        gauges = self.metrics.gauges
        gauges["edgeq_requests_running"] = "Texts that run.", lambda: worker.batch.counts[0]
        gauges["edgeq_requests_waiting"] = "Texts that wait.", lambda: worker.batch.counts[1]
        pool = getattr(served.model, "pool", None)
        if pool is not None:
            gauges["edgeq_cache_bytes"] = "Bytes of pages that are held.", lambda: pool.used
            gauges["edgeq_cache_limit_bytes"] = "Bytes of pages at the most.", lambda: pool.limit
        self.metrics.info = {
            "version": served.fingerprint,
            "isa": str(getattr(served.model, "isa", "")),
            "model": served.name,
        }

    def ready(self) -> tuple[Served, Worker]:
        """The model and who steps it. ApiError where there is none, yet or any more."""
        if self.draining:
            raise ApiError(503, "the server is ending", code="draining", retry_after=5)
        if self.served is None or self.worker is None:
            raise ApiError(503, "the model is being loaded", code="loading", retry_after=2)
        if self.worker.stalled:
            raise ApiError(503, "the model does not move", code="stalled", retry_after=30)
        return self.served, self.worker

    def failed(self, error: BaseException) -> None:
        """Tell the log of what no client did."""
        if isinstance(error, ApiError) and error.status == 429:
            self.metrics.count("edgeq_queue_rejected", error.code or "other")
        if not isinstance(error, ApiError | EdgeqError):
            self.log("a request failed:\n" + "".join(traceback.format_exception(error)).rstrip())

    def turned_away(self, path: str) -> bytes | None:
        """The refusal of a request that is not even parsed, for it would be one too many. None for a path
        where nothing is computed."""
        endpoint = self.answering.get(path)
        if endpoint is None:
            return None
        error, facts = self._full(), Facts(secrets.token_hex(8), time.monotonic(), status=429)
        self.failed(error)
        error.headers["x-request-id"] = facts.id
        self._over({"method": "POST", "path": path}, facts, endpoint)
        return response_bytes(error, endpoint.errors(error, facts.id))

    def _full(self) -> ApiError:
        return ApiError(
            429,
            f"{self.limits.requests} requests are under way, and no more are taken just now",
            code="queue_full",
            retry_after=1,
        )

    # endpoints ------------------------------------------------------------------------------------------

    def _endpoints(self) -> list[Endpoint]:
        chat, completion = self._answering(ChatReply), self._answering(CompletionReply)
        rows: list[tuple[str, list[str], Handler]] = [
            ("/", ["GET"], self._root),
            ("/web/{name}", ["GET"], self._page),
            ("/health", ["GET"], self._health),
            ("/v1/health", ["GET"], self._health),
            ("/metrics", ["GET"], self._metrics),
            ("/v1/models", ["GET"], self._telling(lambda served, _: tokens.models(served))),
            ("/models", ["GET"], self._telling(lambda served, _: tokens.models(served))),
            ("/v1/models/{name:path}", ["GET"], self._telling(_model)),
            ("/tokenizer_info", ["GET"], self._telling(lambda served, _: tokens.tokenizer_info(served))),
            ("/props", ["GET"], self._telling(lambda served, _: tokens.props(served, self._parallel()))),
            ("/tokenize", ["POST"], self._making(tokens.tokenize)),
            ("/detokenize", ["POST"], self._making(tokens.detokenize)),
            ("/apply-template", ["POST"], self._making(tokens.apply_template)),
            ("/v1/chat/completions", ["POST"], chat),
            ("/chat/completions", ["POST"], chat),
            ("/v1/completions", ["POST"], completion),
            ("/completions", ["POST"], completion),
            ("/completion", ["POST"], self._answering(llamacpp.CompletionReply)),
            ("/v1/embeddings", ["POST"], self._embeddings),
        ]
        found = [Endpoint(*row, openai_errors) for row in rows]
        message = self._answering(anthropic.MessageReply)
        found.append(Endpoint("/v1/messages", ["POST"], message, anthropic.errors))
        count = self._making(anthropic.count_tokens)
        found.append(Endpoint("/v1/messages/count_tokens", ["POST"], count, anthropic.errors))
        for path, reply in (("chat", ollama.ChatReply), ("generate", ollama.GenerateReply)):
            found.append(Endpoint(f"/api/{path}", ["POST"], self._answering(reply), ollama.errors))
        for path, told in (("version", ollama.version), ("tags", ollama.tags), ("ps", ollama.ps)):
            found.append(Endpoint(f"/api/{path}", ["GET"], self._telling(told), ollama.errors))
        found.append(Endpoint("/api/show", ["POST"], self._making(ollama.show), ollama.errors))
        return found

    def _parallel(self) -> int:
        return self.worker.parallel if self.worker is not None else 0

    def _answering(self, dialect: Dialect) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(self, dialect, scope, receive, send)

        return handler

    def _telling(self, told: Callable[[Served, Mapping[str, Any]], Any]) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            served, _ = self.ready()
            await json_response(send, told(served, scope["path_params"]))

        return handler

    def _making(self, made: Callable[[Served, Mapping[str, Any]], Any]) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            served, _ = self.ready()
            data = await data_of(self, receive)
            loop = asyncio.get_running_loop()
            await json_response(send, await loop.run_in_executor(self.pool, made, served, data))

        return handler

    async def _embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        served, _ = self.ready()
        data = await data_of(self, receive)
        left = asyncio.ensure_future(leaving(receive))
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self.pool, embeddings, served, data, left.done)
        finally:
            left.cancel()
        if found is None:
            raise Left
        await json_response(send, found)

    async def _root(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page, for browsers; else what clients of ollama ask to see whether somebody is there."""
        if wants_page(_headers(scope)):
            await self._file("index.html", scope, send)
            return
        text = b"edgeq is running\n"
        found = {"content-type": "text/plain", "content-length": str(len(text)), "vary": "Accept"}
        await start(send, 200, found)
        await send({"type": "http.response.body", "body": text})

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._file(scope["path_params"]["name"], scope, send)

    @staticmethod
    async def _file(name: str, scope: Scope, send: Send) -> None:
        file = pages().get(name)
        if file is None:
            raise ApiError(404, f"the page has no file {name[:80]!r}", code="not_found")
        status, found, body = page_answer(file, _headers(scope))
        await start(send, status, found)
        await send({"type": "http.response.body", "body": body})

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.ready()
        await json_response(send, {"status": "ok"})

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self.pool, self.metrics.text)
        kind = "text/plain; version=0.0.4; charset=utf-8"
        await start(send, 200, {"content-type": kind, "content-length": str(len(text))})
        await send({"type": "http.response.body", "body": text})

    # around every answer --------------------------------------------------------------------------------

    async def __call__(self, given: Any, receive: Any, send: Any) -> None:
        scope: dict[str, Any] = given
        assert scope["type"] == "http"
        facts = Facts(secrets.token_hex(8), time.monotonic())
        scope["edgeq"] = facts
        more: dict[str, str] = {"x-request-id": facts.id, "x-content-type-options": "nosniff"}

        async def told(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                facts.status, facts.has_begun = message["status"], True
                listed = [(name.encode(), value.encode("latin-1")) for name, value in more.items()]
                message = {**message, "headers": [*message["headers"], *listed]}
            await send(message)

        headers = _headers(scope)
        path = _path(scope)
        endpoint = next((each for each in self.endpoints if each.path == path), None)
        try:
            more |= self.guard.check(scope["method"], path, headers)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await start(told, 204, {})
                await told({"type": "http.response.body"})
                return
            facts.salt = self.guard.salt(headers)
            endpoint = self._endpoint(path, scope)
            self._admit(headers)
            self.running += 1
            try:
                await endpoint.handler(scope, receive, told)
            finally:
                self.running -= 1
        except Left:
            facts.status = facts.status or 499
            phase = "queued" if facts.work is None or not facts.work.started.is_set() else "running"
            self.metrics.count("edgeq_cancelled", phase)
            if protocol := scope.get("state", {}).get("protocol"):
                protocol.abort()
        except Exception as error:
            self.failed(error)
            if facts.has_begun:  # the client must not take what there is for the whole
                if protocol := scope.get("state", {}).get("protocol"):
                    protocol.abort()
            else:
                known = api_error(error)
                errors = endpoint.errors if endpoint is not None else openai_errors
                await json_response(told, errors(known, facts.id), known.status, known.headers)
        finally:
            self._over(scope, facts, endpoint)

    def _endpoint(self, path: str, scope: dict[str, Any]) -> Endpoint:
        """What answers a path. ApiError 404 and 405."""
        allowed: set[str] = set()
        for endpoint in self.endpoints:
            match, child = endpoint.route.matches({**scope, "path": path, "root_path": ""})
            if match is Match.FULL:
                scope["path_params"] = child["path_params"]
                return endpoint
            if match is Match.PARTIAL:
                allowed |= endpoint.route.methods or set()
        if allowed:
            raise ApiError(
                405,
                f"{path[:80]} is asked with {' or '.join(sorted(allowed))}, not with {scope['method'][:16]}",
                code="method_not_allowed",
                headers={"allow": ", ".join(sorted(allowed))},
            )
        raise ApiError(404, f"there is nothing at {path[:80]!r}", code="not_found")

    def _admit(self, headers: Mapping[str, str]) -> None:
        """ApiError for what is not even read."""
        if self.running >= self.limits.requests:
            raise self._full()
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.limits.body_bytes:
            raise too_large(self.limits.body_bytes)
        kind = headers.get("content-type", "").lower().replace(" ", "").replace('"', "")
        _, found, charset = kind.partition("charset=")
        if found and charset.partition(";")[0] not in ("utf-8", "utf8", "us-ascii"):
            raise ApiError(400, f"the charset {charset[:40]!r} is not read, UTF-8 is", code="invalid_json")

    def _over(self, scope: Scope, facts: Facts, endpoint: Endpoint | None) -> None:
        name = endpoint.path if endpoint is not None else "other"
        self.metrics.count("edgeq_requests", name, str(facts.status))
        tokens = ""
        if facts.work is not None and facts.work.generations:
            generations = facts.work.generations
            self.metrics.ended(generations)
            count = sum(generation.usage.completion_tokens for generation in generations)
            tokens = f" {generations[0].usage.prompt_tokens}+{count} tokens"
            histograms = self.metrics.histograms
            for name, when in (
                ("edgeq_queue_seconds", facts.work.first_step),
                ("edgeq_time_to_first_token_seconds", facts.work.first_token),
            ):
                if when is not None:
                    histograms[name].observe(when - facts.began)
        took = 1000 * (time.monotonic() - facts.began)
        path = ascii(scope["path"][:80])[1:-1]
        if path not in OPEN:  # which others ask all the time
            self.log(f"{scope['method'][:16]} {path} {facts.status} {took:.0f} ms{tokens} {facts.id}")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _model(served: Served, words: Mapping[str, Any]) -> dict[str, Any]:
    return tokens.model(served, words["name"])


def _path(scope: Mapping[str, Any]) -> str:
    """The path; a slash at the end of one that is read means nothing."""
    path: str = scope["path"]
    if scope["method"] in ("GET", "HEAD") and len(path) > 1:
        return path.rstrip("/") or "/"
    return path


def log_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""The application: which path is answered by what, and what is around every answer."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from edgeq.errors import CancelledError, EdgeqError
from edgeq.serve import anthropic, embeddings, llamacpp, ollama, page, tokens
from edgeq.serve import ollama_model as about
from edgeq.serve.answer import (
    RELAXED,
    Dialect,
    Left,
    Receive,
    Scope,
    Send,
    answer,
    data_of,
    headers_of,
    json_response,
    leaving,
    start,
    too_large,
)
from edgeq.serve.completions import CompletionReply
from edgeq.serve.endpoints import Endpoint, Errors, Handler, endpoint_of
from edgeq.serve.errors import STRUCTURED_FAILED, ApiError, api_error
from edgeq.serve.guard import OPEN, Guard
from edgeq.serve.http import Limits, response_bytes
from edgeq.serve.metrics import Metrics
from edgeq.serve.models import Hosted, Models
from edgeq.serve.openai import ChatReply
from edgeq.serve.served import Served
from edgeq.serve.wire import error_json
from edgeq.serve.work import Work
from edgeq.serve.worker import Worker

PREPARERS = 2  # threads that read, render and tokenize


@dataclass
class Facts:
    """What is known of a request while it is answered, for the line in the log."""

    id: str
    began: float
    status: int = 0
    has_begun: bool = False  # its answer
    work: Work | None = None
    model: str = ""  # that the work is of
    salt: str = ""  # of whoever asks, for what is known of prompts
    headers: dict[str, str] = field(default_factory=dict)  # of its answer, whatever that is


def openai_errors(error: ApiError, _: str) -> dict[str, Any]:
    return error_json(error)


def errors_at(path: str) -> Errors:
    """How errors are told of a path at which nothing is: by what else there is beside it."""
    if path.startswith("/api/"):
        return ollama.errors
    return anthropic.errors if path.startswith("/v1/messages/") else openai_errors


class App:
    """The ASGI application. It answers from the beginning on; what needs models waits for `loaded`.

    strict: whether requests must name the model as it is called. log(line) is told of each
    request that is over.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        limits: Limits | None = None,
        strict: bool = False,
        log: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.guard, self.limits, self.log = guard, limits or Limits(), log
        self.metrics = Metrics()
        self.pool = ThreadPoolExecutor(PREPARERS, "edgeq-serve-prepare")
        self.models = Models(strict=strict)
        self.loaded = False
        self.draining = False
        self.running = 0  # requests
        self.endpoints = self._endpoints()
        posts = (each for each in self.endpoints if each.route.methods == {"POST"})
        self.answering = {each.path: each for each in posts}  # what computes

    def serve(self, served: Served, worker: Worker) -> None:
        """One more model. `loaded` is set behind the last."""
        self.models.add(served, worker)
        numbers = self.metrics.of(served.name)
        gauges = numbers.gauges
        gauges["edgeq_requests_running"] = "Texts that run.", lambda: worker.batch.counts[0]
        gauges["edgeq_requests_waiting"] = "Texts that wait.", lambda: worker.batch.counts[1]
        pool = getattr(served.model, "pool", None)
        if pool is not None:
            gauges["edgeq_cache_bytes"] = "Bytes of pages that are held.", lambda: pool.used
            gauges["edgeq_kv_pages"] = "Pages, by who has them.", lambda: kv_pages(pool)
            gauges["edgeq_cache_limit_bytes"] = "Bytes of pages at the most.", lambda: pool.limit
        numbers.counted["edgeq_preempted"] = lambda: worker.batch.preempted
        served.compiled = numbers.histograms["edgeq_grammar_compile_seconds"].observe
        served.slow = lambda s: self.log(f"masks of a form take {1000 * s:.0f} ms each: others wait for them")
        served.masked = numbers.histograms["edgeq_mask_seconds"].observe
        numbers.info = {
            "version": served.fingerprint,
            "isa": str(getattr(served.model, "isa", "")),
            "model": served.name,
        }

    @property
    def stalled(self) -> str | None:
        """The name of a model that does not move; the others wait for it."""
        return next((served.name for served, worker in self.models if worker.stalled), None)

    def ready(self) -> None:
        """ApiError where nothing is answered, yet or any more."""
        if self.draining:
            raise ApiError(503, "the server is ending", code="draining", retry_after=5)
        if not self.loaded:
            raise ApiError(503, "the model is being loaded", code="loading", retry_after=2)
        if self.stalled is not None:
            raise ApiError(503, f"the model {self.stalled} does not move", code="stalled", retry_after=30)

    def meant(self, data: Mapping[str, Any], names: Sequence[str] = ("model",)) -> Hosted:
        """The model that a request means, in one of these fields. ApiError where there is none of that
        name."""
        self.ready()
        name = next((data[each] for each in names if data.get(each) is not None), None)
        return self.models.named(name if isinstance(name, str) else None)

    def failed(self, error: BaseException) -> None:
        """Tell the log of what no client did."""
        if isinstance(error, ApiError) and error.status == 429:
            self.metrics.count("edgeq_queue_rejected", error.code or "other")
        if isinstance(error, ApiError) and error.code == STRUCTURED_FAILED:
            self.metrics.count("edgeq_structured_failed")
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
            ("/", ["GET"], page.root),
            ("/web/{name}", ["GET"], page.file),
            ("/health", ["GET"], self._health),
            ("/v1/health", ["GET"], self._health),
            ("/metrics", ["GET"], self._metrics),
            ("/v1/models", ["GET"], self._listing(tokens.models)),
            ("/models", ["GET"], self._listing(tokens.models)),
            ("/v1/models/{name:path}", ["GET"], self._model),
            ("/tokenizer_info", ["GET"], self._telling(lambda hosted: tokens.tokenizer_info(hosted.served))),
            ("/props", ["GET"], self._telling(_props)),
            ("/tokenize", ["POST"], self._making(tokens.tokenize)),
            ("/detokenize", ["POST"], self._making(tokens.detokenize)),
            ("/apply-template", ["POST"], self._making(tokens.apply_template)),
            ("/v1/chat/completions", ["POST"], chat),
            ("/chat/completions", ["POST"], chat),
            ("/v1/completions", ["POST"], completion),
            ("/completions", ["POST"], completion),
            ("/completion", ["POST"], self._answering(llamacpp.CompletionReply)),
            ("/v1/embeddings", ["POST"], self._embedding(embeddings.embeddings)),
        ]
        found = [Endpoint(*row, openai_errors) for row in rows]
        message = self._answering(anthropic.MessageReply)
        found.append(Endpoint("/v1/messages", ["POST"], message, anthropic.errors))
        count = self._making(anthropic.count_tokens)
        found.append(Endpoint("/v1/messages/count_tokens", ["POST"], count, anthropic.errors))
        for path, reply in (("chat", ollama.chat), ("generate", ollama.generate)):
            found.append(Endpoint(f"/api/{path}", ["POST"], self._answering(reply), ollama.errors))
        for path, made in (("embed", embeddings.embed), ("embeddings", embeddings.embed_one)):
            found.append(Endpoint(f"/api/{path}", ["POST"], self._embedding(made), ollama.errors))
        for path, told in (("version", about.version), ("tags", about.tags), ("ps", about.ps)):
            found.append(Endpoint(f"/api/{path}", ["GET"], self._listing(told), ollama.errors))
        show = self._making(about.show, ("model", "name"))
        found.append(Endpoint("/api/show", ["POST"], show, ollama.errors))
        return found

    def _answering(self, dialect: Dialect) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(self, dialect, scope, receive, send)

        return handler

    def _telling(self, told: Callable[[Hosted], Any]) -> Handler:
        """What there is to tell of one model, the one that the query names."""

        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            await json_response(
                send, told(self.meant(dict(parse_qsl(scope["query_string"].decode("latin-1")))))
            )

        return handler

    def _listing(self, told: Callable[[Sequence[Served]], Any]) -> Handler:
        """What there is to tell of all."""

        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            self.ready()
            await json_response(send, told([served for served, _ in self.models]))

        return handler

    async def _model(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.ready()
        served, _ = self.models.exactly(scope["path_params"]["name"])
        await json_response(send, tokens.model_json(served))

    def _making(
        self, made: Callable[[Served, Mapping[str, Any]], Any], names: Sequence[str] = ("model",)
    ) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            self.ready()
            data = await data_of(self, receive)
            served, _ = self.meant(data, names)
            loop = asyncio.get_running_loop()
            await json_response(send, await loop.run_in_executor(self.pool, made, served, data))

        return handler

    def _embedding(self, made: Callable[[Served, Mapping[str, Any], Callable[[], bool]], Any]) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            self.ready()
            data = await data_of(self, receive)
            served, _ = self.meant(data)
            left = asyncio.ensure_future(leaving(receive))
            loop = asyncio.get_running_loop()
            try:
                found = await loop.run_in_executor(self.pool, made, served, data, left.done)
            except CancelledError:
                raise Left from None
            finally:
                left.cancel()
            await json_response(send, found)

        return handler

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.ready()
        told: dict[str, Any] = {"status": "ok"}
        if len(self.models) > 1:
            counts = {served.name: worker.batch.counts for served, worker in self.models}
            told["models"] = {name: {"running": r, "waiting": w} for name, (r, w) in counts.items()}
        await json_response(send, told)

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
        facts.headers |= {"x-request-id": facts.id, "x-content-type-options": "nosniff"}

        async def told(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                facts.status, facts.has_begun = message["status"], True
                listed = [(name.encode(), value.encode("latin-1")) for name, value in facts.headers.items()]
                message = {**message, "headers": [*message["headers"], *listed]}
            await send(message)

        headers = headers_of(scope)
        path = _path(scope)
        endpoint = next((each for each in self.endpoints if each.path == path), None)
        try:
            facts.headers |= self.guard.check(scope["method"], path, headers)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await start(told, 204, {})
                await told({"type": "http.response.body"})
                return
            facts.salt = self.guard.salt(headers)
            endpoint = endpoint_of(self.endpoints, path, scope)
            self._admit(path, headers)
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
                errors = endpoint.errors if endpoint is not None else errors_at(path)
                await json_response(told, errors(known, facts.id), known.status, known.headers)
        finally:
            self._over(scope, facts, endpoint)

    def _admit(self, path: str, headers: Mapping[str, str]) -> None:
        """ApiError for what is not even read. How the server is, is told in any case."""
        if self.running >= self.limits.requests and path not in OPEN:
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
            numbers = self.metrics.of(facts.model)
            numbers.ended(generations)
            count = sum(generation.usage.completion_tokens for generation in generations)
            tokens = f" {generations[0].usage.prompt_tokens}+{count} tokens"
            for name, when in (
                ("edgeq_queue_seconds", facts.work.first_step),
                ("edgeq_time_to_first_token_seconds", facts.work.first_token),
            ):
                if when is not None:
                    numbers.histograms[name].observe(when - facts.began)
        took = 1000 * (time.monotonic() - facts.began)
        path = ascii(scope["path"][:80])[1:-1]
        if path not in OPEN:  # which others ask all the time
            lost = facts.headers.get(RELAXED)
            dropped = f" not held to {lost}" if lost else ""
            self.log(
                f"{scope['method'][:16]} {path} {facts.status} {took:.0f} ms{tokens} {facts.id}{dropped}"
            )


def kv_pages(pool: Any) -> dict[str, float]:
    """Those that texts and what is known of prompts hold, and those that wait for who needs one."""
    held, spare = pool.pages
    return {"held": held, "spare": spare}


def _props(hosted: Hosted) -> dict[str, Any]:
    return tokens.props(hosted.served, hosted.worker.parallel)


def _path(scope: Mapping[str, Any]) -> str:
    """The path; a slash at the end of one that is read means nothing."""
    path: str = scope["path"]
    if scope["method"] in ("GET", "HEAD") and len(path) > 1:
        return path.rstrip("/") or "/"
    return path


def log_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""A server in a thread of the tests, and a client that sees bytes."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from edgeq.serve import sockets
from edgeq.serve.app import App
from edgeq.serve.guard import Guard
from edgeq.serve.served import Served
from edgeq.serve.server import Loaded, Settings, _Life
from edgeq.serve.worker import Worker
from tests.patience import STUCK_S, until

TEMPLATE = (
    "{% for m in messages %}{{ bos_token }}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant: {% endif %}"
)


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def events(self) -> list[Any]:
        """Those of a stream, without what stands around them; [DONE] is the last."""
        lines = [line for line in self.body.decode().split("\n\n") if line and not line.startswith(":")]
        assert all(line.startswith("data: ") for line in lines), lines
        words = [line.removeprefix("data: ") for line in lines]
        return [word if word == "[DONE]" else json.loads(word) for word in words]


class Shared:
    """A model that a server's end does not close."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def close(self) -> None:
        pass


class Live:
    """A server of a model, ready, until `stop`. around(app): what is asked in its place."""

    def __init__(
        self,
        model: Any,
        *,
        guard: Guard | None = None,
        ready: bool = True,
        around: Callable[[App], Any] = lambda app: app,
        **settings: Any,
    ) -> None:
        self.lines: list[str] = []
        self.listener = sockets.listener("127.0.0.1", 0)
        self.port = self.listener.socket.getsockname()[1]
        self.url = self.listener.url
        self._is_ready = threading.Event()
        load = settings.pop("load", lambda: Shared(model))
        models, draft = settings.pop("models", ("stories",)), settings.pop("draft", None)
        self.settings = Settings(
            load=lambda: [Loaded(name, load(), draft) for name in models],
            listener=self.listener,
            guard=guard or Guard(),
            tell=self.lines.append,
            log=self.lines.append,
            ready=lambda app: self._is_ready.set(),
            **settings,
        )
        self.error: BaseException | None = None
        self.life: _Life | None = None
        self.around: Any = None
        self._around = around
        self.loop: asyncio.AbstractEventLoop | None = None
        self._made = threading.Event()
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._made.wait(STUCK_S)
        if ready:
            until(lambda: self._is_ready.is_set() or not self._thread.is_alive(), "the model")
            if self.error is not None:
                raise self.error

    def _run(self) -> None:
        async def run() -> None:
            self.life, self.loop = _Life(self.settings), asyncio.get_running_loop()
            self.around = self.life.server.config.app = self._around(self.life.app)
            self._made.set()
            await self.life.run()

        try:
            asyncio.run(run())
        except BaseException as error:
            self.error = error

    @property
    def app(self) -> App:
        assert self.life is not None
        return self.life.app

    def end(self) -> None:
        """As a signal does."""
        assert self.loop is not None and self.life is not None
        self.loop.call_soon_threadsafe(self.life.end)

    def join(self) -> None:
        self._thread.join(STUCK_S)
        assert not self._thread.is_alive()

    @contextmanager
    def halted(self) -> Iterator[None]:
        """No step is made meanwhile, once the one under way is done."""
        step = self.batch.step

        def halting() -> Any:
            self._go.wait(STUCK_S)
            return step()

        self._go.clear()
        self.batch.step = halting
        try:
            yield
        finally:
            self.batch.step = step
            self._go.set()

    def stop(self) -> None:
        self._go.set()
        if self._thread.is_alive():
            self.end()
            self.end()
        self.join()

    @property
    def served(self) -> Served:
        """The first model."""
        return self.app.models.first.served

    @property
    def worker(self) -> Worker:
        return self.app.models.first.worker

    @property
    def batch(self) -> Any:
        return self.worker.batch

    def wait_idle(self) -> None:
        """Until nothing is computed and no place is taken."""
        for _, worker in self.app.models:
            until(lambda: worker.batch.idle and worker.taken == 0, "the server's rest")  # noqa: B023

    # a client -----------------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=STUCK_S)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return Response(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Response:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> Response:
        return self.ask("POST", path, body, headers)

    def chat(self, text: str = "Once upon a time", **fields: Any) -> Response:
        return self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **fields})

    def complete(self, prompt: Any = "Once upon a time", **fields: Any) -> Response:
        return self.post("/v1/completions", {"prompt": prompt, **fields})

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), STUCK_S)

    def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes, up to the connection's end."""
        with self.connect() as connection:
            connection.sendall(data)
            parts = []
            try:
                while part := connection.recv(1 << 16):
                    parts.append(part)
            except ConnectionResetError:
                pass
            return b"".join(parts)

    def begin(self, path: str, body: Any) -> socket.socket:
        """A request whose answer is not read yet."""
        data = json.dumps(body).encode()
        connection = self.connect()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        return connection

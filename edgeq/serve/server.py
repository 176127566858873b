"""The life of a server: it listens, loads, serves, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edgeq.errors import EdgeqError
from edgeq.serve.app import App
from edgeq.serve.errors import ApiError
from edgeq.serve.guard import Guard
from edgeq.serve.http import Limits, Server, server_for
from edgeq.serve.models import check_names
from edgeq.serve.served import Served, predicts
from edgeq.serve.sockets import Listener
from edgeq.serve.turns import Turns
from edgeq.serve.worker import Worker

LOOK_S = 0.1  # between looks at whether the last answer is out
NOTICE_S = 1.0  # in which the last bytes leave
WATCH_S = 5.0  # between looks at whether the model moves


class Loaded(NamedTuple):
    """A model that is to be served, and what it is called. draft: as for `edgeq.Batch`."""

    name: str
    model: Any
    draft: object = None


@dataclass
class Settings:
    """How a server is run. load() opens the models, in a thread of its own, while requests are told to come
    again; the first is meant by requests that name none. tell(line): what a person is to know."""

    load: Callable[[], Sequence[Loaded]]
    listener: Listener
    guard: Guard
    limits: Limits = field(default_factory=Limits)
    parallel: int = 4
    queue: int = 64
    stall: float = 0.25
    strict: bool = False
    template: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[str], object] = print
    log: Callable[[str], object] = lambda line: None
    ready: Callable[[App], object] = lambda app: None  # once requests are answered


def run(settings: Settings) -> None:
    """Serve until a signal says to end. Raises what the model could not be loaded for, and what broke it."""
    asyncio.run(_Life(settings).run())


class _Life:
    """One server, from its socket to its end; everything but loading is in the event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app = App(guard=settings.guard, limits=settings.limits, strict=settings.strict, log=settings.log)
        self.app.metrics.connections = lambda: len(self.server.server_state.connections)
        self.turns: Turns | None = None
        self.server: Server = server_for(self.app, settings.limits)
        self.signals = 0
        self.ending = asyncio.Event()
        self.at_once = asyncio.Event()
        self.error: BaseException | None = None
        self.loaded: Sequence[Loaded] = ()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle_signals(loop)
        serving = asyncio.ensure_future(self.server.serve(sockets=[self.settings.listener.socket]))
        loading = asyncio.ensure_future(self._load())
        watching = asyncio.ensure_future(self._watch())
        ended = asyncio.ensure_future(self.ending.wait())
        try:
            await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)
            await self._drain()
        finally:
            watching.cancel()
            self.server.should_exit = True
            await asyncio.wait([serving], timeout=3 * NOTICE_S)
            ended.cancel()
            await self._close(loading)
        if self.error is not None:
            raise self.error

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def end(self) -> None:
        """No new requests; called again, at once."""
        self.signals += 1
        if self.signals > 1:
            self.at_once.set()
        self.ending.set()

    def _reload(self) -> None:
        try:
            self.settings.guard.keys.load()
        except EdgeqError as error:
            self.settings.tell(f"the keys stay as they are: {error}")
        else:
            self.settings.tell("the keys were read anew")

    # loading ------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        loop, settings = asyncio.get_running_loop(), self.settings
        done: asyncio.Future[Sequence[Loaded]] = loop.create_future()

        def load() -> None:
            result: Sequence[Loaded] = ()
            error: BaseException | None = None
            try:
                result = settings.load()
                check_names([each.name for each in result])
                for each in result:
                    warm(each.model)
            except BaseException as caught:
                error = caught

            def told() -> None:
                if done.cancelled() or error is not None:
                    for each in result:
                        each.model.close()
                if done.cancelled():
                    pass
                elif error is not None:
                    done.set_exception(error)
                else:
                    done.set_result(result)

            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and with it the process
                loop.call_soon_threadsafe(told)

        threading.Thread(target=load, name="edgeq-serve-load", daemon=True).start()
        try:
            self.loaded = await done
            self._serve(loop)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._broken(error)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        settings, app = self.settings, self.app
        self.turns = turns = Turns(loop, self._broken)
        for name, model, draft in self.loaded:
            served = Served(model, name, template=settings.template, defaults=settings.defaults)
            worker = Worker(
                model,
                turns,
                parallel=settings.parallel,
                queue=settings.queue,
                stall=settings.stall,
                draft=draft,
                observe=app.metrics.of(name).step,
            )
            app.serve(served, worker)
        turns.start()
        app.loaded = True
        settings.ready(app)

    def _broken(self, error: BaseException) -> None:
        """The model cannot be had, or a step failed as a whole: whoever started the server may start it
        anew."""
        self.error = error
        self._fail_all(ApiError(500, "the server failed and ends"))
        self.end()

    def _fail_all(self, error: ApiError) -> None:
        for _, worker in self.app.models:
            worker.fail_all(error)

    async def _watch(self) -> None:
        """Tell once where the engine stands, when it does not move."""
        told: str | None = None
        while True:
            await asyncio.sleep(WATCH_S)
            if (stalled := self.app.stalled) != told:
                told = stalled
                if told is not None:
                    self.settings.tell(f"the model {told} does not move; where every thread stands:")
                    faulthandler.dump_traceback(sys.stderr)

    # the end ------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """No new requests; those under way have a while to end, and are told when it is over."""
        self.app.draining = True
        if self.settings.listener.handed:  # whoever comes waits in the socket for the next process
            self.server.stop_listening()
        await self._until_quiet(self.settings.limits.drain_s)
        if self.app.running:
            self._fail_all(ApiError(503, "the server is ending", code="draining", retry_after=5))
            await self._until_quiet(NOTICE_S)

    async def _until_quiet(self, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while self.app.running and clock() < end and not self.at_once.is_set():
            await asyncio.sleep(LOOK_S)

    async def _close(self, loading: asyncio.Future[None]) -> None:
        loading.cancel()
        await asyncio.wait([loading])
        self.app.pool.shutdown(wait=False, cancel_futures=True)
        if self.turns is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.turns.stop)
        for _, worker in self.app.models:
            worker.close()
        for _, model, _ in self.loaded:
            model.close()
        self.settings.listener.close()


def warm(model: Any) -> None:
    """Let the model do once what requests will ask for, so that no request waits for what is made then."""
    if not predicts(model):
        if model.pooling is not None and model.pooling.kind != "rank":
            model.embed([[0]])
        return
    with model.batch() as batch:
        batch.add([0], max_tokens=2, ignore_eos=True, logprobs=1, seed=1, cache_prompt=False, score=True)
        batch.run()


def key_of_environment() -> list[str]:
    key = os.environ.get("EDGEQ_API_KEY")
    return [key] if key else []

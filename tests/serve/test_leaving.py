"""Clients that leave or do not read, long prompts, and memory (P4, P6, P7)."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import ExitStack
from typing import Any

from edgeq.cache import PagePool
from edgeq.sampling import SamplingOptions
from edgeq.serve.errors import ApiError
from edgeq.serve.http import Limits
from edgeq.serve.request import Request
from edgeq.serve.turns import Turns
from edgeq.serve.work import PIECES_MAX
from edgeq.serve.worker import Worker
from tests.fake_model import EOS
from tests.patience import until
from tests.schedule.fake_engine import FakeEngine
from tests.serve.conftest import Start
from tests.serve.live import Live

LONG = {"prompt": "Once upon a time", "max_tokens": 400, "logit_bias": {"2": -100}}


def reset(connection: socket.socket) -> None:
    """Leave at once, as a process that is killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def test_who_leaves_is_not_computed_for(start: Start, model: Any) -> None:
    """P4: at whatever moment, the next step ends it; and nothing is left."""
    server = start(parallel=2, queue=100)
    used = model.pool.used
    rng = random.Random(1)
    for _ in range(60):
        body = {**LONG, "stream": rng.random() < 0.5, "n": rng.choice([1, 2]), "cache_prompt": False}
        connection = server.begin("/v1/completions", body)
        if rng.random() < 0.5 and body["stream"]:
            connection.recv(rng.choice([1, 500, 5000]))
        reset(connection) if rng.random() < 0.5 else connection.close()
    server.wait_idle()
    assert server.batch.counts == (0, 0) and not server.worker.works
    until(lambda: server.app.running == 0, "the end of all requests")
    assert model.pool.used == used
    assert server.complete(max_tokens=2).status == 200


def test_it_ends_within_a_step(start: Start) -> None:
    """Running, waiting for a place, and while it is read: after the client has left, one step more."""
    server = start(parallel=1, queue=10)
    with ExitStack() as stack:
        halted = stack.enter_context(ExitStack())
        first = stack.enter_context(server.begin("/v1/completions", {**LONG, "stream": True}))
        first.recv(1)
        halted.enter_context(server.halted())
        second = server.begin("/v1/completions", LONG)
        worker = server.worker
        until(lambda: worker.taken == 2 and all(work.generations for work in worker.works), "two requests")
        works = list(worker.works)
        reset(first)
        reset(second)
        until(lambda: all(work.cancelled for work in works), "that both are told")
        before = [len(work.generations[0].ids) for work in works]
        halted.close()
        server.wait_idle()
    for work, count in zip(works, before, strict=True):
        assert work.generations[0].finish_reason == "cancelled"
        assert len(work.generations[0].ids) <= count + 1


def test_a_body_that_breaks_off(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        until(lambda: server.app.running == 1, "the request")
    until(lambda: server.app.running == 0, "its end")
    assert server.worker.taken == 0


def test_who_does_not_read_holds_up_nobody(start: Start) -> None:
    """It keeps its place, is computed a little ahead, and is let go of in the end."""
    server = start(parallel=4, limits=Limits(reader_s=0.3))
    with server.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = {**LONG, "logprobs": 20, "n": 2, "stream": True}  # some megabytes
        import json

        data = json.dumps(body).encode()
        slow.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data)
        )
        slow.sendall(data)
        slow.recv(1)
        for _ in range(3):
            assert server.complete(max_tokens=5).status == 200
        server.wait_idle()
    until(lambda: server.app.running == 0, "its end")


def test_a_reader_that_is_behind_pauses_its_texts_alone() -> None:
    """Without a clock and without HTTP: what waits for a reader is bounded, and he gets all of it."""

    async def run() -> None:
        engine = FakeEngine(context=2000, pages=100_000)
        turns = Turns(asyncio.get_running_loop())
        worker = Worker(engine, turns, parallel=2)
        options = SamplingOptions(seed=1, logit_bias=((EOS, -1000.0),))
        works = []
        for _ in range(2):
            work = worker.reserve()
            worker.submit(work, [Request([0, 5, 6], options, 900, cache=False)])
            works.append(work)
        turns.start()
        slow, quick = works
        async for _ in quick.events():
            pass
        assert slow._waiting == PIECES_MAX and not slow.done  # however far the loop was behind the steps
        count = 0
        async for events in slow.events():
            count += sum(piece.id is not None for event in events for piece in event.pieces)
        assert count == len(slow.generations[0].ids) == len(quick.generations[0].ids) == 900
        assert slow.generations[0].ids == quick.generations[0].ids
        await asyncio.get_running_loop().run_in_executor(None, turns.stop)
        worker.close()
        assert worker.taken == 0 and not engine.open

    asyncio.run(run())


def test_a_step_that_fails_as_a_whole_is_told() -> None:
    async def run() -> None:
        engine = FakeEngine(context=200)
        crashed = asyncio.get_running_loop().create_future()
        turns = Turns(asyncio.get_running_loop(), crashed.set_result)
        worker = Worker(engine, turns)
        engine.mishaps.append(lambda parts: 1 / 0)
        turns.start()
        work = worker.reserve()
        worker.submit(work, [Request([0, 5, 6], SamplingOptions(seed=1), 9)])
        assert isinstance(await crashed, ZeroDivisionError)
        worker.fail_all(ApiError(500, "the server failed and ends"))
        try:
            async for _ in work.events():
                pass
        except ApiError as error:
            assert error.status == 500
        else:
            raise AssertionError("it came to an end")

    asyncio.run(run())


def test_a_long_prompt_holds_up_nobody(start: Start, model: Any) -> None:
    """P6: while one decodes, a pass has no more rows of a prompt than keep it short."""
    server = start(parallel=4, stall=1e-6)  # so that each pass has as few as there may be
    seen: list[list[int]] = []
    advance = model.advance

    def counted(parts: Any, **options: Any) -> Any:
        seen.append(sorted(len(part.ids) for part in parts))
        return advance(parts, **options)

    server.batch._scheduler.engine = engine = type("Engine", (), {"advance": staticmethod(counted)})()
    for name in ("pass_tokens", "pass_outputs", "page_tokens", "pool", "cache_bytes", "sequence"):
        setattr(engine, name, getattr(model, name))
    worker = server.worker
    server.complete([5] * 40, max_tokens=4, cache_prompt=False)  # so that it knows what passes take
    with server.begin("/v1/completions", {**LONG, "stream": True}) as stream:
        stream.recv(1)
        body = {"prompt": [5] * 300, "max_tokens": 1, "cache_prompt": False}
        with ExitStack() as halted:
            halted.enter_context(server.halted())
            long = server.begin("/v1/completions", body)
            until(lambda: sum(bool(work.generations) for work in worker.works) == 2, "both")
        with long:
            assert long.recv(12) == b"HTTP/1.1 200"
    beside = [lengths for lengths in seen if lengths[0] == 1 and lengths[-1] > 1]
    assert sum(lengths[-1] for lengths in beside) >= 299  # its last token may have had a pass of its own
    assert all(sum(lengths) <= 64 for lengths in beside)
    server.wait_idle()


def test_bytes_are_counted_before_they_are_taken(model: Any) -> None:
    """P7: with room for one and a half contexts, all are served, one after the other, and never more is
    held; what could never fit is told at once."""
    pool, most = model.pool, model.cache_bytes(model.context)
    model.pool = PagePool(most * 3 // 2)
    try:
        small = Live(model, parallel=8, queue=50)
        held = []
        step = small.batch.step

        def counted() -> Any:
            held.append(model.pool.used)
            return step()

        small.batch.step = counted
        with ExitStack() as stack:
            body = {"prompt": [5] * 30, "max_tokens": 300, "seed": 1, "cache_prompt": False}
            body |= {"logit_bias": {"2": -100}}
            open_ = [stack.enter_context(small.begin("/v1/completions", body)) for _ in range(6)]
            for connection in open_:
                assert connection.recv(12) == b"HTTP/1.1 200"
        assert max(held) <= model.pool.limit
        small.stop()
    finally:
        model.pool = pool


def test_waiting_has_an_end(start: Start) -> None:
    server = start(parallel=1, limits=Limits(queue_s=0.2))
    with server.begin("/v1/completions", {**LONG, "stream": True}) as first:
        first.recv(1)
        with server.halted():
            late = server.complete(max_tokens=1)
            assert late.status == 503 and late.error["code"] == "queue_timeout"
            events = server.complete(max_tokens=1, stream=True).events
            assert events[-1]["error"]["code"] == "queue_timeout"
    server.wait_idle()

"""Streams: their bytes, and that they end by telling so, or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import OutOfMemoryError
from edgeq.generate import Piece
from edgeq.serve.http import Limits
from edgeq.serve.request import Event
from edgeq.serve.worker import Work
from tests.serve.conftest import Start
from tests.serve.live import Live

GOLDEN = Path(__file__).parent / "golden" / "streams.txt"

STILL = {"seed": 1, "stream": True, "cache_prompt": False}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"max_tokens": 6}),
    "chat, usage": ("/v1/chat/completions", {"max_tokens": 3, "stream_options": {"include_usage": True}}),
    "chat, logprobs": ("/v1/chat/completions", {"max_tokens": 2, "logprobs": True, "top_logprobs": 1}),
    "chat, stop": ("/v1/chat/completions", {"max_tokens": 30, "stop": ["a"]}),
    "chat, two": ("/v1/chat/completions", {"max_tokens": 2, "n": 2}),
    "completion": ("/v1/completions", {"prompt": "Tom and", "max_tokens": 4}),
    "completion, echo": ("/v1/completions", {"prompt": "Tom", "max_tokens": 1, "echo": True, "logprobs": 1}),
    "completion, one": ("/v1/completions", {"prompt": "Tom", "max_tokens": 2, "stream": False}),
}


@pytest.fixture
def still(start: Start, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A server whose ids, times, durations and cuts are always the same."""
    monkeypatch.setattr(Work, "events", one_by_one)
    monkeypatch.setattr(Work, "feed", feed)
    monkeypatch.setattr("edgeq.serve.openai.new_id", lambda prefix: f"{prefix}-0")
    monkeypatch.setattr("edgeq.serve.completions.new_id", lambda prefix: f"{prefix}-0")
    monkeypatch.setattr("edgeq.serve.openai.now", lambda: 1)
    monkeypatch.setattr("edgeq.serve.completions.now", lambda: 1)
    for name in ("openai", "completions"):
        monkeypatch.setattr(f"edgeq.serve.{name}.timings_of", lambda generation: {})
    server = start()
    server.served.fingerprint = "edgeq"
    yield server


TOLD: defaultdict[Work, list[Event]] = defaultdict(list)  # what steps gave, and nobody has seen


async def one_by_one(work: Work, until: object = None) -> AsyncIterator[list[Event]]:
    """What steps gave, each for itself, however many of them were done before it is looked at."""
    while not work.done or TOLD[work]:
        while not TOLD[work]:
            await work._news.wait()
            work._news.clear()
        yield [TOLD[work].pop(0)]


def feed(work: Work, index: int, pieces: list[Piece], over: bool) -> None:
    TOLD[work].append(Event(index, pieces, over))
    work.over += over
    work.started.set()
    work._news.set()


def test_streams_have_the_bytes_they_had(still: Live) -> None:
    """EDGEQ_TEST_WRITE=1 writes them anew."""
    import os

    lines = []
    for name, (path, fields) in CASES.items():
        body = {"messages": [{"role": "user", "content": "Hi"}], **STILL, **fields}
        if "completions" in path and "chat" not in path:
            del body["messages"]
        response = still.post(path, body)
        assert response.status == 200, response.body
        lines.append(f"== {name}")
        if not body["stream"]:
            assert response.headers["content-type"] == "application/json"
            lines.append(response.body.decode())
            continue
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        lines += [line for line in response.body.decode().split("\n") if line]
        assert response.events[-1] == "[DONE]"
        assert response.body.count(b"\n\n") == len(response.events)
    text = "\n".join(lines) + "\n"
    if os.environ.get("EDGEQ_TEST_WRITE"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_a_stream_says_what_the_whole_says(live: Live) -> None:
    for fields in ({"max_tokens": 40}, {"max_tokens": 60, "stop": ["girl", "ly"]}, {"max_tokens": 9, "n": 3}):
        whole = live.chat(seed=4, **fields).json["choices"]
        events = live.chat(seed=4, stream=True, **fields).events
        for choice in whole:
            mine = [
                event["choices"][0]
                for event in events[:-1]
                if event["choices"] and event["choices"][0]["index"] == choice["index"]
            ]
            text = "".join(each["delta"].get("content", "") for each in mine)
            assert text == choice["message"]["content"]
            assert mine[0]["delta"] == {"role": "assistant", "content": ""}
            assert mine[-1]["finish_reason"] == choice["finish_reason"] and mine[-1]["delta"] == {}


def test_an_error_ends_a_stream_without_done(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    batch = server.batch

    def short(text: Any) -> Any:
        raise OutOfMemoryError("no pages")

    monkeypatch.setattr(batch._scheduler, "_opened", short)
    events = server.chat(stream=True).events
    assert "[DONE]" not in events and events[-1]["error"]["type"] == "unavailable_error"
    whole = server.chat()
    assert whole.status == 503 and whole.error["code"] == "out_of_memory" and "retry-after" in whole.headers
    monkeypatch.undo()
    assert server.chat(max_tokens=1).status == 200


def test_a_ping_comes_while_nothing_else_does(start: Start) -> None:
    server = start(limits=Limits(ping_s=0.01))
    body = {"prompt": "Tom", "max_tokens": 2, "stream": True}
    with ExitStack() as stack:
        halted = stack.enter_context(ExitStack())
        halted.enter_context(server.halted())
        connection = stack.enter_context(server.begin("/v1/completions", body))
        data = b""
        while b": ping\n\n" not in data:
            data += connection.recv(1 << 16)
        assert b"data:" not in data
        halted.close()
        while b"[DONE]" not in data:
            data += connection.recv(1 << 16)

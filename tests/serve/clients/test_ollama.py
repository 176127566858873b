"""ollama's client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.clients.asked import (
    ANSWER,
    HI,
    HI_TURNS,
    LONG,
    RAIN,
    SCHEMA,
    TEXTS,
    TOOLS,
    WHO,
    alike,
    called,
    valid,
)
from tests.serve.clients.conftest import client_package
from tests.serve.live import Live

ollama = client_package("ollama")
STILL: dict[str, Any] = {"model": "smollm2", "options": {"temperature": 0, "num_predict": 24}}
CALLED = [
    {"role": "assistant", "content": "", "tool_calls": [
        {"function": {"name": "weather", "arguments": {"city": "Paris"}}}]},
    {"role": "tool", "tool_name": "weather", "content": "It rains."},
]  # fmt: skip


@pytest.fixture
def client(chats: Live) -> Iterator[Any]:
    with ollama.Client(host=chats.url) as client:
        yield client


def test_chat_and_stream(client: Any) -> None:
    found = client.chat(messages=HI_TURNS, keep_alive="5m", **STILL)
    assert found.message.content == ANSWER and found.done and found.done_reason == "stop"
    lines = list(client.chat(messages=HI_TURNS, stream=True, **STILL))
    assert "".join(line.message.content for line in lines) == ANSWER
    assert lines[-1].eval_count == found.eval_count and lines[-1].total_duration > 0


def test_generate(client: Any) -> None:
    assert client.generate(prompt=HI, **STILL).response == ANSWER
    lines = list(client.generate(prompt="The sky is", raw=True, stream=True, **STILL))
    assert lines[-1].done and lines[-1].eval_count == 24


def test_loads_and_unloads(client: Any) -> None:
    """An empty prompt asks for the model to be there, or to go."""
    assert client.generate(model="smollm2").done_reason == "load"
    assert client.chat(model="smollm2", messages=[]).done_reason == "load"
    assert client.generate(model="smollm2", keep_alive=0).done_reason == "unload"


def test_logprobs(client: Any) -> None:
    found = client.chat(messages=HI_TURNS, logprobs=True, top_logprobs=2, **STILL)
    assert len(found.logprobs) >= 10 and all(len(each.top_logprobs) == 2 for each in found.logprobs)
    lines = list(client.generate(prompt=HI, logprobs=True, stream=True, **STILL))
    assert [each.logprob for line in lines for each in line.logprobs or []] == [
        each.logprob for each in found.logprobs
    ]


def test_tools(client: Any) -> None:
    """There is no tool_choice: the model calls or does not."""
    asked = {**STILL, "tools": TOOLS}
    found = client.chat(messages=RAIN, **asked)
    for call in found.message.tool_calls or []:
        called(call.function.name, call.function.arguments)
    assert found.message.tool_calls or found.message.content
    found = client.chat(messages=[*RAIN, *CALLED], **asked)
    assert found.done


def test_schema(client: Any) -> None:
    asked: dict[str, Any] = {"model": "smollm2", "options": {"temperature": 0, "num_predict": 200}}
    valid(client.chat(messages=WHO, format=SCHEMA, **asked).message.content)
    valid(client.generate(prompt=WHO[0]["content"], format=SCHEMA, **asked).response)


def test_embeddings(vectors: Live) -> None:
    with ollama.Client(host=vectors.url) as client:
        alike(client.embed(model="minilm", input=TEXTS).embeddings)
        assert len(client.embed(model="minilm", input=TEXTS[0]).embeddings) == 1
        assert len(client.embeddings(model="minilm", prompt=TEXTS[0]).embedding) == 384


def test_models(client: Any) -> None:
    assert [model.model for model in client.list().models] == ["smollm2:latest"]
    assert [model.model for model in client.ps().models] == ["smollm2:latest"]
    shown = client.show("smollm2")
    assert "completion" in shown.capabilities and "tools" in shown.capabilities
    assert shown.modelinfo["llama.context_length"] == 4096


def test_leaves(client: Any, chats: Live) -> None:
    stream = client.chat(
        model="smollm2",
        messages=[{"role": "user", "content": LONG}],
        stream=True,
        options={"num_predict": -1},
    )
    next(stream)
    stream.close()
    chats.wait_idle()


def test_sees_errors(live: Live) -> None:
    with ollama.Client(host=live.url) as client, pytest.raises(ollama.ResponseError) as long:
        client.chat(
            model="any", messages=[{"role": "user", "content": "word " * 90}], options={"num_ctx": 16}
        )
    assert long.value.status_code == 400 and "16" in long.value.error

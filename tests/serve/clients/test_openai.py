"""OpenAI's client."""

from __future__ import annotations

from typing import Any

import pytest

from tests.patience import until
from tests.serve.clients.asked import (
    ANSWER,
    CALLED,
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
from tests.serve.conftest import Start
from tests.serve.live import Live

openai = client_package("openai")
STILL: dict[str, Any] = {"model": "any", "temperature": 0}


def client_of(server: Live) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_chat_and_stream(chats: Live) -> None:
    with client_of(chats) as client:
        found = client.chat.completions.create(messages=HI_TURNS, max_tokens=24, **STILL)
        assert found.choices[0].message.content == ANSWER and found.choices[0].finish_reason == "stop"
        text = ""
        with client.chat.completions.create(
            messages=HI_TURNS, max_completion_tokens=24, stream=True,
            stream_options={"include_usage": True}, **STILL,
        ) as stream:  # fmt: skip
            for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                usage = chunk.usage
        assert text == ANSWER and usage.total_tokens == found.usage.total_tokens


def test_chat_async(chats: Live) -> None:
    import asyncio

    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{chats.url}/v1", api_key="none") as client:
            asked = [
                client.chat.completions.create(messages=HI_TURNS, max_tokens=24, **STILL) for _ in range(3)
            ]
            return [found.choices[0].message.content for found in await asyncio.gather(*asked)]

    assert asyncio.run(run()) == [ANSWER] * 3


def test_logprobs(chats: Live) -> None:
    with client_of(chats) as client:
        found = client.chat.completions.create(
            messages=HI_TURNS, max_tokens=4, logprobs=True, top_logprobs=2, **STILL
        )
        tokens = found.choices[0].logprobs.content
        assert len(tokens) == 4 and all(len(token.top_logprobs) == 2 for token in tokens)
        assert all(token.logprob == token.top_logprobs[0].logprob for token in tokens)
        one = client.completions.create(prompt="The sky is", max_tokens=2, logprobs=3, echo=True, **STILL)
        assert one.choices[0].logprobs.token_logprobs[0] is None
        assert len(one.choices[0].logprobs.tokens) == len(one.choices[0].logprobs.top_logprobs) == 5


def test_tools(chats: Live) -> None:
    with client_of(chats) as client:
        asked = dict(tools=TOOLS, max_tokens=100, **STILL)
        found = client.chat.completions.create(
            messages=RAIN, tool_choice="required", parallel_tool_calls=False, **asked
        )
        (call,) = found.choices[0].message.tool_calls
        called(call.function.name, call.function.arguments)
        assert found.choices[0].finish_reason == "tool_calls"
        named = {"type": "function", "function": {"name": "weather"}}
        with client.chat.completions.stream(
            messages=RAIN, tool_choice=named, parallel_tool_calls=False, **asked
        ) as stream:
            (call,) = stream.get_final_completion().choices[0].message.tool_calls
        called(call.function.name, call.function.arguments)
        found = client.chat.completions.create(messages=[*RAIN, *CALLED], tool_choice="none", **asked)
        assert found.choices[0].message.content and not found.choices[0].message.tool_calls


def test_schema(chats: Live) -> None:
    with client_of(chats) as client:
        form = {"type": "json_schema", "json_schema": {"name": "who", "strict": True, "schema": SCHEMA}}
        found = client.chat.completions.create(messages=WHO, max_tokens=100, response_format=form, **STILL)
        valid(found.choices[0].message.content)


def test_schema_of_a_class(chats: Live) -> None:
    pydantic = client_package("pydantic")

    class Who(pydantic.BaseModel):  # type: ignore[name-defined]
        name: str = pydantic.Field(pattern="^[A-Z][a-z]{1,9}$")
        age: int

    with client_of(chats) as client:
        found = client.chat.completions.parse(messages=WHO, max_tokens=200, response_format=Who, **STILL)
        assert isinstance(found.choices[0].message.parsed, Who)


def test_embeddings(vectors: Live) -> None:
    with client_of(vectors) as client:
        found = client.embeddings.create(model="any", input=TEXTS)
        alike(each.embedding for each in found.data)


def test_completions_and_models(chats: Live) -> None:
    with client_of(chats) as client:
        found = client.completions.create(prompt=["The sky", "Once"], max_tokens=3, n=2, seed=1, model="any")
        assert len(found.choices) == 4
        stream = client.completions.create(prompt="The sky", max_tokens=3, stream=True, **STILL)
        assert sum(len(chunk.choices) for chunk in stream) >= 1
        assert [model.id for model in client.models.list()] == ["smollm2"]
        assert client.models.retrieve("smollm2").owned_by == "edgeq"


def test_leaves(chats: Live) -> None:
    with client_of(chats) as client:
        stream = client.chat.completions.create(
            messages=[{"role": "user", "content": LONG}], stream=True, logit_bias={"2": -100}, model="any"
        )
        next(iter(stream))
        stream.close()
    chats.wait_idle()


def test_sees_errors(live: Live, start: Start) -> None:
    with client_of(live) as client:
        with pytest.raises(openai.BadRequestError) as wrong:
            client.completions.create(model="any", prompt="x", temperature=9)
        assert wrong.value.param == "temperature" and "at most 5" in str(wrong.value)
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(
                model="any", messages=[{"role": "user", "content": "word " * 9000}]
            )
        assert long.value.code == "context_length_exceeded"
    server = start(parallel=1, queue=0)
    busy = client_of(server)
    with busy, server.halted(), server.begin("/v1/completions", {"prompt": "Tom"}):
        worker = server.worker
        until(lambda: worker.taken == 1, "its place")
        with pytest.raises(openai.RateLimitError):
            busy.completions.create(model="any", prompt="x")

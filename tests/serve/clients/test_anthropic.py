"""Anthropic's client."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serve.clients.asked import ANSWER, CITIES, HI_TURNS, LONG, RAIN, SCHEMA, WHO, called, valid
from tests.serve.clients.conftest import client_package
from tests.serve.live import Live

anthropic = client_package("anthropic")
STILL: dict[str, Any] = {"model": "claude-any", "extra_body": {"temperature": 0}}
TOOLS = [{"name": "weather", "description": "The weather in a city.", "input_schema": CITIES}]
USED = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
RESULT = {
    "type": "tool_result",
    "tool_use_id": "toolu_1",
    "content": [{"type": "text", "text": "It rains."}],
}
CALLED = [
    {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, USED]},
    {"role": "user", "content": [RESULT]},
]


def client_of(server: Live) -> Any:
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


def test_chat_and_stream(chats: Live) -> None:
    with client_of(chats) as client:
        found = client.messages.create(messages=HI_TURNS, max_tokens=24, **STILL)
        assert found.content[0].text == ANSWER and found.stop_reason == "end_turn"
        with client.messages.stream(messages=HI_TURNS, max_tokens=24, **STILL) as stream:
            assert "".join(stream.text_stream) == ANSWER
            assert stream.get_final_message().usage.output_tokens == found.usage.output_tokens
        blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        found = client.messages.create(
            messages=HI_TURNS, system=blocks, stop_sequences=["4"], max_tokens=24, **STILL
        )
        assert found.stop_reason in ("end_turn", "stop_sequence", "max_tokens")


def test_counts_tokens(chats: Live) -> None:
    with client_of(chats) as client:
        count = client.messages.count_tokens(messages=HI_TURNS, model="any", system="Be brief.", tools=TOOLS)
        assert count.input_tokens > 20


def test_tools(chats: Live) -> None:
    with client_of(chats) as client:
        asked = dict(tools=TOOLS, max_tokens=100, **STILL)
        any_one = {"type": "any", "disable_parallel_tool_use": True}
        found = client.messages.create(messages=RAIN, tool_choice=any_one, **asked)
        (use,) = found.content
        called(use.name, use.input)
        assert found.stop_reason == "tool_use"
        named = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
        with client.messages.stream(messages=RAIN, tool_choice=named, **asked) as stream:
            (use,) = stream.get_final_message().content
        called(use.name, use.input)
        found = client.messages.create(messages=[*RAIN, *CALLED], tool_choice={"type": "none"}, **asked)
        assert found.content[0].text


def test_schema(chats: Live) -> None:
    with client_of(chats) as client:
        form = {"type": "json_schema", "schema": SCHEMA}
        found = client.messages.create(messages=WHO, max_tokens=100, output_config={"format": form}, **STILL)
        valid(found.content[0].text)


def test_schema_of_a_class(chats: Live) -> None:
    pydantic = client_package("pydantic")

    class Who(pydantic.BaseModel):  # type: ignore[name-defined]
        age: int
        is_old: bool

    with client_of(chats) as client:
        found = client.messages.parse(messages=WHO, max_tokens=200, output_format=Who, **STILL)
        assert isinstance(found.parsed_output, Who)


def test_models(chats: Live) -> None:
    with client_of(chats) as client:
        assert [model.id for model in client.models.list()] == ["smollm2"]


def test_leaves(chats: Live) -> None:
    with client_of(chats) as client:
        turns = [{"role": "user", "content": LONG}]
        with client.messages.stream(messages=turns, max_tokens=4000, **STILL) as stream:
            next(iter(stream.text_stream))
    chats.wait_idle()


def test_sees_errors(live: Live) -> None:
    with client_of(live) as client:
        with pytest.raises(anthropic.BadRequestError) as wrong:
            client.messages.create(model="any", messages=HI_TURNS, max_tokens=0)
        assert "max_tokens" in str(wrong.value) and wrong.value.body["type"] == "error"
        with pytest.raises(anthropic.BadRequestError) as long:
            client.messages.create(
                model="any", messages=[{"role": "user", "content": "word " * 9000}], max_tokens=5
            )
        assert "context holds" in str(long.value)

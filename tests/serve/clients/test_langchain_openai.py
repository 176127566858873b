"""LangChain's models of OpenAI's kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.clients.asked import (
    ANSWER,
    CALLED,
    HI,
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

langchain = client_package("langchain_openai")
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def model_of(server: Live, **more: Any) -> Any:
    asked = {"model": "any", "temperature": 0, "max_tokens": 100, **more}
    return langchain.ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", **asked)


@pytest.fixture
def model(chats: Live) -> Iterator[Any]:
    yield model_of(chats)


def test_invoke_stream_batch(model: Any) -> None:
    assert model.invoke(HI).content == ANSWER
    assert "".join(chunk.content for chunk in model.stream(HI)) == ANSWER
    assert [found.content for found in model.batch([HI, HI])] == [ANSWER] * 2


def test_logprobs(model: Any) -> None:
    found = model.bind(logprobs=True, top_logprobs=2).invoke(HI)
    assert len(found.response_metadata["logprobs"]["content"]) >= 10


def test_tools(model: Any) -> None:
    bound = model.bind_tools(TOOLS, tool_choice="weather", parallel_tool_calls=False)
    (call,) = bound.invoke(RAIN).tool_calls
    called(call["name"], call["args"])
    whole = None
    for chunk in bound.stream(RAIN):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    called(whole.tool_calls[0]["name"], whole.tool_calls[0]["args"])
    assert model.bind_tools(TOOLS, tool_choice="none").invoke([*RAIN, *CALLED]).content


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_schema(model: Any, method: str) -> None:
    titled = {"title": "who", "description": "A person.", **SCHEMA}
    found = model.with_structured_output(titled, method=method).invoke(WHO)
    if method == "json_mode":
        assert isinstance(found, dict)
    else:
        valid(found)


def test_completions(chats: Live) -> None:
    model = langchain.OpenAI(
        base_url=f"{chats.url}/v1", api_key="none", model="any", temperature=0, max_tokens=4
    )
    assert model.invoke("The sky is") == "".join(model.stream("The sky is"))


def test_embeddings(vectors: Live) -> None:
    """Without check_embedding_ctx_length=False it sends ids of OpenAI's vocabulary."""
    model = langchain.OpenAIEmbeddings(
        base_url=f"{vectors.url}/v1", api_key="none", model="any", check_embedding_ctx_length=False
    )
    alike(model.embed_documents(TEXTS))
    assert len(model.embed_query(TEXTS[0])) == 384


def test_leaves(chats: Live) -> None:
    stream = model_of(chats, max_tokens=None, logit_bias={2: -100}).stream(LONG)
    next(stream)
    stream.close()
    chats.wait_idle()

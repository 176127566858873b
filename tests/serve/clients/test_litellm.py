"""litellm, under its names of OpenAI's, Anthropic's, ollama's and llama-server's kind."""

from __future__ import annotations

from typing import Any

import pytest

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
from tests.serve.live import Live

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the web when it is imported
    litellm = client_package("litellm")
litellm.suppress_debug_info = True
pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = {"openai": "/v1", "anthropic": "", "ollama_chat": "", "hosted_vllm": "/v1", "llamafile": "/v1"}


def complete(server: Live, kind: str = "openai", **asked: Any) -> Any:
    options = {"max_tokens": 100, "temperature": 0, "num_retries": 0, **asked}
    return litellm.completion(
        model=f"{kind}/smollm2", api_base=f"{server.url}{KINDS[kind]}", api_key="none", **options
    )


@pytest.mark.parametrize("kind", KINDS)
def test_chat_and_stream(chats: Live, kind: str) -> None:
    assert complete(chats, kind, messages=HI_TURNS).choices[0].message.content == ANSWER
    chunks = list(complete(chats, kind, messages=HI_TURNS, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER


def test_logprobs(chats: Live) -> None:
    found = complete(chats, messages=HI_TURNS, logprobs=True, top_logprobs=2)
    assert len(found.choices[0].logprobs.content) >= 10


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_tools(chats: Live, kind: str) -> None:
    asked = dict(tools=TOOLS, parallel_tool_calls=False)
    found = complete(chats, kind, messages=RAIN, tool_choice="required", **asked)
    for call in found.choices[0].message.tool_calls:
        called(call.function.name, call.function.arguments)
    assert complete(chats, kind, messages=[*RAIN, *CALLED], tools=TOOLS, tool_choice="none").choices


@pytest.mark.parametrize("kind", ["openai", "ollama_chat"])
def test_schema(chats: Live, kind: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "who", "strict": True, "schema": SCHEMA}}
    valid(complete(chats, kind, messages=WHO, response_format=form).choices[0].message.content)


def test_text(chats: Live) -> None:
    found = litellm.text_completion(
        model="text-completion-openai/smollm2", api_base=f"{chats.url}/v1", api_key="none",
        prompt="The sky is", max_tokens=4, temperature=0,
    )  # fmt: skip
    assert found.choices[0].text


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_embeddings(vectors: Live, kind: str) -> None:
    base = f"{vectors.url}/v1" if kind == "openai" else vectors.url
    found = litellm.embedding(model=f"{kind}/minilm", input=TEXTS, api_base=base, api_key="none")
    alike(each["embedding"] for each in found.data)


def test_leaves(chats: Live) -> None:
    stream = complete(
        chats, messages=[{"role": "user", "content": LONG}], stream=True, max_tokens=None,
        logit_bias={"2": -100},
    )  # fmt: skip
    next(iter(stream))
    stream.completion_stream.close()
    chats.wait_idle()

"""Clients that people have, where they are installed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.patience import until
from tests.serve.conftest import Start
from tests.serve.live import Live

openai = pytest.importorskip("openai", reason="the package openai is not installed")


@pytest.fixture
def client(live: Live) -> Any:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def test_openai_chats(client: Any) -> None:
    with client:
        found = client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hi"}], max_tokens=6, seed=1, logprobs=True,
            top_logprobs=2,
        )  # fmt: skip
        assert found.choices[0].finish_reason == "length" and found.usage
        assert found.choices[0].logprobs and found.choices[0].logprobs.content
        assert len(found.choices[0].logprobs.content[0].top_logprobs) == 2
        text = ""
        with client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hi"}], max_tokens=6, seed=1, stream=True,
            stream_options={"include_usage": True},
        ) as stream:  # fmt: skip
            for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                usage = chunk.usage
        assert text == found.choices[0].message.content
        assert usage.total_tokens == found.usage.total_tokens


def test_openai_completes_and_lists(client: Any) -> None:
    with client:
        found = client.completions.create(model="any", prompt=["Tom", "Once"], max_tokens=3, n=2, seed=1)
        assert len(found.choices) == 4
        assert [model.id for model in client.models.list()] == ["stories"]
        assert client.models.retrieve("stories").owned_by == "edgeq"


def test_openai_sees_errors(client: Any, start: Start) -> None:
    with client:
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
    busy = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    with busy, server.halted(), server.begin("/v1/completions", {"prompt": "Tom"}):
        worker = server.worker
        until(lambda: worker.taken == 1, "its place")
        with pytest.raises(openai.RateLimitError):
            busy.completions.create(model="any", prompt="x")


def test_openai_leaves(client: Any, live: Live) -> None:
    with client:
        stream = client.completions.create(
            model="any", prompt="Once", max_tokens=400, stream=True, logit_bias={"2": -100}
        )
        next(iter(stream))
        stream.close()
    live.wait_idle()

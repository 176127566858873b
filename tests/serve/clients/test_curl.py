"""curl, as in READMEs: -d sends a form's content type."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.patience import STUCK_S, until
from tests.serve.clients.asked import (
    ANSWER,
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
from tests.serve.live import Live

if shutil.which("curl") is None:
    pytest.skip("curl is not installed", allow_module_level=True)
STILL: dict[str, Any] = {"temperature": 0, "max_tokens": 100}


def curl(server: Live, path: str, body: Any, *options: str) -> str:
    command = ["curl", "-sS", "--fail-with-body", *options, f"{server.url}{path}", "-d", json.dumps(body)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_chat_and_stream(chats: Live) -> None:
    body = {**STILL, "messages": HI_TURNS}
    found = json.loads(curl(chats, "/v1/chat/completions", body))
    assert found["choices"][0]["message"]["content"] == ANSWER
    kind = ("-H", "Content-Type: application/json")
    lines = curl(chats, "/v1/chat/completions", {**body, "stream": True}, "-N", *kind).split("\n\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == ANSWER
    assert "data: [DONE]" in lines


def test_logprobs_tools_schema(chats: Live) -> None:
    found = json.loads(curl(chats, "/v1/chat/completions", {**STILL, "messages": HI_TURNS, "logprobs": True}))
    assert len(found["choices"][0]["logprobs"]["content"]) >= 10
    asked = {
        **STILL,
        "messages": RAIN,
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    (call,) = json.loads(curl(chats, "/v1/chat/completions", asked))["choices"][0]["message"]["tool_calls"]
    called(**call["function"])
    form = {"type": "json_schema", "json_schema": {"name": "who", "schema": SCHEMA}}
    found = json.loads(
        curl(chats, "/v1/chat/completions", {**STILL, "messages": WHO, "response_format": form})
    )
    valid(found["choices"][0]["message"]["content"])


def test_embeddings(vectors: Live) -> None:
    found = json.loads(curl(vectors, "/v1/embeddings", {"input": TEXTS}))
    alike(each["embedding"] for each in found["data"])


def test_leaves(chats: Live) -> None:
    body = {"messages": [{"role": "user", "content": LONG}], "stream": True, "logit_bias": {"2": -100}}
    command = ["curl", "-sSN", f"{chats.url}/v1/chat/completions", "-d", json.dumps(body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline().startswith(b"data: ")
        process.terminate()
    until(lambda: chats.app.running == 0, "the request's end")

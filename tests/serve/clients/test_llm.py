"""llm, the command: its models of OpenAI's kind come from extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import STUCK_S, until
from tests.serve.clients.asked import ANSWER, HI, LONG, RAIN, SCHEMA, WHO, valid
from tests.serve.clients.conftest import client_package
from tests.serve.live import Live

client_package("llm")
MODELS = """
- model_id: smollm2
  model_name: smollm2
  api_base: {url}/v1
  supports_schema: true
  supports_tools: true
- model_id: text
  model_name: smollm2
  api_base: {url}/v1
  completion: true
"""
TOOL = '''
def weather(city: str) -> str:
    """The weather in a city."""
    return "It rains."
'''
STILL = ("-o", "temperature", "0", "-o", "max_tokens", "100")
Say = Callable[..., str]


@pytest.fixture
def home(chats: Live, tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(url=chats.url), encoding="utf-8")
    yield {**os.environ, "LLM_USER_PATH": str(tmp_path)}


@pytest.fixture
def say(home: dict[str, str]) -> Say:
    def say(*words: str, or_else: str | None = None) -> str:
        """What llm says; or_else: which words on stderr are as good."""
        command = [sys.executable, "-m", "llm", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S, env=home)
        if or_else is not None and or_else in done.stderr:
            return or_else
        assert done.returncode == 0, done.stderr
        return done.stdout

    return say


def test_chat_and_stream(say: Say) -> None:
    assert say("-m", "smollm2", HI, *STILL).strip() == ANSWER
    assert say("-m", "smollm2", HI, *STILL, "--no-stream").strip() == ANSWER
    assert say("-m", "smollm2", "-c", "And 3 plus 3?", *STILL, "--no-stream").strip()


def test_completion_and_logprobs(say: Say) -> None:
    assert say("-m", "text", "The sky is", "-o", "max_tokens", "4", "-o", "temperature", "0").strip()
    assert say("-m", "text", "The sky is", "-o", "max_tokens", "4", "-o", "logprobs", "2", "--no-stream")


def test_schema(say: Say) -> None:
    for stream in ((), ("--no-stream",)):
        valid(say("-m", "smollm2", WHO[0]["content"], "--schema", json.dumps(SCHEMA), *STILL, *stream))


def test_tools(say: Say) -> None:
    """There is no tool_choice: the model calls, once or again and again, or it does not."""
    asked = ("-m", "smollm2", RAIN[0]["content"], "--functions", TOOL, "--cl", "2", "--td", *STILL)
    for stream in ((), ("--no-stream",)):
        assert say(*asked, *stream, or_else="Tool call: weather")


def test_leaves(chats: Live, home: dict[str, str]) -> None:
    command = [sys.executable, "-m", "llm", "-m", "smollm2", LONG, "-o", "logit_bias", '{"2": -100}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=home) as process:
        assert process.stdout is not None and process.stdout.read(1)
        process.terminate()
    until(lambda: chats.app.running == 0, "the request's end")

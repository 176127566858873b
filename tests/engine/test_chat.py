"""A chat with a real model: what is kept from turn to turn changes no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq import engine
from edgeq.errors import UsageError

TEMPLATE = (
    "{% for m in messages %}"
    "{{ 'Once upon a time' if m['role'] == 'assistant' }}{{ m['content'] }}\n"
    "{% endfor %}Once upon a time"
)


@pytest.fixture
def model(demo_file: Callable[[str], Path]) -> Iterator[engine.Model]:
    with engine.load(demo_file("q4"), threads=1, context=256) as model:
        yield model


def test_a_conversation_answers_as_if_all_were_read_anew(model: engine.Model) -> None:
    options: dict[str, Any] = {"chat_template": TEMPLATE, "temperature": 0.0, "max_tokens": 24, "logprobs": 1}
    with model.conversation(**options) as chat:
        for question in ("Tell me of a cat.", "And of a dog.", "More."):
            kept = chat.ask(question).read()
            anew = model.chat(chat.messages[:-1], cache_prompt=False, **options)
            assert (kept.text, kept.ids, kept.logprobs) == (anew.text, anew.ids, anew.logprobs)
            assert kept.usage.prompt_tokens == anew.usage.prompt_tokens and anew.usage.cached_tokens == 0
        assert kept.usage.cached_tokens > 0.6 * kept.usage.prompt_tokens
        again = chat.again().read()
        assert again.text == kept.text and again.usage.cached_tokens == kept.usage.prompt_tokens - 1


def test_a_task_reads_an_answer(model: engine.Model) -> None:
    messages = [{"role": "user", "content": "Tell me of a cat."}]

    async def main() -> str:
        answer = model.chat(messages, stream=True, chat_template=TEMPLATE, temperature=0, max_tokens=24)
        return "".join([piece async for piece in answer])

    assert (
        asyncio.run(main()) == model.chat(messages, chat_template=TEMPLATE, temperature=0, max_tokens=24).text
    )


def test_a_model_without_a_template_cannot_chat(model: engine.Model) -> None:
    for chat in (model.conversation, lambda: model.chat([{"role": "user", "content": "Hi"}])):
        with pytest.raises(UsageError, match="the model file holds no chat template, so it cannot chat"):
            chat()

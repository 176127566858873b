"""One answer to messages that the caller keeps."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from edgeq.chat.answer import ChatResult
from edgeq.chat.plain import PLAIN_TEMPLATE
from edgeq.chat.reply import reply
from edgeq.errors import UsageError
from tests.chat.test_conversation import TOOL, WITH_TOOLS
from tests.cli import fakes

HI = [{"role": "user", "content": "Hi"}]


def model_of(template: str | None = fakes.TEMPLATE, context: int = 400) -> fakes.Model:
    model = fakes.Model("m.edgeq", context=context)
    model.chat_template = template
    return model


def said(model: fakes.Model) -> str:
    return bytes(id for id in model.fed_ids if id < 256).decode()


def test_an_answer_and_what_is_to_be_known_of_it() -> None:
    model = model_of()
    with model:
        answer = reply(model, HI, system="Be brief.", temperature=0.0, logprobs=1)
        assert "Answer: 0 tokens, not at its end" in repr(answer)
        result = answer.read()
    assert isinstance(result, ChatResult) and result == answer.result
    assert result.message == {"role": "assistant", "content": fakes.SONG} and result.text == fakes.SONG
    assert (result.finish_reason, result.forgotten) == ("eos", 0)
    assert said(model).startswith("system: Be brief.\nuser: Hi\nassistant: one")
    assert result.usage.cached_tokens == 0 and result.usage.completion_tokens == len(fakes.SONG)
    assert result.logprobs is not None and len(result.logprobs) == len(fakes.SONG)
    assert json.loads(json.dumps(result.to_json()))["message"] == result.message


def test_pieces_come_one_by_one_and_to_an_event_loop() -> None:
    async def main() -> list[str]:
        return [piece async for piece in reply(model_of(), HI, temperature=0.0)]

    assert asyncio.run(main()) == list(reply(model_of(), HI, temperature=0.0)) == list(fakes.SONG)


def test_a_sequence_keeps_the_beginning() -> None:
    model = model_of()
    sequence = model.sequence()
    first = reply(model, HI, sequence=sequence, temperature=0.0).read()
    more = [*HI, first.message, {"role": "user", "content": "More"}]
    second = reply(model, more, sequence=sequence, temperature=0.0).read()
    assert second.usage.cached_tokens == first.usage.total_tokens
    alone = reply(model, more, temperature=0.0).read()
    assert alone.usage.prompt_tokens == second.usage.prompt_tokens and alone.usage.cached_tokens == 0


def test_tools_reach_the_template_that_knows_them() -> None:
    model = model_of(WITH_TOOLS)
    reply(model, HI, tools=[TOOL], temperature=0.0).read()
    assert said(model).startswith('[{"type": "function"')
    with pytest.raises(UsageError, match=r"^tools are given, but the model's chat template knows no tools$"):
        reply(model_of(), HI, tools=[TOOL])


@pytest.mark.parametrize(
    ("template", "messages", "options", "words"),
    [
        (None, HI, {}, "holds no chat template, so it cannot chat"),
        (fakes.TEMPLATE, "Hi", {}, "a str where a list of messages is expected"),
        (fakes.TEMPLATE, HI, {"temprature": 1}, "'temprature' is no sampling option"),
        (fakes.TEMPLATE, HI, {"chat_template": 3}, "chat_template is 3"),
        (fakes.TEMPLATE, HI, {"stop": 3}, "stop is 3"),
        (fakes.TEMPLATE, 5, {"system": "Be brief."}, "a int where a list of messages is expected"),
        (fakes.TEMPLATE, HI, {"chat_template_kwargs": {1: 2}}, "1 is a name in chat_template_kwargs, but"),
        (fakes.TEMPLATE, HI, {"chat_template_kwargs": {"add_bos": 1}}, "add_bos is given in chat_template"),
        (
            fakes.TEMPLATE,
            [{"role": "user", "content": "x" * 500}],
            {},
            "tokens do not fit in the context of 400",
        ),
    ],
)
def test_what_cannot_be_honoured(template: str | None, messages: Any, options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        reply(model_of(template), messages, **options)


def test_plain_lines_end_at_the_next() -> None:
    model = model_of(None)
    model.song = " Fine.\nUser: and you?"
    answer = reply(model, HI, chat_template=PLAIN_TEMPLATE, stop="!", temperature=0.0)
    assert answer.read().text == " Fine." and answer.finish_reason == "stop"


def test_a_model_without_a_tokenizer() -> None:
    model = model_of()
    model.tokenizer = None  # type: ignore[assignment]
    with pytest.raises(UsageError, match="no tokenizer, so it cannot chat"):
        reply(model, HI)

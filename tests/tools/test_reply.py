"""`Model.chat` and conversations that are held to a form or to tools."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edgeq.chat.plain import PLAIN_TEMPLATE
from edgeq.errors import UsageError
from edgeq.tools import plan_of
from edgeq.tools.reply import HeldAnswer

pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "n": {"enum": [1, 2]}},
    "required": ["name", "n"],
    "additionalProperties": False,
}
HI = [{"role": "user", "content": "Once upon a time"}]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 6}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
PLAIN: dict[str, Any] = dict(chat_template=PLAIN_TEMPLATE, max_tokens=150, seed=3)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (dict(response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}), r'\{"name": ".*'),
        (dict(schema=SCHEMA), r'\{"name": ".*"n": [12]\}'),
        (dict(regex="[a-z]{3} [0-9]"), "[a-z]{3} [0-9]"),
        (dict(choice=["yes", "no"]), "yes|no"),
        (dict(grammar='root ::= "a" [b-c]+ "."\n', max_tokens=2), "a[bc]+"),
    ],
)
def test_an_answer_has_its_form(demo_model: Any, options: dict[str, Any], wanted: str) -> None:
    result = demo_model.chat(HI, **{**PLAIN, **options})
    assert re.fullmatch(wanted, result.message["content"], re.S) and result.text == result.message["content"]
    assert result.message.keys() == {"role", "content"}


def test_a_call_is_told_apart(demo_model: Any) -> None:
    asked = dict(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    answer = demo_model.chat(HI, stream=True, **asked, **PLAIN)
    assert isinstance(answer, HeldAnswer)
    with answer:
        pieces = []
        for piece in answer:
            pieces.append(piece)
            assert answer.message["content"] in (None, "")
    result = answer.result
    assert "".join(pieces) == result.text and result.text.startswith('{"name": "weather", "arguments": {')
    (call,) = result.message["tool_calls"]
    assert call["type"] == "function" and re.fullmatch("call_[0-9a-f]{24}", call["id"])
    assert call["function"]["name"] == "weather" and json.loads(call["function"]["arguments"]).keys() == {
        "city"
    }
    assert answer.message == result.message and result.message["content"] is None


def test_tools_are_told_in_the_system_message_of_a_template_without(demo_model: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HI]
    with demo_model.chat(messages, tools=TOOLS, tool_choice="auto", stream=True, **PLAIN) as answer:
        prompt = demo_model.tokenizer.decode(answer.generation.prompt_ids)
    assert prompt.startswith("Be brief.") and '"weather"' in prompt


def test_stop_strings_go_with_tools_and_not_with_forms(demo_model: Any) -> None:
    result = demo_model.chat(HI, tools=TOOLS, tool_choice="auto", stop=["e"], **PLAIN)
    assert result.finish_reason == "stop" and "e" not in result.message["content"]
    assert result.message["content"].rstrip() == result.text.rstrip()
    for options in (dict(stop="e"), dict(ignore_eos=True), dict(mask=object())):
        with pytest.raises(UsageError, match="is given"):
            demo_model.chat(HI, schema=SCHEMA, **PLAIN, **options)
    with pytest.raises(UsageError, match="knows no tools"):  # as ever, where nothing is asked for
        demo_model.chat(HI, tools=TOOLS, **PLAIN)


def test_a_conversation_is_held_turn_by_turn(demo_model: Any) -> None:
    with demo_model.conversation(**PLAIN) as chat:
        chat.held = plan_of(demo_model, chat_template=PLAIN_TEMPLATE, choice=["yes", "no"]).mask
        answers = [chat.ask(question).read().text for question in ("Is it?", "Or not?", "Really?")]
        assert set(answers) <= {"yes", "no"}
        chat.stop = "y"
        with pytest.raises(UsageError, match="stop is given"):
            chat.ask("And now?")
        chat.stop, chat.held = (), None
        assert chat.ask("And now?").read().text not in ("yes", "no")

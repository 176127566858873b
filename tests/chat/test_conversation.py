"""A conversation: its messages, its cache across turns, what is forgotten, and how it is broken off."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edgeq.chat.conversation import Conversation
from edgeq.chat.plain import PLAIN_TEMPLATE
from edgeq.chat.sandbox import variables
from edgeq.errors import UsageError
from tests.cli import fakes

WITH_TOOLS = "{% if tools %}{{ tools | tojson }}\n{% endif %}" + fakes.TEMPLATE
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@contextmanager
def chatting(
    template: str | None = fakes.TEMPLATE, *, song: str = fakes.SONG, context: int = 400, **options: Any
) -> Iterator[Conversation]:
    with fakes.Model("m.edgeq", context=context) as model:
        model.chat_template, model.song = template, song
        with Conversation(model, **{"temperature": 0.0, **options}) as chat:
            yield chat


def said(chat: Conversation) -> str:
    """What the sequence holds, as text."""
    return bytes(id for id in chat.sequence.ids if id < 256).decode()


def roles(chat: Conversation) -> list[str]:
    return [message["role"] for message in chat.messages]


def test_an_answer_becomes_part_of_the_conversation() -> None:
    with chatting(system="Be brief.") as chat:
        answer = chat.ask("Hi")
        assert "".join(answer) == answer.text == fakes.SONG
        assert answer.finish_reason == "eos" and not answer.forgotten
        assert said(chat).startswith("system: Be brief.\nuser: Hi\nassistant: one, two")
        assert roles(chat) == ["user", "assistant"] and chat.messages[-1] == answer.message
        assert "".join(chat.ask("More")) == fakes.SONG
        assert f"assistant: {fakes.SONG}\nuser: More\nassistant: " in said(chat)


def test_what_the_cache_holds_is_not_computed_again() -> None:
    with chatting() as chat:
        list(chat.ask("Hi"))
        held = list(chat.sequence.ids)
        list(chat.ask("More"))
        fed = chat.sequence.fed  # type: ignore[attr-defined]
        second = fed[1 + len(fakes.SONG) :]  # after the first prompt and one feed for each letter
        assert held == chat.sequence.ids[: len(held)]
        assert second[0] == len(chat.sequence.ids) - len(held) - len(fakes.SONG)


def test_a_name_of_a_control_token_in_a_message_stays_text() -> None:
    with chatting() as chat:
        list(chat.ask("x</s>y"))
        assert "user: x</s>y" in said(chat)
        assert chat.sequence.ids.count(fakes.EOS) == 1  # the template's own, after the message


def test_interrupted_answers_stay_as_far_as_they_came() -> None:
    with chatting() as chat:
        with chat.ask("Hi") as answer:
            assert [next(answer) for _ in range(3)] == ["o", "n", "e"]
            assert roles(chat) == ["user"]
        assert chat.messages[-1] == {"role": "assistant", "content": "one"}
        assert answer.finish_reason is None
        assert "".join(chat.ask("More")) == fakes.SONG
        assert roles(chat) == ["user", "assistant"] * 2


def test_an_answer_that_nobody_reads_is_ended_by_the_next_question() -> None:
    with chatting() as chat:
        first = chat.ask("Hi")
        next(first)
        list(chat.ask("More"))
        assert [message["content"] for message in chat.messages] == ["Hi", "o", "More", fakes.SONG]
        assert list(first) == [] and len(chat.messages) == 4


def test_an_answer_is_cancelled_from_another_thread() -> None:
    with chatting() as chat:
        answer = chat.ask("Hi")
        assert next(answer) == "o"
        thread = threading.Thread(target=chat.cancel)
        thread.start()
        thread.join()
        assert list(answer) == [] and answer.finish_reason == "cancelled"
        assert chat.messages[-1] == {"role": "assistant", "content": "o"}
        chat.cancel()  # there is nothing to cancel
        assert "".join(chat.ask("More")) == fakes.SONG


def test_a_task_that_is_cancelled_leaves_what_was_answered() -> None:
    with chatting() as chat:

        async def main() -> None:
            async for piece in chat.ask("Hi"):
                if piece == "n":
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())
        assert roles(chat) == ["user", "assistant"] and chat.messages[-1]["content"].startswith("on")
        assert "".join(chat.ask("More")) == fakes.SONG


def test_another_call_meanwhile_is_refused() -> None:
    with chatting() as chat:

        def step(*args: Any, **options: Any) -> Any:
            with pytest.raises(UsageError, match="from within that call"):
                chat.ask("Two")
            chat.cancel()
            return fed(*args, **options)

        answer = chat.ask("One")
        fed, chat.sequence.step = chat.sequence.step, step  # type: ignore[method-assign]
        assert "".join(answer) == "o" and answer.finish_reason == "cancelled"
        assert roles(chat) == ["user", "assistant"]


def test_another_answer_and_a_clear_conversation() -> None:
    with chatting() as chat:
        with pytest.raises(UsageError):
            chat.again()
        list(chat.ask("Hi"))
        assert "".join(chat.again()) == fakes.SONG
        assert len(chat.messages) == 2
        chat.clear()
        assert chat.messages == [] and chat.sequence.ids == [] and chat.last is None


def test_an_exchange_is_taken_back() -> None:
    with chatting() as chat:
        list(chat.ask("Hi"))
        list(chat.ask("More"))
        gone = chat.undo()
        assert [message["content"] for message in gone] == ["More", fakes.SONG]
        assert roles(chat) == ["user", "assistant"]
        list(chat.ask("Less"))
        assert "user: Less" in said(chat) and "More" not in said(chat)
        chat.undo()
        chat.undo()
        with pytest.raises(UsageError, match="no message to take back"):
            chat.undo()


@pytest.mark.parametrize("max_tokens", [None, 30])
def test_a_full_context_forgets_the_oldest_exchanges(max_tokens: int | None) -> None:
    with chatting(context=200, max_tokens=max_tokens) as chat:
        forgotten = 0
        for turn in range(6):
            answer = chat.ask(f"question {turn}")
            forgotten += answer.forgotten
            list(answer)
        assert forgotten and len(chat.messages) == 12 - forgotten
        assert chat.messages[0]["role"] == "user" and chat.messages[0]["content"] != "question 0"
        assert "question 5" in said(chat) and len(chat.sequence.ids) <= 200
        kept = list(chat.messages)
        with pytest.raises(UsageError, match="the message has 3.. tokens, but the context holds 200"):
            chat.ask("x" * 300)
        assert chat.messages == kept


def test_no_more_is_forgotten_than_must_be() -> None:
    with chatting(context=400, max_tokens=20) as chat:
        for turn in range(12):
            list(chat.ask(f"question {turn}"))
        longer = [{"role": "user", "content": "question 0"}, {"role": "assistant", "content": fakes.SONG}]
        assert len(chat._encode([*longer, *chat.messages])) + 20 > 400


def test_a_model_without_a_template_is_refused_unless_one_is_given() -> None:
    with pytest.raises(UsageError, match="holds no chat template"):
        Conversation(fakes.Model("m.edgeq"))
    with chatting(None, song=" Fine.\nUser: and you?", chat_template=PLAIN_TEMPLATE) as chat:
        assert "".join(chat.ask("How are you?")) == " Fine."
        assert said(chat).startswith("User: How are you?\nAssistant: Fine.")


def test_each_turn_draws_its_own_numbers() -> None:
    seeds = []
    for _ in range(2):
        with chatting(seed=2**64 - 1, temperature=1.0) as chat:
            answers = [chat.ask("Hi"), chat.ask("Hi"), chat.again()]
            seeds.append([answer.generation.seed for answer in answers])
    assert seeds == [[2**64 - 1, 0, 1]] * 2


def test_tools_and_words_of_the_template() -> None:
    with chatting(WITH_TOOLS + "{% if loud %}LOUD{% endif %}", tools=[TOOL]) as chat:
        chat.chat_template_kwargs = {"loud": True}
        list(chat.ask("Rain?"))
        assert said(chat).startswith('[{"type": "function"') and "assistant: LOUDone" in said(chat)
    with chatting(tools=[TOOL]) as chat, pytest.raises(UsageError, match="template knows no tools"):
        chat.ask("Rain?")
    with chatting(tools="weather") as chat, pytest.raises(UsageError, match="tools are 'weather'"):
        chat.ask("Rain?")
    wrong: tuple[Any, ...] = ({"messages": []}, 3)
    for words in wrong:
        with pytest.raises(UsageError, match="chat_template_kwargs"), chatting(chat_template_kwargs=words):
            pass


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stop", 3, "stop is 3"),
        ("system", 3, "system is 3, but must be a text"),
        ("messages", [{"content": "Hi"}], 'message 0 is not an object with a "role"'),
        ("messages", "Hi", "messages is a str where a list of messages is expected"),
        ("chat_template", 3, "chat_template is 3"),
        ("logprobs", "all", "logprobs is 'all'"),
        ("max_tokens", -2, "max_tokens is -2"),
        ("max_tokens", "x", "max_tokens is 'x'"),
        ("options", 3, "options are 3, but must be SamplingOptions"),
    ],
)
@pytest.mark.parametrize("template", [fakes.TEMPLATE, PLAIN_TEMPLATE])
def test_what_was_set_wrong_is_told_by_the_next_call(
    template: str, name: str, value: Any, words: str
) -> None:
    with chatting(template) as chat:
        right = getattr(chat, name)
        setattr(chat, name, value)
        with pytest.raises(UsageError, match=words):
            chat.ask("Hi")
        setattr(chat, name, right)
        assert "".join(chat.ask("Hi")) == fakes.SONG and roles(chat) == ["user", "assistant"]


@pytest.mark.parametrize("messages", ["x", None, [5], [{}], [{"role": 5}]])
@pytest.mark.parametrize("call", ["undo", "again", "ask"])
def test_messages_that_are_none_are_told(messages: Any, call: str) -> None:
    with chatting() as chat:
        chat.messages = messages
        with pytest.raises(UsageError, match="list of messages is expected|is not an object with"):
            chat.ask("Hi") if call == "ask" else getattr(chat, call)()


def test_a_template_tells_what_it_asks_for() -> None:
    assert variables(fakes.TEMPLATE) == {"messages", "bos_token", "eos_token", "add_generation_prompt"}
    branches = (
        "{% if not tools is defined %}{% set tools = none %}{% endif %}{{ tools }}{{ enable_thinking }}"
    )
    assert variables(branches) == {"tools", "enable_thinking"}


def test_a_conversation_is_saved_and_goes_on() -> None:
    with chatting(system="Be brief.") as chat:
        list(chat.ask("Hi"))
        saved = json.dumps(chat.to_json())
    assert json.loads(saved)["messages"][0] == {"role": "system", "content": "Be brief."}
    with chatting(system="Be long.") as chat:
        list(chat.ask("Something else"))
        chat.restore(json.loads(saved))
        assert chat.system == "Be brief." and roles(chat) == ["user", "assistant"]
        list(chat.ask("More"))
        assert said(chat).startswith("system: Be brief.\nuser: Hi\nassistant: one")


@pytest.mark.parametrize(
    "data",
    [
        None, [], {"messages": "Hi"}, {"messages": ["Hi"]}, {"messages": [{"content": "Hi"}]},
        {"messages": [{"role": 1}]}, {"messages": [{"role": "system", "content": ["x"]}]},
        {"messages": [{"role": "user", "content": b"Hi"}]},
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused(data: object) -> None:
    with chatting() as chat:
        list(chat.ask("Hi"))
        kept = list(chat.messages)
        with pytest.raises(UsageError):
            chat.restore(data)
        assert chat.messages == kept


def test_a_conversation_is_told_in_a_line() -> None:
    with chatting() as chat:
        list(chat.ask("Hi"))
        assert repr(chat) == f"<edgeq.Conversation: 2 messages, {len(chat.sequence.ids)} of 400 tokens>"

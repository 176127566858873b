"""edgeq chat: the conversation, its cache across turns, the commands, and Ctrl-C at a real terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from edgeq.cli.chat import Chat
from edgeq.errors import UsageError
from edgeq.generate import SamplingOptions
from tests.cli import fakes
from tests.cli.conftest import Call
from tests.patience import STUCK_S, until

ROOT = Path(__file__).resolve().parents[2]
GREEDY = SamplingOptions(temperature=0)


@contextmanager
def chatting(template: str | None = fakes.TEMPLATE, **options: object) -> Iterator[Chat]:
    with fakes.Model("m.edgeq", context=options.pop("context", None)) as model:
        model.chat_template = template
        with closing(Chat(model, GREEDY, **options)) as chat:  # type: ignore[arg-type]
            yield chat


def said(chat: Chat) -> str:
    return bytes(id for id in chat.sequence.ids if id < 256).decode()


def test_an_answer_becomes_part_of_the_conversation() -> None:
    with chatting(system="Be brief.") as chat:
        assert "".join(chat.ask("Hi")) == fakes.SONG
        assert said(chat).startswith("system: Be brief.\nuser: Hi\nassistant: one, two")
        assert [message["role"] for message in chat.messages] == ["user", "assistant"]
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
        answer = chat.ask("Hi")
        with closing(answer):  # type: ignore[type-var]
            assert [next(answer) for _ in range(3)] == ["o", "n", "e"]
        assert chat.messages[-1] == {"role": "assistant", "content": "one"}
        assert "".join(chat.ask("More")) == fakes.SONG


def test_regen_and_clear() -> None:
    with chatting() as chat:
        with pytest.raises(UsageError):
            chat.again()
        list(chat.ask("Hi"))
        assert "".join(chat.again()) == fakes.SONG
        assert len(chat.messages) == 2
        chat.clear()
        assert chat.messages == [] and chat.sequence.ids == []


def test_a_full_context_forgets_the_oldest_exchange(capsys: pytest.CaptureFixture[str]) -> None:
    with chatting(context=200) as chat:
        for turn in range(6):
            list(chat.ask(f"question {turn}"))
        assert "forgotten" in capsys.readouterr().err
        assert chat.messages[0]["role"] == "user" and chat.messages[0]["content"] != "question 0"
        assert "question 5" in said(chat) and len(chat.sequence.ids) <= 200
        kept = list(chat.messages)
        with pytest.raises(UsageError, match="context holds 200"):
            list(chat.ask("x" * 300))
        assert chat.messages == kept


def test_a_model_without_a_template_gets_plain_lines_and_stops_at_the_next() -> None:
    with chatting(template=None) as chat:
        chat.model.song = " Fine.\nUser: and you?"  # type: ignore[attr-defined]
        assert "".join(chat.ask("How are you?")) == " Fine."
        assert said(chat).startswith("User: How are you?\nAssistant: Fine.")


def test_lines_on_stdin(call: Call, model: str) -> None:
    lines = b'Hi\n\n"""a\nb"""\n/stats\n/regen\n/clear\n/nonsense\n/help\n/bye\nnot read\n'
    result = call("chat", model, "--temp", "0", stdin=lines)
    assert result.code == 0
    assert result.out.count(fakes.SONG) == 4
    assert "tokens of context, 4 messages" in result.out
    assert "/regen" in result.out
    assert "/nonsense is unknown to edgeq" in result.err
    assert ">>>" not in result.out
    (made,) = result.models
    assert b"User: a\nb\n" in bytes(id for id in made.fed_ids if id < 256)


def test_the_end_of_input_leaves(call: Call, model: str) -> None:
    assert call("chat", model, stdin=b"Hi").code == 0


class Person:
    """Someone at a terminal: types, reads what appears, presses Ctrl-C."""

    def __init__(self, *arguments: str) -> None:
        self.end, other = pty.openpty()
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", fakes.program("chatty", *arguments)],
            stdin=other, stdout=other, stderr=other, cwd=ROOT, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.seen = self.unread = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until `text` appears after what was read before."""
        while text not in self.unread:
            appears = select.select([self.end], [], [], STUCK_S)[0]
            assert appears, f"{text!r} did not appear after {self.seen!r}, but {self.unread!r}"
            self.unread += os.read(self.end, 4096).decode(errors="replace")
        at = self.unread.index(text) + len(text)
        self.seen, self.unread = self.seen + self.unread[:at], self.unread[at:]

    def interrupt(self) -> None:
        """Press Ctrl-C once the process waits: between a prompt and its wait for a key, one would be noticed
        with the next key only."""
        status = psutil.Process(self.process.pid).status
        until(lambda: status() == psutil.STATUS_SLEEPING, "that the process waits")
        self.process.send_signal(signal.SIGINT)


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(model: str) -> None:
    person = Person("chat", model, "--temp", "0")
    try:
        person.wait_for(">>> ")
        person.type("Hi\n")
        person.wait_for("one, t")
        person.interrupt()
        person.wait_for(">>> ")
        person.interrupt()  # at the prompt, it only begins a new line
        person.wait_for(">>> ")
        person.type("/stats\n")
        person.wait_for("2 messages")
        person.wait_for(">>> ")
        person.type("More\n")
        person.wait_for("two")
        person.interrupt()
        person.wait_for(">>> ")
        person.type("\x04")
        assert person.process.wait(STUCK_S) == 0
        assert "Traceback" not in person.seen
    finally:
        person.process.kill()
        person.process.wait()
        os.close(person.end)

"""What is said to the chat itself, on a model that recites."""

from __future__ import annotations

import io
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from edgeq.chat.conversation import Conversation
from edgeq.cli import slash
from edgeq.cli.prompt import Message
from edgeq.cli.session import Session
from edgeq.cli.transcript import BYTES_MAX
from edgeq.errors import EdgeqError, UsageError
from tests.cli import fakes
from tests.cli.screen import Screen

THINKING = fakes.TEMPLATE + "{% if enable_thinking is false %}<no>{% endif %}"


@pytest.fixture
def session() -> Iterator[Session]:
    with fakes.Model("m.edgeq") as model:
        model.chat_template = fakes.TEMPLATE
        with Conversation(model, temperature=0.0) as chat:
            yield Session(chat)


def says(session: Session, *lines: str) -> str:
    """What lines print to stdout."""
    out = io.StringIO()
    with redirect_stdout(out):
        for line in lines:
            session.obey(Message(line, is_line=True))
    return out.getvalue()


def asked(session: Session) -> list[str]:
    return [message["content"] for message in session.chat.messages if message["role"] == "user"]


def test_every_word_is_in_the_help_once() -> None:
    words = [word for command in slash.COMMANDS for word in command.names]
    assert len(words) == len(set(words)) and all(re.fullmatch(r"/[a-z]+|/\?", word) for word in words)


def test_help_lists_every_row_in_a_line(session: Session) -> None:
    out = says(session, "/help")
    assert out == says(session, "/?")
    for command in slash.COMMANDS:
        assert re.search(rf"^{re.escape(command.names[0])} .*{re.escape(command.about)}", out, re.M)


def test_words_where_none_belong_and_none_where_some_do(session: Session) -> None:
    with pytest.raises(UsageError, match=r"/clear takes nothing behind it; //clear up is a message"):
        says(session, "/clear up")
    with pytest.raises(UsageError, match="/save needs FILE"):
        says(session, "/save")
    assert session.chat.messages == []


def test_the_system_message(session: Session) -> None:
    assert "no system message" in says(session, "/system")
    says(session, "/system Be brief.", "Hi")
    assert says(session, "/system") == "Be brief.\n"
    assert b"system: Be brief." in bytes(id for id in session.chat.sequence.ids if id < 256)
    says(session, '/system ""')
    assert session.chat.system is None


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("temperature 0.5", "temperature", 0.5), ("temp 1", "temperature", 1), ("top_k 3", "top_k", 3),
        ("min_p 0", "min_p", 0), ("seed 7", "seed", 7), ("seed -1", "seed", None),
    ],
)  # fmt: skip
def test_how_tokens_are_drawn(session: Session, line: str, name: str, value: float | None) -> None:
    says(session, f"/set {line}")
    assert getattr(session.chat.options, name) == value
    assert says(session, f"/set {name}") == f"{name} is {-1 if value is None else value}\n"


def test_how_answers_look_and_how_long_they_are(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    says(session, "/set wordwrap off", "/set thoughts show", "/set max_tokens 3")
    assert not session.look.wordwrap and session.look.thoughts == "show"
    assert says(session, "Hi") == "one\n"
    assert capsys.readouterr().err == "(cut off after 3 tokens, as -n or /set max_tokens says)\n"
    out = says(session, "/set")
    assert re.search(r"^max_tokens +3$", out, re.M) and re.search(r"^wordwrap +off$", out, re.M)


def test_an_answer_that_fills_the_context_says_so(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.chat.model.context = 40  # type: ignore[misc]
    assert says(session, "Hi").startswith("one, two")
    assert capsys.readouterr().err == "(cut off: the context of 40 tokens is full)\n"


def test_a_message_that_was_stopped_while_it_was_read_can_be_taken_back(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.chat.sequence, "step", interrupted)
    assert says(session, "a long file") == "\n" and asked(session) == ["a long file"]
    assert "(stopped before the first word; /undo takes the message back)" in capsys.readouterr().err
    says(session, "/undo")
    assert asked(session) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("colour red", "'colour' cannot be set: the names are temperature, .*wordwrap"),
        ("temperature warm", "temperature is 'warm', but must be a number"),
        ("temperature -1", "temperature is -1, but must be a number of at least 0"),
        ("temperature nan", "temperature is nan, but must be"),
        ("top_k 1.5", "top_k is 1.5, but must be a whole number"),
        ("seed -2", "seed is -2, but must be"),
        ("max_tokens many", "max_tokens is 'many', but must be a number"),
        ("max_tokens -2", "max_tokens is '-2', but must be a whole number of at least 0, or -1"),
        ("wordwrap maybe", "wordwrap is 'maybe', but must be on or off"),
        ("thoughts out", "thoughts is 'out', but must be fold, show or hide"),
        ("think on", "no switch for thinking"),
    ],
)
def test_what_cannot_be_set_is_refused(session: Session, line: str, complaint: str) -> None:
    before = (session.chat.options, session.look, session.chat.max_tokens)
    with pytest.raises(EdgeqError, match=complaint):
        says(session, f"/set {line}")
    assert (session.chat.options, session.look, session.chat.max_tokens) == before


def test_thinking_is_switched_where_the_template_knows_it(session: Session) -> None:
    assert "the template has no switch for it" in says(session, "/set")
    session.chat.chat_template = THINKING
    assert "as the template has it" in says(session, "/set think")
    says(session, "/set think off", "Hi")
    assert session.chat.chat_template_kwargs == {"enable_thinking": False}
    assert b"<no>" in bytes(id for id in session.chat.sequence.ids if id < 256)
    assert says(session, "/set think") == "think is off\n"


def test_show(session: Session) -> None:
    says(session, "/system Be brief.", "Hi")
    lines = dict(line.split(maxsplit=1) for line in says(session, "/show").splitlines())
    assert lines["model"] == "m.edgeq" and lines["system"] == "Be brief." and lines["messages"] == "2"
    assert lines["template"] == "the model's" and lines["context"].endswith("of 400 tokens of context")


def test_undo_and_regen(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    says(session, "One", "Two", "/undo")
    assert asked(session) == ["One"] and "(forgotten: Two)" in capsys.readouterr().err
    assert says(session, "/regen") == f"{fakes.SONG}\n" and asked(session) == ["One"]
    says(session, "/undo")
    with pytest.raises(UsageError):
        says(session, "/undo")


def test_thoughts_that_the_template_begins_are_no_answer(session: Session) -> None:
    session.chat.chat_template = fakes.TEMPLATE + "<think>\n"
    session.chat.model.song = "It is so.</think>Yes."  # type: ignore[attr-defined]
    session.look.thoughts = "hide"
    for line in ("Really?", "/regen"):  # the second time, most of the prompt is in the cache
        screen = Screen()
        with redirect_stdout(screen):
            session.obey(Message(line, is_line=True))
        assert screen.take() == "Yes.\n"


# files --------------------------------------------------------------------------------------------------


def test_a_conversation_is_saved_and_loaded(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "my talk.json"
    says(session, "/system Be brief.", "Hi é", f"/save {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant"]
    says(session, "/clear", '/system ""', f'/load "{path}"')
    assert session.chat.to_json() == saved
    says(session, "More", f"/save {path}")  # a saved conversation may be replaced
    assert len(json.loads(path.read_text(encoding="utf-8"))["messages"]) == 5
    assert [found.name for found in tmp_path.iterdir()] == ["my talk.json"]


def test_what_is_no_conversation_is_not_replaced(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir")
    with pytest.raises(UsageError, match="exists and is no saved conversation, so it is not replaced"):
        says(session, "Hi", f"/save {path}")
    assert path.read_text() == "Dear Sir"
    with pytest.raises(EdgeqError, match="cannot be written: No such file"):
        says(session, f"/save {tmp_path / 'no folder' / 'x.json'}")


def test_a_name_that_no_file_can_have_ends_no_chat(session: Session, tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    says(session, "Hi")
    for name in ("x" * 300, "round"):
        with pytest.raises(EdgeqError, match="cannot be written"):
            says(session, f"/save {tmp_path / name}")
        with pytest.raises(UsageError, match="cannot be read"):
            says(session, f"/load {tmp_path / name}")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("Dear Sir", "is not JSON: .*, so it is no saved conversation"),
        ("3", "is no saved conversation"),
        ('{"messages": {}}', "is no saved conversation"),
        ('{"messages": [{"content": "a"}]}', "message 1 in .* has no role"),
        ('[{"role": "user", "content": "a"}, {"role": "root", "content": "a"}]', "message 2 in"),
        ('[{"role": ["user"], "content": "a"}]', "message 1 in .* has no role"),
        ('[{"role": "user", "content": [1]}]', "message 1 in .* has no text"),
        ('[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]', "can only be the first"),
        ('[{"role": "user", "role": "user", "content": "a"}]', "twice"),
        ('[{"role": "user", "content": "\\ud800"}]', "half of a surrogate pair"),
        ("[" * 50_000, "nested deeper"),
    ],
)
def test_a_file_is_checked_before_anything_is_forgotten(
    session: Session, tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    says(session, "Hi")
    with pytest.raises(UsageError, match=complaint):
        says(session, f"/load {path}")
    assert asked(session) == ["Hi"]


def test_a_list_of_messages_is_a_conversation(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"role": "user", "content": "Hi"}]')
    assert says(session, f"/load {path}", "/regen") == f"{fakes.SONG}\n"


def test_a_file_as_a_message(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b.txt").write_text("/bye é\nline two\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    says(session, '/file "~/a b.txt" What\'s that?', "/undo", "/file '~/a b.txt'")
    assert asked(session) == ["/bye é\nline two"] and not session.over


def test_a_question_stands_behind_the_file(session: Session, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text\n")
    says(session, f'/file {tmp_path / "a.txt"}   What\'s "that"?')
    assert asked(session) == ['text\n\nWhat\'s "that"?']


def test_what_is_no_text_is_refused(session: Session, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    (tmp_path / "empty").write_text("\n")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(BYTES_MAX + 1)
    for name, complaint in (
        ("none", "cannot be read: No such file"),
        ("pipe", "is no regular file"),
        ("bytes", "is not UTF-8 text: byte 2 is 0xff"),
        ("empty", "holds no text"),
        ("large", "has more than 16 MiB"),
        ("", "is no regular file|cannot be read: Is a directory"),
    ):
        for command in ("/file", "/load") if name not in ("bytes", "empty") else ("/file",):
            with pytest.raises(UsageError, match=complaint):
                says(session, f"{command} {tmp_path / name}")
    assert session.chat.messages == []

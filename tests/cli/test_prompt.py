"""Messages from lines: blocks, pastes, and what an editor without bracketed paste gives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgeq.cli import prompt
from edgeq.cli.prompt import Message, read_message
from edgeq.errors import UsageError
from tests.cli.person import Person


class Script:
    """Lines that are known before, with the prompts they were asked for by."""

    def __init__(self, *lines: str) -> None:
        self.lines, self.prompts, self.kept = list(lines), list[str](), list[str]()

    def read(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        return self.lines.pop(0) if self.lines else None

    def keep(self, message: str) -> None:
        self.kept.append(message)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Hi "], Message("Hi ", True)),
        (["a\n/bye"], Message("a\n/bye", False)),
        (['"""a"""'], Message("a", False)),
        ([' """', "/bye", "", '"""'], Message("/bye", False)),
        (['"""a', "pasted\nlines", 'b"""'], Message("a\npasted\nlines\nb", False)),
        (['"""a', "b"], Message("a\nb", False)),
        (['"""Docs."""\n\nimport os'], Message('"""Docs."""\n\nimport os', False)),
        ([], None),
    ],
)
def test_messages(lines: list[str], message: Message | None) -> None:
    script = Script(*lines)
    assert read_message(script) == message
    assert script.kept == [] if message is None else len(script.kept) == 1
    assert not script.kept or read_message(Script(*script.kept)) == message  # as it is found again
    assert script.prompts[0] == ">>> " and set(script.prompts[1:]) <= {"... "}


def test_nothing_is_kept_of_nothing_and_of_what_is_refused() -> None:
    script = Script("  ", "\udcff")
    assert read_message(script) == Message("  ", True)
    with pytest.raises(UsageError, match="not UTF-8"):
        read_message(script)
    assert script.kept == []


def test_messages_that_the_editor_cannot_have_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As GNU readline under LC_ALL=C, where a history has letters that this locale lacks."""
    offered: list[str] = []

    def add_history(message: str) -> None:
        offered.append(message.encode("ascii").decode())
        if "\0" in message:
            raise ValueError("embedded null character")

    editor = SimpleNamespace(
        __doc__="GNU", set_auto_history=bool, parse_and_bind=bool, add_history=add_history
    )
    monkeypatch.setattr(prompt, "_readline", lambda: editor)
    monkeypatch.setattr(prompt.Typed, "_kept", lambda self: ["one", "naïve", "a\0b"])
    lines = prompt.Typed(None)
    lines.keep("größer")
    lines.keep("two")
    assert offered == ["one", "a\0b", "two"]


WITHOUT = """
from edgeq.cli import prompt
{without}
lines = prompt.Typed(None)
while (text := lines.read("> ")) is not None:
    print("got", repr(text))
"""


@pytest.mark.parametrize(
    "without",
    [
        "import readline; readline.__doc__ = 'this is libedit'",
        "import sys; sys.modules['readline'] = None",
    ],
    ids=["libedit", "nothing"],
)
def test_lines_that_come_at_once_are_one_message_without_gnu_readline(without: str) -> None:
    with Person(WITHOUT.format(without=without), before="one\ntwo\n") as person:
        person.wait_for("got 'one\\ntwo'")
        person.wait_for("> ")
        person.type("three\n")
        person.wait_for("got 'three'")
        person.wait_for("> ")
        person.leaves()

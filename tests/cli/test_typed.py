"""What is typed, piped or given as an option: slashes, bytes that are no UTF-8, escapes."""

# ruff: noqa: E501  (a case stands on one line)

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgeq.cli.options import unescaped
from tests.cli import fakes
from tests.cli.conftest import Call, Result
from tests.cli.fakes import BOS, SONG


def heard(result: Result) -> list[str]:
    """The last message of each prompt that the model got."""
    (model,) = result.models
    text = bytes(id for id in model.fed_ids if id < 256).decode()
    return [turn.split("\nAssistant:")[0] for turn in text.split("User: ")[1:]]


# lines of a chat ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["/no_think the cat", "/think the cat", "/nothink", "/etc/hosts what is it", "/", "/ a"]
)
def test_slash_words_of_models_reach_the_model(call: Call, model: str, line: str) -> None:
    result = call("chat", model, "-q", stdin=line.encode() + b"\n")
    assert result.code == 0 and heard(result) == [line] and SONG in result.out
    assert "error" not in result.err


def test_a_lone_unknown_word_is_told_of_and_sent(call: Call, model: str) -> None:
    result = call("chat", model, stdin=b"/halp\n")
    assert heard(result) == ["/halp"] and "/halp is unknown to edgeq (see /help)" in result.err
    assert "unknown" not in call("chat", model, stdin=b"/no_think\n/think about it\n").err


@pytest.mark.parametrize(
    ("line", "message"),
    [("//help", "/help"), (" //bye", "/bye"), ("//", "/"), ("///", "//"), ("a //b", "a //b")],
)
def test_two_slashes_begin_a_message_with_one(call: Call, model: str, line: str, message: str) -> None:
    result = call("chat", model, "-q", stdin=line.encode() + b"\n")
    assert heard(result) == [message.strip()] and result.err == ""


def test_commands_are_lines_and_not_blocks(call: Call, model: str) -> None:
    result = call("chat", model, "-q", stdin=b'"""\n/bye\n"""\n"""/help"""\n"""//x"""\n')
    assert heard(result) == ["/bye", "/help", "//x"]
    for word in (b"/?", b"/help", b" /help "):
        result = call("chat", model, "-q", stdin=word)
        assert (
            re.search(r"^/help +these lines \(also /\?\)$", result.out, re.M)
            and "//  " in result.out
            and result.err == ""
        )


def test_a_line_that_is_no_utf8_is_told_of_and_the_chat_goes_on(call: Call, model: str) -> None:
    result = call("chat", model, "-q", stdin=b"hello\ncaf\xe9 bad\nmore\n\xff\n/bye\n")
    assert result.code == 0 and result.out.count(SONG) == 2
    assert [line.split(": ", 2)[2] for line in result.err.splitlines()] == [
        "the message is not UTF-8 text: byte 3 is 0xe9",
        "the message is not UTF-8 text: byte 0 is 0xff",
    ]
    assert heard(result) == ["hello", "more"]


def test_a_block_that_is_no_utf8_is_one_message(call: Call, model: str) -> None:
    result = call("chat", model, "-q", stdin=b'"""a\n\xe9\n/bye\nb"""\nmore \xc3\xa9\n')
    assert heard(result) == ["more é"] and result.err.count("byte 2 is 0xe9") == 1


def test_input_that_is_closed_is_at_its_end(call: Call, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.cli.chat import begin, talk
    from edgeq.cli.piped import read_prompt
    from edgeq.cli.session import Session
    from edgeq.errors import UsageError

    monkeypatch.setattr("sys.stdin", None)
    talk(Session(begin(fakes.Model(model))))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no prompt is given"):
        read_prompt(None, None)


# escapes in options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("the\\ncat", "the\ncat"), (r"\t\r\n", "\t\r\n"), (r"\\n", r"\n"), (r"\'\"", "'\""), (r"\\\n", "\\\n"),
        (r"\x41\xc3\xa9", "Aé"), (r"\x4", r"\x4"), (r"\xg1", r"\xg1"), (r"\q\0", r"\q\0"), ("é\\", "é\\"),
        (r"\xe9", "\udce9"), ("\udce9", "\udce9"), ("", ""),
    ],
)  # fmt: skip
def test_escapes_are_those_of_llama_cpp(given: str, text: str) -> None:
    assert unescaped(given) == text


def prompt_ids(call: Call, *arguments: str, stdin: bytes = b"") -> list[int]:
    ids: list[int] = json.loads(call("run", *arguments, "--json", "-q", "-n", "1", stdin=stdin).out)[
        "prompt_ids"
    ]
    return ids


def test_escapes_of_a_prompt(call: Call, model: str, tmp_path: Path) -> None:
    given = r"a\nb\\"
    for flags in ([], ["-e"], ["--escape"], ["--no-escape", "-e"]):
        assert prompt_ids(call, model, "-p", given, *flags) == [BOS, *b"a\nb\\"]
    assert prompt_ids(call, model, "-p", given, "--no-escape") == [BOS, *given.encode()]
    file = tmp_path / "prompt.txt"
    file.write_text(given)
    assert prompt_ids(call, model, "-f", str(file)) == [BOS, *given.encode()]
    assert prompt_ids(call, model, stdin=given.encode()) == [BOS, *given.encode()]
    result = call("run", model, "-p", r"a\xff")
    assert result.code == 2 and "the prompt is not UTF-8 text: byte 1 is 0xff" in result.err


def test_escapes_of_stop_strings_and_system_prompts(
    call: Call, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "SONG", "one\ntwo")
    monkeypatch.setattr(fakes.Model, "chat_template", fakes.TEMPLATE)
    assert json.loads(call("run", model, "-p", "x", "--stop", r"\n", "--json", "-q").out)["text"] == "one"
    assert (
        json.loads(call("run", model, "-p", "x", "--stop", r"\n", "--json", "--no-escape").out)["text"]
        == "one\ntwo"
    )
    for flags, told in (([], b"system: a\nb\n"), (["--no-escape"], rb"system: a\nb" + b"\n")):
        made = call("chat", model, "-sys", r"a\nb", "-q", *flags, stdin=b"hi").models[-1]
        assert bytes(id for id in made.fed_ids if id < 256).startswith(told)
    result = call("chat", model, "-sys", r"\xff", stdin=b"hi")
    assert result.code == 2 and "the system prompt is not UTF-8 text" in result.err

"""Where a prompt comes from: an argument, -p, -f, stdin, and stdin behind one of them."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.cli import files
from edgeq.cli import piped as source
from edgeq.cli.piped import from_stdin, joined
from edgeq.errors import UsageError
from tests.cli.conftest import Call
from tests.cli.fakes import BOS


def heard(call: Call, *arguments: str, stdin: bytes = b"") -> str:
    """The prompt that the model got."""
    result = call("run", "--json", "-q", "-n", "1", *arguments, stdin=stdin)
    assert result.code == 0, result.err
    ids = json.loads(result.out)["prompt_ids"]
    assert ids[0] == BOS
    return bytes(ids[1:]).decode()


def test_a_prompt_as_an_argument(call: Call, model: str) -> None:
    for words in (["sing a\\nsong"], ["-m"], ["-p"]):
        given = {"-m": ["-m", model, "sing a\\nsong"], "-p": [model, "-p", "sing a\\nsong"]}
        assert heard(call, *given.get(words[0], [model, *words])) == "sing a\nsong"
    assert heard(call, model, "a\\n", "--no-escape") == "a\\n"
    assert heard(call, model, "-", stdin=b"x") == "-\nx"  # a text, as -p - is
    assert heard(call, "--", model, "-n 3") == "-n 3"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["MODEL", "a", "-p", "b"], "two prompts are given, 'a' and -p 'b': give one of them, in quotes"),
        (["MODEL", "a", "-f", "FILE"], "two prompts are given, a text and -f: give one of them"),
        (["MODEL", "-p", "a", "-f", "FILE"], "two prompts are given, a text and -f: give one of them"),
        (["MODEL", "a", "-m", "MODEL"], "two models are given"),
        (["a", "-m", "MODEL", "-p", "b"], "two models are given, a and -m"),
        (["MODEL", "tell", "me"], "Got unexpected extra argument (me)"),
    ],
)
def test_two_prompts_or_models(call: Call, model: str, words: list[str], told: str) -> None:
    result = call("run", *(word.replace("MODEL", model) for word in words))
    assert result.code == 2 and told in result.err and result.err.count("\n") == 1


def test_dev_null_is_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, encoding="utf-8") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(UsageError, match="no prompt is given"):
            source.read_prompt(None, None)
        assert source.read_prompt(None, "-") == ""  # asked for by name


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("a", "b", "a\nb"), ("a:\n", "b", "a:\nb"), ("a: ", "b", "a: b"), ("a", "", "a"), ("", "b", "b"),
        ("a", "\nb", "a\n\nb"), ("", "", ""),
    ],
)  # fmt: skip
def test_a_newline_parts_the_two(first: str, second: str, text: str) -> None:
    assert joined(first, second) == text


def test_stdin_follows_the_prompt(call: Call, model: str, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Summarize:\n")
    for words in (["Summarize:"], ["-p", "Summarize:"], ["-f", str(file)], ["-p", "Summarize:", "-f", "-"]):
        assert heard(call, model, *words, stdin=b"a\\n\nb\n") == "Summarize:\na\\n\nb"
        assert heard(call, model, *words) == "Summarize:"
    result = call("run", model, "-p", "a", stdin=b"\xff")
    assert result.code == 2 and "stdin is not UTF-8 text: byte 0 is 0xff" in result.err


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end to write into of a pipe that is stdin."""
    read, write = os.pipe()
    with open(read) as stdin, open(write, "wb", buffering=0) as out:
        monkeypatch.setattr("sys.stdin", stdin)
        yield out.fileno()


def test_a_pipe_is_read_to_its_end(pipe: int) -> None:
    os.write(pipe, b"text")
    os.dup2(os.open(os.devnull, os.O_WRONLY), pipe)  # as if it were closed
    assert from_stdin() == b"text"


def test_a_pipe_that_says_nothing_is_left_alone(
    pipe: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As under ssh, or from a program that keeps it open."""
    monkeypatch.setattr(source, "WAIT_S", 0)
    assert from_stdin() == b""
    assert "nothing came on stdin in 0 s, so the prompt is what was given" in capsys.readouterr().err
    assert from_stdin(quiet=True) == b"" and capsys.readouterr().err == ""


def test_devices_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").touch()
    for path, found in ((tmp_path / "text", b"text"), (tmp_path / "empty", b""), (Path(os.devnull), b"")):
        with path.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert from_stdin() == found
    monkeypatch.setattr("sys.stdin", None)
    assert from_stdin() == b""


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    primary, secondary = os.openpty()
    with open(secondary) as stdin, open(primary):
        monkeypatch.setattr("sys.stdin", stdin)
        assert from_stdin() == b"" and from_stdin(wait=True) == b""


def test_a_stdin_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Broken()))
    assert from_stdin() == b""


def test_a_system_that_cannot_tell_of_a_pipe_reads_it(pipe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def select(*_: object) -> None:
        raise OSError(10038, "An operation was attempted on something that is not a socket")

    monkeypatch.setattr(source.select, "select", select)
    os.write(pipe, b"text")
    os.dup2(os.open(os.devnull, os.O_WRONLY), pipe)
    assert from_stdin() == b"text"


def test_stdin_without_an_end(call: Call, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BYTES_MAX", 1000)
    for words in ([], ["-p", "a"]):
        result = call("run", model, *words, stdin=b"x" * 1001)
        assert result.code == 2 and "stdin has more than 1 kB: give a part of it" in result.err


def test_no_more_room_is_taken_than_a_file_needs(tmp_path: Path) -> None:
    """As many bytes as a text may have are not to be had on a board of 512 MB."""
    (tmp_path / "text").write_bytes(b"ab" * files.PIECE_BYTES)
    tracemalloc.start()
    try:
        assert files.read_bytes(str(tmp_path / "text")) == b"ab" * files.PIECE_BYTES
        assert tracemalloc.get_traced_memory()[1] < 10 * files.PIECE_BYTES
    finally:
        tracemalloc.stop()

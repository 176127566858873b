"""How answers look on a terminal, and that a pipe gets them as they are."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import redirect_stderr, redirect_stdout

import pytest

from edgeq.cli import terminal, working
from edgeq.cli.answer import THOUGHTS, Look, print_answer
from edgeq.cli.working import Working
from tests.cli.screen import Screen, seen
from tests.patience import until

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of 11 columns, of which lines may use 10."""
    monkeypatch.setenv("COLUMNS", "11")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def show(out: io.StringIO, text: str, look: Look, **options: str) -> None:
    """Print an answer, a letter a token, with stdout being `out`."""
    with redirect_stdout(out):
        print_answer((letter for letter in text), look, Working(quiet=True), **options)


THOUGHT = "\n<think>\nIt is so.\n</think>\n\nYes, that is so."


def test_a_pipe_gets_everything_as_it_is() -> None:
    for thoughts in THOUGHTS:
        pipe = io.StringIO()
        show(pipe, THOUGHT, Look(thoughts=thoughts))
        assert pipe.getvalue() == f"{THOUGHT.lstrip()}\n"


def test_thoughts_are_one_line(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    show(screen, THOUGHT, Look())
    assert seen(screen.take()) == "Yes, that\nis so.\n"
    assert capsys.readouterr().err == "(thought for 19 tokens; /set thoughts show)\n"


def test_thoughts_are_dimmed(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    show(screen, THOUGHT, Look(thoughts="show"))
    out = screen.take()
    thought, answer = out.split("\n\n")
    assert thought.replace(f"{PLAIN}{DIM}", "") == f"{DIM}It is so.\n{PLAIN}"
    assert seen(answer) == "Yes, that\nis so.\n" and capsys.readouterr().err == ""


def test_thoughts_are_hidden(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    show(screen, THOUGHT, Look(wordwrap=False, thoughts="hide"))
    assert seen(screen.take()) == "Yes, that is so.\n" and capsys.readouterr().err == ""


def test_thoughts_that_the_prompt_began(screen: Screen) -> None:
    show(screen, "hm</think>Yes", Look(thoughts="hide"), ends="</think>")
    assert seen(screen.take()) == "Yes\n"


def test_thoughts_without_an_answer(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    show(screen, "<think>It is", Look())
    assert screen.take() == "\n" and capsys.readouterr().err.startswith("(thought for 5 tokens")
    show(screen, "<think>It is", Look(thoughts="show"))
    assert screen.take().replace(f"{PLAIN}{DIM}", "") == f"{DIM}It is{PLAIN}\n"


def test_no_dimming_where_nobody_wants_it(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            show(screen, "<think>a</think>b", Look(thoughts="show"))
        assert screen.take() == "a\n\nb\n"


def test_control_characters_are_left_out_on_the_way(screen: Screen) -> None:
    show(screen, "a\x1b[2Jb\u202e cccc dddd", Look())
    assert seen(screen.take()) == "a[2Jb cccc\ndddd\n"


def test_ctrl_c_ends_an_answer_and_prints_what_was_held_back(screen: Screen) -> None:
    closed = []

    def pieces() -> Generator[str, None, None]:
        try:
            yield "Half a wo"
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    with redirect_stdout(screen):
        print_answer(pieces(), Look(), Working(quiet=True))
    assert screen.take() == "Half a wo\n" and closed


def test_a_silent_model_is_seen_to_work(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Screen()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(working, "PATIENCE_S", 0)
    monkeypatch.setattr(working, "TICK_S", 0.001)

    def pieces() -> Generator[str, None, None]:
        until(lambda: "waiting for the model... 0 s" in beside.getvalue(), "that the line appears")
        at_work.reads(3, 9)
        until(lambda: "reading: 3 of 9 tokens... 0 s" in beside.getvalue(), "that it tells the progress")
        yield "<think>"
        yield "a"
        until(lambda: "thinking: 1 tokens... 0 s" in beside.getvalue(), "that it counts")
        yield "</think>b"
        assert beside.take().endswith("\r\x1b[K\x1b[2m(thought for 2 tokens; /set thoughts show)\x1b[0m\n")

    with redirect_stdout(screen), redirect_stderr(beside):
        at_work = Working()
        print_answer(pieces(), Look(), at_work)
    assert screen.take() == "b\n" and beside.take() == ""


def test_no_line_moves_where_nobody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Working() as at_work:
        assert at_work._thread is None
        at_work.reads(1, 2)
    assert capsys.readouterr().err == ""


def test_notes_are_dimmed(screen: Screen) -> None:
    with redirect_stderr(screen):
        terminal.note("a\n\x1bb", dim=True)
    assert screen.take() == f"{DIM}a b{PLAIN}\n"

"""Word wrap: words stay whole, code stays as it is, and how the text was cut into pieces changes nothing."""

from __future__ import annotations

import itertools

import pytest

from edgeq.cli.prose import Wrap, advance, columns
from tests.cli.screen import seen


def wrapped(pieces: list[str], width: int) -> str:
    wrap = Wrap(lambda: width)
    return seen("".join(map(wrap.push, pieces)) + wrap.flush())


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


PROSE = "The quick brown fox, who was  tired, slept.\n\nThen it woke up and ran away from a lazy dog.\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("width", [5, 10, 17, 80])
def test_no_line_is_too_wide_and_no_word_is_cut(width: int, size: int) -> None:
    lines = wrapped(cut(PROSE, size), width).split("\n")
    words = [word for line in lines for word in line.split()]
    assert words == PROSE.split()
    assert all(len(line) <= width or " " not in line.strip() for line in lines)
    assert lines == wrapped([PROSE], width).split("\n")


def test_a_wide_terminal_changes_nothing() -> None:
    assert wrapped(cut(PROSE, 3), 80) == PROSE


def test_lines_are_as_full_as_they_can_be() -> None:
    assert wrapped(["aa bb cc dd"], 5) == "aa bb\ncc dd"
    assert wrapped(["aa bb cc dd"], 6) == "aa bb\ncc dd"
    assert wrapped(["aa bb cc dd"], 8) == "aa bb cc\ndd"


def test_a_word_longer_than_the_line_is_the_terminals_to_break() -> None:
    assert wrapped(["a bbbbbbbbbb c"], 4) == "a\nbbbbbbbbbb\nc"  # it fills two lines of five
    assert wrapped(["a bbbbbbbbbbbb c"], 4) == "a\nbbbbbbbbbbbb c"


CODE = "Say it:\n```python\nprint('a long line of code that stays')\n\n    x\n```\nlike this one line\n"


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_code_is_left_as_it_is(size: int) -> None:
    assert wrapped(cut(CODE, size), 12) == CODE.replace("like this one line", "like this\none line")
    for kept in ("    indented by four spaces", "\tindented by a tab", "| a row | of a table | in it"):
        text = f"{kept}\nnot this line here"
        assert wrapped(cut(text, size), 12) == f"{kept}\nnot this\nline here"


def test_letters_are_shown_as_they_come() -> None:
    wrap = Wrap(lambda: 8)
    assert [wrap.push(piece) for piece in ("wo", "rd", " ", "ne", "w\n")] == ["wo", "rd", "", " ne", "w\n"]
    assert wrap.push("word ne") == "word ne"
    assert wrap.push("xt") == "\b\b  \b\b\nnext"
    assert wrap.push(" abcd") == "\nabcd"  # nothing of it was printed


def test_wide_characters_take_two_columns_and_break_anywhere() -> None:
    assert wrapped(["你好世界你好"], 4) == "你好\n世界\n你好"
    assert wrapped(["a你好 b"], 5) == "a你好\nb"
    assert [columns(letter) for letter in "aé你！あ\u0301\u200dｱ🙂"] == [1, 1, 2, 2, 2, 0, 0, 1, 2]


def test_tabs_reach_the_next_stop() -> None:
    assert [advance(column, "\t") for column in (0, 7, 8)] == [8, 8, 16]


def test_the_width_may_change_while_it_goes() -> None:
    widths = itertools.chain([80] * 2, itertools.repeat(5))
    wrap = Wrap(lambda: next(widths))
    assert seen(wrap.push("aa bb ") + wrap.push("cc dd ee ")) == "aa bb\ncc dd\nee"

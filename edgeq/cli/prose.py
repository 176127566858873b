"""Word wrap of a text that comes in pieces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

FENCE = "```"
TAB = 8
_WORDS = re.compile(r"\n|[^\S\n]+|[^\s]+")


class Wrap:
    """Breaks lines between words so that none is wider than `width()` columns, which is asked at each word.

    A word is held back until it is whole. One that is wider than a line stays whole too, for the terminal to
    break; wide characters, as those of Chinese, are words of their own. What stands between lines of ```,
    lines indented by a tab or four spaces and rows of tables (|) are left as they are.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._column = 0
        self._space = self._word = ""  # held back: what stands before a word, and the word as far as it came
        self._line = ""  # how the line begins: enough to know a fence, an indentation or a table
        self._fenced = False

    def push(self, piece: str) -> str:
        """What is to be printed now."""
        return "".join(map(self._token, _WORDS.findall(piece)))

    def flush(self) -> str:
        """What was held back, when no more will come."""
        out = self._end_word()
        out, self._space = out + self._space, ""
        return out

    def _token(self, token: str) -> str:
        """The output for a newline, a run of other spaces, or (a part of) a word."""
        if len(self._line) < TAB:
            self._line += token
        if token == "\n":
            return self._end_line()
        if self._as_it_is():
            out = self.flush() + token
            self._column = advance(self._column, token)
            return out
        if token.isspace():
            out = self._end_word()
            self._space += token
            return out
        return "".join(map(self._letter, token))

    def _letter(self, letter: str) -> str:
        if columns(letter) < 2:
            self._word += letter
            return ""
        out = self._end_word()
        self._word = letter
        return out + self._end_word()

    def _as_it_is(self) -> bool:
        """Whether the line that is being printed is code or a row of a table."""
        begins = self._line
        return self._fenced or begins.startswith(("    ", "\t", "|")) or begins.lstrip().startswith(FENCE)

    def _end_word(self) -> str:
        if not self._word:
            return ""
        space, word = self._space, self._word
        self._space = self._word = ""
        after = advance(advance(self._column, space), word)
        if self._column and after > self._width():
            space, after = "\n", advance(0, word)
        self._column = after % max(self._width(), 1) if after > self._width() else after
        return space + word

    def _end_line(self) -> str:
        out = self.flush() + "\n"
        if self._line.lstrip().startswith(FENCE):
            self._fenced = not self._fenced
        self._column, self._line = 0, ""
        return out


def advance(column: int, text: str) -> int:
    """The column behind a text that begins in `column`."""
    for letter in text:
        column = (column // TAB + 1) * TAB if letter == "\t" else column + columns(letter)
    return column


def columns(letter: str) -> int:
    """The columns that a terminal gives a character: 2 for wide ones, 0 for what it puts on others."""
    if letter.isascii():
        return 1
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1

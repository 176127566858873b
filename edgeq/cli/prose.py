"""Word wrap of a text that comes in pieces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

FENCE = "```"
TAB = 8
_TOKENS = re.compile(r"\n|[^\S\n]+|\S+")


class Wrap:
    """Breaks lines between words so that none is wider than `width()` columns, which is asked at each word.

    What it is given appears at once: a word that turns out to be too long for its line is taken back with
    backspaces and written again on the next. One that is wider than a line is left to the terminal to break;
    wide characters, as those of Chinese, are words of their own. What stands between lines of ```, lines
    indented by a tab or four spaces, and rows of tables (|) are left as they are.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._column = 0
        self._space = ""  # before the next word: held back, since a break takes its place
        self._word = ""  # as far as it is printed
        self._begins = 0  # the column behind the word before it
        self._line = ""  # how the line begins: enough to know a fence, an indentation or a table
        self._fenced = False

    def push(self, piece: str) -> str:
        """What is to be printed now."""
        return "".join(map(self._token, _TOKENS.findall(piece)))

    def flush(self) -> str:
        """What was held back, when no more will come."""
        space, self._space, self._word = self._space, "", ""
        self._column = advance(self._column, space)
        return space

    def _token(self, token: str) -> str:
        """The output for a newline, a run of other spaces, or a part of a word."""
        if len(self._line) < TAB:
            self._line += token
        if token == "\n":
            return self._end_line()
        if self._as_it_is():
            self._space += token
            return self.flush()
        if token.isspace():
            self._space += token
            self._word = ""
            return ""
        return "".join(map(self._part, parts(token)))

    def _part(self, part: str) -> str:
        """The output for letters without a place to break between them."""
        is_wide = columns(part[0]) == 2
        if is_wide:
            self._word = ""
        if not self._word:
            self._begins = self._column
        word = self._word + part
        if self._begins and advance(advance(self._column, self._space), part) > self._width():
            out = take_back(self._word) + "\n" + word
            self._column, self._begins = advance(0, word), 0
        else:
            out = self._space + part
            self._column = advance(self._column, out)
        self._column = behind_breaks(self._column, self._width() + 1)
        self._space, self._word = "", "" if is_wide else word
        return out

    def _as_it_is(self) -> bool:
        """Whether the line that is being printed is code or a row of a table."""
        begins = self._line
        return self._fenced or begins.startswith(("    ", "\t", "|")) or begins.lstrip().startswith(FENCE)

    def _end_line(self) -> str:
        out = self.flush() + "\n"
        if self._line.lstrip().startswith(FENCE):
            self._fenced = not self._fenced
        self._column, self._line = 0, ""
        return out


def behind_breaks(column: int, terminal: int) -> int:
    """The column of a cursor, once a terminal of so many columns has broken what is wider."""
    return column if column <= terminal else (column - 1) % terminal + 1


def take_back(word: str) -> str:
    """What removes a word that was just printed from its line."""
    size = advance(0, word)
    return "\b" * size + " " * size + "\b" * size


def parts(token: str) -> Iterator[str]:
    """A word, cut before and behind each wide character."""
    narrow = ""
    for letter in token:
        if columns(letter) < 2:
            narrow += letter
            continue
        if narrow:
            yield narrow
        yield letter
        narrow = ""
    if narrow:
        yield narrow


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

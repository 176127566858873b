"""Marks: how the text of a template is told from the text of messages after rendering.

Text that stands in the template itself comes out with each character c as MARK_OPEN c MARK_CLOSE. Both
marks are lone surrogates, which no valid text holds, so nothing that comes from a message can hold one.
Whitespace is not marked, so trimming works as always. `Literal` is the value of a string constant: it
compares, splits and is looked up as its plain text, and is marked when it is printed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

MARK_OPEN, MARK_CLOSE = "\ud800", "\udfff"

_MARKED = re.compile(f"(?:{MARK_OPEN}[^{MARK_OPEN}{MARK_CLOSE}]{MARK_CLOSE})+")
_MARKS = str.maketrans("", "", MARK_OPEN + MARK_CLOSE)


class Literal(str):
    """A text of the template's own, or one as good: its print is marked."""

    __slots__ = ()

    def __str__(self) -> str:
        return mark(str.__str__(self))


@lru_cache(maxsize=4096)
def mark(text: str) -> str:
    return re.sub(r"\S", lambda match: f"{MARK_OPEN}{match[0]}{MARK_CLOSE}", text)


def mark_around(text: str, field: re.Pattern[str]) -> str:
    """Marks a format string but for its fields."""
    out, end = [], 0
    for match in field.finditer(text):
        out += [mark(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*out, mark(text[end:])])


def plain(value: Any) -> str:
    """A value as text; its own characters when it is a Literal and nothing is marked."""
    return value if type(value) is str else str(value)


def read_marks(marked: str) -> tuple[str, bytearray]:
    """(the text without marks, for each of its characters 1 if it was marked)."""
    pieces: list[str] = []
    mask = bytearray()
    end = 0
    for match in _MARKED.finditer(marked):
        between = marked[end : match.start()].translate(_MARKS)
        inside = match[0].translate(_MARKS)
        pieces += [between, inside]
        mask += bytes(len(between)) + b"\1" * len(inside)
        end = match.end()
    rest = marked[end:].translate(_MARKS)
    return "".join([*pieces, rest]), mask + bytes(len(rest))

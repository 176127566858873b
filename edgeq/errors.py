"""The errors that edgeq raises on purpose: each message is one sentence that says what, where and what would
be right; and how it quotes what a stranger wrote.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SHOWN_CHARS_MAX = 40
TOLD_MAX = 8  # of the things that stand in one's way


class EdgeqError(Exception):
    """Base of every error that edgeq raises on purpose."""


class FormatError(EdgeqError):
    """A model file breaks its specification."""


class UnsupportedError(EdgeqError):
    """A model asks for something this version cannot honour."""


class NetworkError(EdgeqError):
    """The network, or who was asked over it, did not give what was wanted."""


class CancelledError(EdgeqError):
    """A call was broken off because somebody asked for that."""


class OutOfMemoryError(EdgeqError, MemoryError):
    """The system has less memory, or fewer of something else, than is needed."""


class UsageError(EdgeqError):
    """A caller passed a value outside what the call accepts."""


class SchemaError(UsageError):
    """A JSON schema asks for what no answer can be held to. `pointer` is the place in it (RFC 6901),
    `keyword` the word there that is meant, where it is one."""

    def __init__(self, message: str, pointer: str = "", keyword: str | None = None) -> None:
        super().__init__(message)
        self.pointer, self.keyword = pointer, keyword


class GrammarError(EdgeqError):
    """An answer could not be held to its grammar to the end."""


def shown(value: object) -> str:
    """A value in a message: a short line, whatever it is and however long it is."""
    try:
        if isinstance(value, str):
            text = repr(value[:SHOWN_CHARS_MAX])
        else:
            text = repr(value) if isinstance(value, float) else reprlib.repr(value)
    except Exception:  # an integer of thousands of digits, a repr that raises
        text = f"a {type(value).__name__}"
    return printable(" ".join(text.split()))[:SHOWN_CHARS_MAX]


def printable(text: str) -> str:
    """Text, such as a path, as any UTF-8 terminal can show it on a line: what is not printable is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(count: int) -> str:
    """A number of bytes for people: '23.4 MB' (decimal units)."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def quote(value: object) -> str:
    """A hostile value for an error message: at most 40 characters, only ASCII, nothing a terminal obeys."""
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def near(word: object, known: Iterable[str]) -> str:
    """What a stranger may have meant by a word that is none of the known: "; did you mean 'q4'?", or ""."""
    import difflib

    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(word)[:SHOWN_CHARS_MAX].lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {names[found[0]]!r}?" if found else ""


class Troubles:
    """All that stands in the way of one thing, so that it is told at once.

    Errors of `with troubles.noted():` are kept; `tell` raises them as one, of the kind of the first.
    """

    def __init__(self) -> None:
        self.errors: list[EdgeqError] = []

    def __bool__(self) -> bool:
        return bool(self.errors)

    def add(self, error: EdgeqError) -> None:
        """Keep an error that was not raised."""
        self.errors.append(error)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep the error of edgeq's own that ends the block, and go on after it."""
        try:
            yield
        except EdgeqError as error:
            self.add(error)

    def tell(self) -> None:
        """Raise one error with every message, the first TOLD_MAX of them; nothing where there are none."""
        if not self.errors:
            return
        messages = list(dict.fromkeys(str(error) for error in self.errors))
        where = messages[0].partition(": ")[0] + ": "  # said once, where others begin with it, too
        told = [messages[0], *(message.removeprefix(where) for message in messages[1:TOLD_MAX])]
        more = len(messages) - len(told)
        raise type(self.errors[0])("; ".join(told) + (f"; and {more} more" if more else "")) from None

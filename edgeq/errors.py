"""The errors that edgeq raises on purpose: each message is one sentence that says what, where and what would
be right; and how it quotes what a stranger wrote.
"""

from __future__ import annotations

import reprlib

SHOWN_CHARS_MAX = 40


class EdgeqError(Exception):
    """Base of every error that edgeq raises on purpose."""


class FormatError(EdgeqError):
    """A model file breaks its specification."""


class UnsupportedError(EdgeqError):
    """A model asks for something this version cannot honour."""


class NetworkError(EdgeqError):
    """The network, or who was asked over it, did not give what was wanted."""


class OutOfMemoryError(EdgeqError, MemoryError):
    """The system has less memory, or fewer of something else, than is needed."""


class UsageError(EdgeqError):
    """A caller passed a value outside what the call accepts."""


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

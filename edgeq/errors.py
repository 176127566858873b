"""The errors that edgeq raises on purpose: each message is one sentence that says what, where and what would
be right; and how it quotes what a stranger wrote.
"""

from __future__ import annotations


class EdgeqError(Exception):
    """Base of every error that edgeq raises on purpose."""


class FormatError(EdgeqError):
    """A model file breaks its specification."""


class UnsupportedError(EdgeqError):
    """A model asks for something this version cannot honour."""


class OutOfMemoryError(EdgeqError, MemoryError):
    """The system has less memory, or fewer of something else, than is needed."""


class UsageError(EdgeqError):
    """A caller passed a value outside what the call accepts."""


def quote(value: object) -> str:
    """A hostile value for an error message: at most 40 characters, only ASCII, nothing a terminal obeys."""
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."

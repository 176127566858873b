"""Which characters of a text the template wrote itself, followed through everything a template does with it.

Texts of messages are plain `str`: none of their characters is the template's. Texts that stand in the
template, and the few values that are as good (the name of the bos token, a known role), are `Text`: a str
that holds, for each of its characters, whether the template wrote it. An operation on a `Text` carries that
along (joining, cutting, repeating, formatting, changing case). Whatever is not listed here is the operation
of `str` and gives a plain str, so what is not followed is not trusted; an operation whose result would have
the characters of one text and the provenance of another must not exist.

Characters are followed, decisions are not: which of its own texts a template writes, and how often, may
depend on a message. What `replace` puts in the place of a message's characters counts as the message's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

# What a % or str.format string replaces; a width in it is an amount of memory.
PERCENT_FIELD = re.compile(r"%(?:\([^()]*\))?[-#0 +]*[0-9]{0,3}(?:\.[0-9]{1,3})?[a-zA-Z%]")
BRACE_FIELD = re.compile(r"\{\{|\}\}|\{[^{}]*\}")

# Filters, methods and operators whose result may be plain text although the template wrote their value.
FORGETFUL = frozenset(
    ["%", "center", "e", "escape", "format", "ljust", "rjust", "safe", "title", "tojson", "zfill"]
)


class Text(str):
    """A text with `own`: a byte for each character, 1 where the template wrote it, 0 where it did not.

    It is equal to, hashes and measures like the plain text. Made from a text alone, nothing in it is the
    template's.
    """

    __slots__ = ("own",)
    own: bytes

    def __new__(cls, text: str, own: bytes | None = None) -> Text:
        made = super().__new__(cls, text)
        made.own = bytes(len(text)) if own is None else own
        if len(made.own) != len(made):
            raise ValueError("a text and its provenance differ in length")
        return made

    def __str__(self) -> str:
        return self

    # cutting ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        own = self.own[key] if isinstance(key, slice) else bytes([self.own[key]])
        return traced(str.__getitem__(self, key), own)

    def lstrip(self, chars: str | None = None, /) -> str:
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:
        return self[: len(str.rstrip(self, chars))]

    def strip(self, chars: str | None = None, /) -> str:
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> str:
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        return self[: len(self) - len(suffix)] if self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._found(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._found(str.rsplit(self, sep, maxsplit), sep)

    def _found(self, pieces: list[str], separator: str | None) -> list[str]:
        """The pieces of a split with their provenance: each begins where the one before ends, after the
        separator or (None) after whitespace, with which no piece but the first begins."""
        found, at = [], 0
        for piece in pieces:
            at = str.index(self, piece, at)
            found.append(self[at : at + len(piece)])
            at += len(piece) + len(separator or "")
        return found

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines, at = [], 0
        for whole, line in zip(str.splitlines(self, True), str.splitlines(self, keepends), strict=True):
            lines.append(self[at : at + len(line)])
            at += len(whole)
        return lines

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        head, middle, _ = str.partition(self, sep)
        return self._three(len(head), len(middle))

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        head, middle, _ = str.rpartition(self, sep)
        return self._three(len(head), len(middle))

    def _three(self, head: int, middle: int) -> tuple[str, str, str]:
        return self[:head], self[head : head + middle], self[head + middle :]

    # putting together ------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, str) or hasattr(other, "__html__"):  # escaping is Markup's own affair
            return NotImplemented
        return joined("", (self, other))

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, str) or hasattr(other, "__html__"):
            return NotImplemented
        return joined("", (other, self))

    def __mul__(self, count: SupportsIndex, /) -> str:
        return traced(str.__mul__(self, count), self.own * count)

    __rmul__ = __mul__

    def join(self, parts: Iterable[str], /) -> str:
        return joined(self, parts)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        """What stands for characters that are not all the template's is not the template's either."""
        text, left = str.replace(self, old, new, count), int(count)
        if not old:
            return text
        own, inserted, blank = [], own_of(new), bytes(len(new))
        at = 0
        while left and (start := str.find(self, old, at)) >= 0:
            end = start + len(old)
            own += [self.own[at:start], inserted if 0 not in self.own[start:end] else blank]
            at, left = end, left - 1
        return traced(text, b"".join([*own, self.own[at:]]))

    def __mod__(self, values: Any) -> str:
        text = str.__mod__(self, values)
        return text if 0 in self.own else agreeing(text, self._filled(values))

    def _filled(self, values: Any) -> Iterator[str]:
        """The pieces of self % values, for a self that is the template's."""
        waiting = iter(values if isinstance(values, tuple) else (values,))
        end = 0
        for match in PERCENT_FIELD.finditer(self):
            yield self[end : match.start()]
            field, end = match[0], match.end()
            if field[-1] == "%":
                yield written("%")
                continue
            name = re.match(r"%\((.*)\)", field)
            value = values[name[1]] if name else next(waiting, None)
            plain = isinstance(value, str) and re.fullmatch(r"%(\(.*\))?s", field)
            yield str(value) if plain else str.__mod__(field, values if name else (value,))
        yield self[end:]

    # case ------------------------------------------------------------------------------------------------

    def lower(self) -> str:
        return self._cased(str.lower)

    def upper(self) -> str:
        return self._cased(str.upper)

    def casefold(self) -> str:
        return self._cased(str.casefold)

    def capitalize(self) -> str:
        return self._cased(str.capitalize)

    def swapcase(self) -> str:
        return self._cased(str.swapcase)

    def title(self) -> str:
        return self._cased(str.title)

    def _cased(self, change: Callable[[str], str]) -> str:
        """No character becomes less than one, so that a text as long as before has each in its place."""
        text = change(self)
        if 0 not in self.own:
            return written(text)
        return traced(text, self.own) if len(text) == len(self) else text


def written(text: str) -> Text:
    """A text that the template wrote, or one as good."""
    return Text(text, b"\1" * len(text))


def traced(text: str, own: bytes) -> str:
    """A text with its provenance; a plain str where none of it is the template's."""
    return Text(text, own) if 1 in own else text


def foreign(value: Any) -> Any:
    """A value without the provenance of a text that the template wrote."""
    return str.__str__(value) if isinstance(value, Text) else value


def own_of(text: str) -> bytes:
    """For each character of a text 1 if the template wrote it, else 0."""
    return text.own if isinstance(text, Text) else bytes(len(text))


def joined(separator: str, parts: Iterable[str]) -> str:
    """separator.join(parts)"""
    parts = list(parts)
    text = str.join(separator, parts)
    if not any(isinstance(part, Text) for part in (separator, *parts)):
        return text
    return traced(text, own_of(separator).join(map(own_of, parts)))


def agreeing(text: str, pieces: Iterable[str]) -> str:
    """A text with the provenance of the pieces that it should consist of; without, where it does not."""
    together = joined("", pieces)
    return together if together == text else text

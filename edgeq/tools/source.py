"""What a parser reads: the text of an answer as it comes, and the deltas that were made of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeq.errors import GrammarError
from edgeq.generate import StopStrings

Steps = Iterator[None]  # of a parser: each is a wish for more text


class Cut(Exception):
    """An answer ended within a call."""


@dataclass(frozen=True)
class Delta:
    """What came next of an answer: a piece of text in one of the fields, or the beginning of a call.

    A call begins with `id` and `name`; pieces of its arguments, JSON when they are put together, have its
    `index` alone."""

    content: str = ""
    reasoning: str = ""
    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: str = ""


def call_id() -> str:
    """An id of a call, as OpenAI's look."""
    return f"call_{secrets.token_hex(12)}"


class Source:
    """Text to read, with waiting for more of it written as `yield from`.

    `out` collects the deltas; `inside` says whether a call is under way; `over` that no more text will
    come."""

    def __init__(self, new_id: Callable[[], str] = call_id, stops: StopStrings | None = None) -> None:
        self._stops = stops if stops is not None else StopStrings(())  # in the content
        self.buffer, self.over, self.inside = "", False, False
        self.out: list[Delta] = []
        self.calls = 0
        self._new_id = new_id
        self._space = ""  # of the content, that may turn out to stand before a call

    # what is told ---------------------------------------------------------------------------------------

    def content(self, text: str) -> None:
        """Text of the answer. White space waits for what follows, and is dropped before a call."""
        self._content(self._stops.push(text))

    def _content(self, text: str) -> None:
        text = self._space + text
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if kept:
            self.out.append(Delta(content=kept))

    def end(self) -> None:
        """No more will come: white space that waited is content."""
        self._content(self._stops.flush())
        if self._space and not self.calls:
            self.out.append(Delta(content=self._space))
        self._space = ""

    def plain(self, text: str) -> None:
        """Text of the answer, white space and all."""
        if text := self._stops.push(text):
            self.out.append(Delta(content=text))

    def reasoning(self, text: str) -> None:
        if text:
            self.out.append(Delta(reasoning=text))

    def call(self, name: str) -> None:
        """A call begins."""
        if not self.calls:
            self._content(self._stops.flush())
        self._space = ""
        self.out.append(Delta(index=self.calls, id=self._new_id(), name=name))
        self.calls += 1

    def arguments(self, text: str) -> None:
        """A piece of the arguments of the last call."""
        if text:
            self.out.append(Delta(index=self.calls - 1, arguments=text))

    # what is read ---------------------------------------------------------------------------------------

    def more(self) -> Steps:
        """Wait for more text. Cut where none will come."""
        if self.over:
            raise Cut
        yield

    def peek(self, size: int = 1) -> Iterator[None]:
        """Have so many characters, or all that are left."""
        while len(self.buffer) < size and not self.over:
            yield

    def take(self, size: int) -> str:
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def literal(self, text: str) -> Steps:
        """Read just this text."""
        while len(self.buffer) < len(text) and text.startswith(self.buffer):
            yield from self.more()
        if not self.buffer.startswith(text):
            raise GrammarError(f"an answer has {self.buffer[: len(text)]!r} where {text!r} should be")
        self.take(len(text))

    def optional(self, text: str) -> Iterator[None]:
        """Read this text if it is what follows."""
        while len(self.buffer) < len(text) and text.startswith(self.buffer) and not self.over:
            yield
        if self.buffer.startswith(text):
            self.take(len(text))

    def space(self) -> Iterator[None]:
        """Skip white space."""
        while True:
            self.buffer = self.buffer.lstrip()
            if self.buffer or self.over:
                return
            yield

    def until(self, *marks: str, give: Callable[[str], None] | None = None, whole: bool = True) -> Steps:
        """Read up to the first of the marks, which stays; give(piece) gets the text as it becomes certain.
        whole: Cut where the text ends before; else all of it is given."""
        while True:
            found = [at for mark in marks if (at := self.buffer.find(mark)) >= 0]
            sure = (
                min(found) if found else len(self.buffer) - max(_overlap(self.buffer, mark) for mark in marks)
            )
            if self.over and not found and not whole:
                sure = len(self.buffer)
            piece = self.take(sure)
            if piece and give is not None:
                give(piece)
            if found or (self.over and not whole):
                return
            yield from self.more()

    def rest(self, give: Callable[[str], None]) -> Iterator[None]:
        """Give all that comes."""
        while True:
            if self.buffer:
                give(self.take(len(self.buffer)))
            if self.over:
                return
            yield

    def json_value(self, give: Callable[[str], None]) -> Steps:
        """Read one JSON value, given in pieces as it comes."""
        depth, quoted, escaped, begun = 0, False, False, False
        while True:
            for at, char in enumerate(self.buffer):
                if quoted:
                    if escaped:
                        escaped = False
                    elif char == "\\":
                        escaped = True
                    elif char == '"':
                        quoted = False
                        if not depth:
                            give(self.take(at + 1))
                            return
                elif char == '"':
                    quoted = begun = True
                elif char in "{[":
                    depth, begun = depth + 1, True
                elif char in "}]" and depth:
                    depth -= 1
                    if not depth:
                        give(self.take(at + 1))
                        return
                elif not depth and begun and (char in ",}]" or char.isspace() or char >= "\ud800"):
                    give(self.take(at))  # a number or a word ends before what cannot be of it
                    return
                else:
                    begun = begun or not char.isspace()
            if self.buffer:
                give(self.take(len(self.buffer)))
            if self.over and begun and not depth and not quoted:
                return
            yield from self.more()


class Joined:
    """Pieces of text put together; called with a piece."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, piece: str) -> None:
        self.text += piece


def spelled(text: str) -> str:
    """A text as it stands within the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _overlap(text: str, mark: str) -> int:
    """The length of the longest beginning of a mark, short of all of it, that the text ends with."""
    return next(
        (size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0
    )

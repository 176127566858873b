"""How an answer appears: on a terminal wrapped, its thoughts folded; in a pipe every character as it is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from edgeq.cli import terminal
from edgeq.cli.prose import Wrap
from edgeq.cli.working import Working

THOUGHTS = ("fold", "show", "hide")


@dataclass
class Look:
    """How a person wants answers: broken between words, and what becomes of thoughts."""

    wordwrap: bool = True
    thoughts: str = "fold"  # one of THOUGHTS


class Pieces(Protocol):
    """An answer as it comes."""

    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    def close(self) -> object: ...


def print_answer(pieces: Pieces, look: Look, working: Working, *, ends: str | None = None) -> None:
    """Print an answer as it comes; Ctrl-C stops it and is done with.

    ends: the tag that ends the thoughts which the prompt has begun.
    """
    page: Plain | Page = Page(look, working, ends) if sys.stdout.isatty() else Plain(working)
    with contextlib.closing(pieces), working, contextlib.suppress(KeyboardInterrupt):
        for piece in pieces:
            page.piece(piece)
    page.end()


class Plain:
    """Pieces as they are, but for whitespace before the first word."""

    def __init__(self, working: Working) -> None:
        self._working = working
        self._begun = False

    def piece(self, text: str) -> None:
        if not self._begun:
            text = text.lstrip()
        if text:
            self._working.hide()
            self._begun = True
            terminal.write(text)

    def end(self) -> None:
        terminal.write("\n")


class Page:
    """An answer on a terminal."""

    def __init__(self, look: Look, working: Working, ends: str | None) -> None:
        from edgeq.chat.thoughts import Thoughts

        self._look, self._working = look, working
        self._thoughts = Thoughts(ends)
        self._tokens = 0  # of thoughts
        self._block: Block | None = None

    def piece(self, text: str) -> None:
        """A piece of the text: what one token added to it."""
        if self._thoughts.thinking:
            self._tokens += 1
            if self._look.thoughts != "show":
                self._working.says(f"thinking: {self._tokens} tokens")
        for part in self._thoughts.push(text):
            self._print(part.text, part.is_thought)

    def end(self) -> None:
        for part in self._thoughts.flush():
            self._print(part.text, part.is_thought)
        if self._block is None or self._block.is_thought:
            self._fold()
        if self._block is not None:
            self._block.end()
        terminal.write("\n")

    def _print(self, text: str, is_thought: bool) -> None:
        if self._block is None or self._block.is_thought != is_thought:
            if not text.strip():  # between the two, and before the first
                return
            self._turn(is_thought)
        if self._block is not None:
            self._block.write(text)

    def _turn(self, is_thought: bool) -> None:
        """From thoughts to the answer, or to the first of them."""
        if is_thought and self._look.thoughts != "show":
            return
        self._working.hide()
        if self._block is not None:
            self._block.end()
            terminal.write("\n\n")
        if not is_thought:
            self._fold()
        self._block = Block(is_thought, self._look.wordwrap)

    def _fold(self) -> None:
        if self._tokens and self._look.thoughts == "fold":
            terminal.note(f"(thought for {self._tokens} tokens; /set thoughts show)", dim=True)


class Block:
    """A run of thoughts or of the answer: from its first word, wrapped; thoughts dimmed."""

    def __init__(self, is_thought: bool, wordwrap: bool) -> None:
        self.is_thought = is_thought
        self._wrap = Wrap(terminal.width) if wordwrap else None
        self._begun = False

    def write(self, text: str) -> None:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        text = terminal.clean(text)
        self._out(self._wrap.push(text) if self._wrap is not None else text)

    def end(self) -> None:
        self._out(self._wrap.flush() if self._wrap is not None else "")

    def _out(self, text: str) -> None:
        terminal.draw(text, dim=self.is_thought)

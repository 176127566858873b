"""What a person says to the chat: lines, blocks between two \"\"\", pastes; with their history on a terminal.

Python's own readline does it, which every Raspberry Pi OS has: it takes a millisecond to import, where
prompt_toolkit takes seventy of them and 9 MB.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from edgeq.cli import terminal, warned
from edgeq.cli.files import utf8
from edgeq.cli.history import History
from edgeq.cli.piped import ready

BLOCK = '"""'


@dataclass(frozen=True)
class Message:
    """What was said. A line may be a command; a block and pasted lines never are."""

    text: str
    is_line: bool


class Lines(Protocol):
    def read(self, prompt: str) -> str | None:
        """The next line (of a paste: all of its lines) without its newline; None at the end of input."""

    def keep(self, message: str) -> None:
        """Put a message into the history."""


def lines_of_stdin(history: History | None) -> Lines:
    """The lines of stdin, with editing and history where a person types them."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no UTF-8: see read_message
    return Typed(history) if terminal.is_person() else Piped()


def read_message(lines: Lines) -> Message | None:
    """One message: a line, pasted lines, or the lines between two \"\"\". None at the end of input.

    Raises UsageError, after all of it was read, when it is no UTF-8.
    """
    text = lines.read(">>> ")
    if text is None:
        return None
    is_line = "\n" not in text
    if is_line and text.lstrip().startswith(BLOCK):
        text, is_line = _block(text.lstrip()[len(BLOCK) :], lines), False
    text = utf8(text.encode("utf-8", "surrogateescape"), "the message")
    if text.strip():  # what has several lines needs no marks to be no command
        lines.keep(text if is_line or "\n" in text else f"{BLOCK}{text}{BLOCK}")
    return Message(text, is_line)


def _block(first: str, lines: Lines) -> str:
    """The text from behind one \"\"\" to the next."""
    block = [first]
    while BLOCK not in block[-1]:
        more = lines.read("... ")
        if more is None:
            break
        block.append(more)
    return "\n".join(block).replace(BLOCK, "").strip("\n")


class Piped:
    """Lines that a file or a program gives."""

    def read(self, prompt: str) -> str | None:
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None

    def keep(self, message: str) -> None:
        """Nobody will look for it."""


class Typed:
    """Lines that a person types, edits, pastes, and finds again with the arrow keys.

    GNU readline gives a paste as one text (bracketed paste). Other editors, as libedit, give its lines one
    by one: there, lines that have come by the time one is read belong to it.
    """

    def __init__(self, history: History | None) -> None:
        self._history = history
        self._readline = _readline()
        is_gnu = self._readline is not None and "libedit" not in (self._readline.__doc__ or "")
        self._pastes = is_gnu and sys.stdout.isatty()  # else input() reads without it
        if self._readline is not None:
            self._readline.set_auto_history(False)
            if is_gnu:  # Python turns it off for its own prompt, which cannot do with several lines
                self._readline.parse_and_bind("set enable-bracketed-paste on")
            for entry in self._kept():
                self._offer(entry)

    def read(self, prompt: str) -> str | None:
        try:
            text = input(prompt)
            while not self._pastes and ready(0):
                text += "\n" + input("... ")
        except EOFError:
            terminal.write("\n")
            return None
        return text.rstrip("\n")

    def keep(self, message: str) -> None:
        self._offer(message)
        if self._history is not None:
            try:
                self._history.append(message)
            except OSError as error:
                self._without(error)

    def _offer(self, message: str) -> None:
        """Let the arrow keys find a message, unless the editor cannot have it: letters that the locale lacks
        (LC_ALL=C), a NUL in a damaged file."""
        if self._readline is not None:
            with suppress(ValueError):
                self._readline.add_history(message)

    def _kept(self) -> list[str]:
        try:
            return self._history.read() if self._history is not None else []
        except OSError as error:
            self._without(error)
            return []

    def _without(self, error: OSError) -> None:
        assert self._history is not None
        reason = error.strerror or error
        warned(f"the history {self._history.path} cannot be kept: {reason}")
        self._history = None


def _readline() -> Any:
    """The module behind input()'s editing and history, where Python has it."""
    try:
        import readline
    except ImportError:
        return None
    return readline

"""A command line as it was typed, made into words that click takes: options of other programs are translated,
left out with a line or refused by name, and a short option is never joined to letters that follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import click

from edgeq.cli.common import QUIET
from edgeq.cli.foreign import IGNORED, REFUSED, Row, find

SILENT = ("-q", "--quiet")


class Words:
    """The words behind a command's name, as its parser is to get them.

    command: its words, "eval ppl". takes: each spelling of its own options, and how many words follow it.
    """

    def __init__(self, command: str, takes: dict[str, int], words: list[str]) -> None:
        self.command, self.takes = command, takes
        self.left = deque(words)
        self.ignored: list[str] = []  # a sentence for each option that was left out
        self.quiet = False
        self.out = list(self._words())

    def _words(self) -> Iterator[str]:
        while self.left:
            word = self.left.popleft()
            if word == "--":
                yield word
                yield from self._next(len(self.left))
            elif word == "-" or not word.startswith("-"):
                yield word
            else:
                yield from self._option(word)

    def _option(self, word: str) -> Iterator[str]:
        name, joined, value = word.partition("=")
        if name in self.takes:
            self.quiet |= name in SILENT
            yield word
            if not joined:
                yield from self._next(self.takes[name])
        elif (row := find(self.command, name)) is not None:
            yield from self._foreign(row, name, value if joined else None)
        else:
            self._check(word)
            yield word

    def _next(self, count: int) -> Iterator[str]:
        """As many of the following words as there are."""
        for _ in range(min(count, len(self.left))):
            yield self.left.popleft()

    def _foreign(self, row: Row, name: str, value: str | None) -> Iterator[str]:
        """What stands in edgeq's words for an option of another program."""
        if value is None and row.value:
            if self.left and (not row.choices or self.left[0] in row.choices):
                value = self.left.popleft()
            elif not row.choices:
                raise click.UsageError(f"{name} is given without a value, such as {name} {row.value}")
        words = row.fate(value or "")
        if words is not None:
            self.quiet |= words in SILENT
            yield from (word.replace("{}", value or "") for word in words.split())
        elif row.what == IGNORED:
            self.ignored.append(f"{name} is ignored: {row.words}")
        elif row.what == REFUSED:
            raise click.UsageError(f"{name} is no option of `edgeq {self.command}`: {row.words}")
        else:
            known = " or ".join(map(repr, row.values))
            raise click.UsageError(f"{name} is {value!r}, but only {known} means something here: {row.words}")

    def _check(self, word: str) -> None:
        """Refuse what click would read as a short option with letters behind it."""
        short = word[:2]
        if word.startswith("--") or len(word) == 2:
            return
        if short not in self.takes:
            raise click.NoSuchOption(word)
        if self.takes[short] and not word[2].isalpha():
            return  # -t4, -n-1
        apart = f"{short} {word[2:]}" if self.takes[short] else " ".join(f"-{letter}" for letter in word[1:])
        raise click.UsageError(f"there is no option {word}: options of one letter stand alone, as in {apart}")


def takes(command: click.Command, context: click.Context) -> dict[str, int]:
    """Each spelling of a command's options, and how many words follow it."""
    found = dict.fromkeys(command.get_help_option_names(context), 0)
    for param in command.params:
        if isinstance(param, click.Option):
            count = 0 if param.is_flag or param.count else param.nargs
            found.update(dict.fromkeys((*param.opts, *param.secondary_opts), count))
    return found


def renamed(name: str) -> list[str]:
    """A command's name, or its words in edgeq where it is ollama's; UsageError where edgeq has no such."""
    from edgeq.cli.foreign.ollama import COMMANDS

    for row in COMMANDS:
        if name in row.names and row.what == REFUSED:
            raise click.UsageError(f"there is no command {name}: {row.words}")
        if name in row.names:
            return [row.becomes or name]
    return [name]


def understood(
    command: click.Command, name: str, words: list[str], parent: click.Context, note: Callable[[str], object]
) -> list[str]:
    """`words` for the parser of a command or, in a group, of the command that they name first.

    What is ignored is told in one line, unless the words ask for quiet.
    """
    context = click.Context(command, parent, name)
    if isinstance(command, click.Group):
        inner = command.get_command(context, words[0]) if words else None
        return words if inner is None else [words[0], *understood(inner, words[0], words[1:], context, note)]
    path = context.command_path.split(maxsplit=1)[-1]
    try:
        made = Words(path, takes(command, context), words)
    except click.UsageError as error:
        error.ctx = context
        raise
    context.meta[QUIET] = made.quiet
    if made.ignored and not made.quiet:
        note(f"edgeq: warning: {'; '.join(made.ignored)}")
    return made.out

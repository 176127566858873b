"""What every command has in common: -q, and help whose lines are not broken inside a default."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

QUIET_HELP = "Nothing on stderr but errors."
QUIET = "edgeq.quiet"  # in a context's meta: whether -q is among the words
SPACE, HYPHEN = "\0", "\1"  # a space and a hyphen at which no line ends, while lines are made
WHOLE = re.compile(r"\[(?:default: |required)[^\]]*\]|`[^`]*`")
INSIDE = re.compile(r"(?<=\w)-(?=\w)")


class Formatter(click.HelpFormatter):
    """Help in which [default: ...], `a command` and --an-option stand on one line if that is wide enough."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        rows = list(rows)
        first = min(max((len(term) for term, _ in rows), default=0), col_max) + col_spacing
        width = self.width - first - 2
        super().write_dl([(term, whole(text, width)) for term, text in rows], col_max, col_spacing)

    def write_text(self, text: str) -> None:
        super().write_text(whole(text, self.width - self.current_indent))

    def getvalue(self) -> str:
        return super().getvalue().replace(SPACE, " ").replace(HYPHEN, "-")


class Context(click.Context):
    formatter_class = Formatter


def whole(text: str, width: int) -> str:
    """`text` with everything that stays together, and is not wider than a line, as one word."""

    def one_word(match: re.Match[str]) -> str:
        return match[0].replace(" ", SPACE) if len(match[0]) <= width else match[0]

    return INSIDE.sub(HYPHEN, WHOLE.sub(one_word, text))


def dressed(command: click.Command) -> click.Command:
    """A command, and those that it groups, with what every command has."""
    command.context_class = Context
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            dressed(inner)
    elif not any("-q" in param.opts for param in command.params):
        command.params.append(
            click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, help=QUIET_HELP)
        )
    return command

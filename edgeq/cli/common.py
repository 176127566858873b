"""What every command has in common: -q, and help whose lines are not broken inside a default."""

from __future__ import annotations

import re

import click

COLUMN = 44  # characters of an option's help on a terminal of 80 columns
UNBROKEN = "\0"  # a space at which no line ends, while lines are made
WHOLE = re.compile(r"\[(?:default: |required)[^\]]*\]|`[^`]*`")


class Formatter(click.HelpFormatter):
    """Help in which [default: ...] and `a command` stand on one line where they can."""

    def write_dl(self, rows: object, col_max: int = 30, col_spacing: int = 2) -> None:
        kept = [(first, kept_whole(second)) for first, second in rows]  # type: ignore[attr-defined]
        super().write_dl(kept, col_max, col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(UNBROKEN, " ")


class Context(click.Context):
    formatter_class = Formatter


def kept_whole(text: str) -> str:
    """`text` with what stays together, and fits into the narrowest column, as one word."""

    def whole(match: re.Match[str]) -> str:
        return match[0].replace(" ", UNBROKEN) if len(match[0]) <= COLUMN else match[0]

    return WHOLE.sub(whole, text)


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


QUIET_HELP = "Nothing on stderr but errors."

"""docs/options.md, made from the tables of edgeq.cli.foreign; `python -m tests.cli.options_page` writes it."""

# ruff: noqa: E501  (the page's lines are as long as those of its neighbours)

from __future__ import annotations

from pathlib import Path

from edgeq.cli.foreign import IGNORED, OTHER, REFUSED, SAME, Row, Table, tables
from edgeq.cli.foreign.ollama import COMMANDS, PARAMETERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options.md"

HEAD = """\
# Options of llama.cpp and ollama

A line that was written for llama.cpp or ollama works here, or is told why it does not. Of each option the tables say one
of four things:

- **same**: it is spelled and means the same;
- **other name**: it is taken, and stands for edgeq's words in the last column;
- **ignored**: the answer is the same without it. It is taken, and one line on stderr names all that were ignored (none
  with `-q`);
- **refused**: the answer would be another than was asked for, so the command ends with exit code 2 and one sentence that
  says what to do.

An option of one letter stands alone: `-ctk` is never `-c tk`. A number may be joined to it (`-t4`), letters may not. What
edgeq has beyond these, `edgeq COMMAND --help` shows. Two names have another meaning: llama.cpp's `--special` prints special
tokens, that of `edgeq run` reads their names in a prompt as these tokens; its `--chat-template` is a template's text or name, that
of `edgeq chat` a file. And llama.cpp prints a prompt before it goes on,
which edgeq does not.

The tables are made from `edgeq/cli/foreign/` by `python -m tests.cli.options_page`, and a test runs each row.
"""


def page() -> str:
    """The whole file."""
    parts = [HEAD]
    for table in tables():
        parts += [f"\n## {table.program}\n\n{where(table)}\n\n", "| option | here | edgeq |\n|---|---|---|\n"]
        parts += [f"| {names(row)} | {row.what} | {says(row)} |\n" for row in table.rows]
    parts.append("\n## ollama's commands\n\n| command | here | edgeq |\n|---|---|---|\n")
    parts += [f"| {names(row)} | {row.what} | {says(row, 'edgeq ')} |\n" for row in COMMANDS]
    parts.append("\n## The parameters of a Modelfile\n\n| parameter | here | edgeq |\n|---|---|---|\n")
    for name, option, words in PARAMETERS:
        parts.append(f"| `{name}` | {OTHER if option else 'none'} | {f'`{option}`' if option else words} |\n")
    return "".join(parts)


def where(table: Table) -> str:
    commands = [f"`edgeq {name}`" for name in table.commands]
    return f"In {', '.join(commands)}."


def names(row: Row) -> str:
    spelled = ", ".join(f"`{name}`" for name in row.names)
    return spelled.replace("|", "\\|")


def says(row: Row, before: str = "") -> str:
    """The last column of a row."""
    parts = []
    if row.what == SAME and row.becomes is None:
        parts.append(f"`{before}{row.names[0]}`")
    elif row.what == OTHER and row.becomes is not None:
        parts.append(f"`{before}{row.becomes.replace('{}', 'X')}`")
    for value, words in row.values.items():
        parts.append(f"`{value}` is `{words}`" if words else f"`{value}` is taken, as edgeq does so")
    if row.words:
        parts.insert(0 if row.what in (IGNORED, REFUSED) else len(parts), row.words)
    return "; ".join(parts).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

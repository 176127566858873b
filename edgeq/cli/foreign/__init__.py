"""The options and commands of llama.cpp and ollama: what edgeq makes of each, so that a pasted line works or
is told why it does not.

What changes nothing but speed or place is ignored with a line; what would change the answer is refused by
name. docs/options.md shows these tables, and tests/cli/test_foreign.py runs each row."""

from __future__ import annotations

from edgeq.cli.foreign.rows import IGNORED as IGNORED
from edgeq.cli.foreign.rows import OTHER as OTHER
from edgeq.cli.foreign.rows import REFUSED as REFUSED
from edgeq.cli.foreign.rows import SAME as SAME
from edgeq.cli.foreign.rows import Row as Row
from edgeq.cli.foreign.rows import Table as Table


def tables() -> tuple[Table, ...]:
    """All tables of options, those of one command before those of many."""
    from edgeq.cli.foreign import bench, chat, drafts, machine, ollama, run, sampling, server

    own = (run.TABLE, chat.TABLE, bench.TABLE, ollama.RUN, ollama.SHOW, ollama.CREATE)
    return (*own, sampling.TABLE, drafts.TABLE, server.TABLE, machine.TABLE, server.NOT_HERE)


def find(command: str, name: str) -> Row | None:
    """The row of an option that edgeq's `command` does not know by itself; None where no table has it."""
    for table in tables():
        if command in table.commands:
            for row in table.rows:
                if name in row.names:
                    return row
    return None

"""edgeq rm: remove converted models."""

from __future__ import annotations

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option, quiet_option
from edgeq.errors import UsageError
from edgeq.library import kept
from edgeq.library.find import cache_directory


@click.command("rm")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="Remove all that `edgeq list` shows.")
@json_option
@quiet_option
def command(names: tuple[str, ...], every: bool, as_json: bool, quiet: bool) -> None:
    """Remove converted models, by the NAME that `edgeq list` shows, the name of the source, or the file's.

    Nothing is asked. Sources stay: a model that is named again is converted again. A process that has one of
    them open keeps it to its end.
    """
    if every == bool(names):
        raise UsageError("name the models to remove, as `edgeq list` shows them, or all of them with --all")
    folder = cache_directory()
    chosen = kept.entries(folder) if every else kept.named(folder, names)
    freed = kept.remove(chosen)
    if every:
        kept.clean(folder)
    if as_json:
        terminal.say_json({"removed": [entry.name for entry in chosen], "bytes": freed})
    elif not quiet:
        for entry in chosen:
            terminal.note(f"removed {entry.name}, {terminal.size(entry.nbytes)}")
        terminal.note(f"{terminal.size(freed)} are free again")

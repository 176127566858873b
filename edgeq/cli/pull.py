"""edgeq pull: a model of the hub comes to this machine."""

from __future__ import annotations

import os

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option, quiet_option
from edgeq.cli.sources import converted, located
from edgeq.errors import UsageError
from edgeq.hub import Snapshot
from edgeq.library import hub_name


@click.command("pull")
@click.argument("name")
@click.option("--no-convert", is_flag=True, help="Fetch it, and do not convert it.")
@json_option
@quiet_option
def command(name: str, no_convert: bool, as_json: bool, quiet: bool) -> None:
    """Fetch the model NAME from the Hugging Face hub and convert it, as `edgeq run NAME` would.

    \b
    NAME is OWNER/NAME            a checkpoint; of GGUF files the Q4_K_M
            OWNER/NAME:TYPE       the GGUF file of a type
            OWNER/NAME/FILE.gguf  a file

    With @REVISION behind it, it is of another branch, tag or commit than main; the address of its page is
    understood, too.

    The hub is asked whether there is something newer; run and chat take what is there without asking. The
    path of what to run goes to stdout, with --no-convert that of what was fetched. Nothing is fetched twice,
    what was broken off goes on, and every file is held against the hub's checksum."""
    if hub_name(name) is None:
        what = "is a file or directory here" if os.path.exists(name) else "is no name on the hub"
        raise UsageError(
            f"{name!r:.120} {what}: pull takes OWNER/NAME, OWNER/NAME:TYPE or OWNER/NAME/FILE.gguf"
        )
    found = located(name, quiet=quiet, refresh=True)
    assert isinstance(found, Snapshot)
    file = None if no_convert else converted(found, quiet=quiet)
    if as_json:
        terminal.say_json(
            {
                "repository": found.repository,
                "revision": found.commit,
                "fetched": os.fspath(found),
                "file": None if file is None else str(file),
            }
        )
    else:
        terminal.say(os.fspath(found) if file is None else str(file))

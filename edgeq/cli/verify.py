"""edgeq verify: every byte of a model file is read and checked."""

from __future__ import annotations

import click

from edgeq.cli import EXIT_MODEL, terminal
from edgeq.cli.options import json_option, model_argument, quiet_option
from edgeq.cli.sources import progress_bar
from edgeq.errors import FormatError, UnsupportedError, UsageError
from edgeq.library.find import kind


@click.command("verify")
@model_argument
@json_option
@quiet_option
@click.pass_context
def command(context: click.Context, model: str, as_json: bool, quiet: bool) -> None:
    """Check MODEL: structure, checksums, padding, finite scales, and that the config and its tensors fit.

    Exit code 0 when it is sound, 3 when it is not; every problem is one line.
    """
    if kind(model) != "edgeq":
        raise UsageError(
            f"{model} is no .edgeq file: verify checks .edgeq files, which `edgeq convert` makes"
        )
    from edgeq.formats import verify

    with progress_bar(quiet, "verify") as progress:
        problems = verify(model, progress=progress)
    problems = problems or contents(model)
    if as_json:
        terminal.say_json({"file": model, "sound": not problems, "problems": problems})
    else:
        for problem in problems:
            terminal.say(terminal.one_line(problem))
        if not problems and not quiet:
            terminal.say(f"{model}: sound")
    if problems:
        context.exit(EXIT_MODEL)


def contents(model: str) -> list[str]:
    """Problems of a file whose bytes are sound: config and tensors that do not fit the family."""
    from edgeq.formats import open_model
    from edgeq.models import check

    try:
        with open_model(model) as file:
            check(file)
    except (FormatError, UnsupportedError) as error:
        return [str(error)]
    return []

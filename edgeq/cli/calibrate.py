"""edgeq calibrate: what a model's products are given over a text, kept in a file."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import terminal
from edgeq.cli.options import force_option, json_option, quiet_option, threads_option
from edgeq.cli.quantize import shares, text_options
from edgeq.cli.sources import located
from edgeq.errors import UsageError


@click.command("calibrate")
@click.argument("source", metavar="MODEL", type=click.Path(), required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="STATS",
    required=True,
    help="The file to write.",
)
@text_options()
@click.option("--diagonal", is_flag=True, help="Keep squares alone: small, enough for importance.")
@click.option(
    "--merge",
    "merged",
    multiple=True,
    type=click.Path(dir_okay=False),
    metavar="STATS",
    help="Add up what such files have, instead of running a model (repeat).",
)
@threads_option
@force_option
@json_option
@quiet_option
def command(
    source: str | None,
    output: Path,
    files: tuple[str, ...],
    tokens: int | None,
    diagonal: bool,
    merged: tuple[str, ...],
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run MODEL over text and keep what its products are given: `edgeq quantize --stats` goes by it.

    The same model and text give the same file, whatever the threads. Without -f it is edgeq's own text.
    """
    from edgeq.calibrate.statistics import Statistics, merge

    if output.exists() and not force:
        raise UsageError(f"{output} exists: name another file with -o, or replace it with --force")
    if merged:
        if source is not None or files:
            raise UsageError("--merge takes files that were made: give either these or a model")
        merge(merged, output)
    elif source is None:
        raise UsageError("no model is given: name a checkpoint's directory or a .gguf file")
    else:
        from edgeq.calibrate.texts import read
        from edgeq.quantize.pipeline import keep_statistics

        texts = read(files) if files else None
        model = located(source, quiet=quiet)
        with shares(quiet) as progress:
            keep_statistics(
                model,
                output,
                texts=texts,
                tokens=tokens,
                threads=threads,
                diagonal=diagonal,
                progress=progress,
            )
    made = Statistics(output)
    facts = {
        "file": str(output),
        "bytes": output.stat().st_size,
        "tokens": made.tokens,
        "text_sha256": made.about["text_sha256"],
        "taps": len(made.taps),
        "diagonal": made.diagonal,
    }
    if as_json:
        terminal.say_json(facts)
    elif not quiet:
        what = f"{made.tokens} tokens of a text with SHA-256 {made.about['text_sha256'][:16]}"
        terminal.note(f"{output}: {terminal.size(output.stat().st_size)}, {what}")

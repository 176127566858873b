"""edgeq convert: a checkpoint becomes one .edgeq file."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option, quiet_option
from edgeq.cli.sources import progress_bar, tell_growth
from edgeq.errors import UsageError

SCHEMES = ["q4", "q8", "f32", "f16", "bf16", "keep"]


@click.command("convert")
@click.argument("source", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="The file to write.  [default: the source's name with .edgeq]",
)
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    default="q4",
    show_default=True,
    help="Numbers of the weights; keep leaves each tensor's own.",
)
@click.option(
    "--embed-scheme",
    type=click.Choice(SCHEMES),
    help="Numbers of the embedding.  [default: q8, or --scheme where that is not quantized]",
)
@click.option(
    "--output-scheme",
    type=click.Choice(SCHEMES),
    help="Numbers of the output head.  [default: q8, or --scheme where that is not quantized]",
)
@click.option(
    "--follow-links",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Links in a checkpoint's directory may lead into DIR.  [default: nowhere outside]",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@quiet_option
def command(
    source: str,
    output: str | None,
    scheme: str,
    embed_scheme: str | None,
    output_scheme: str | None,
    follow_links: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert SOURCE into one .edgeq file.

    SOURCE is a directory with a Hugging Face checkpoint, a .gguf file of any types (of several parts any
    one), or a name on the Hugging Face hub. --scheme keep loses nothing. FILE appears when it is complete."""
    if output is None:
        output = Path(source.rstrip("/\\")).name.removesuffix(".gguf") + ".edgeq"
    target = Path(output)
    if target.is_dir():
        raise UsageError(f"{target} is a directory: name a file with -o")
    if target.exists() and not force:
        raise UsageError(f"{target} exists: name another file with -o, or replace it with --force")
    from edgeq.converters import convert

    start = time.perf_counter()
    with progress_bar(quiet, "convert") as progress:
        convert(
            source,
            target,
            scheme=scheme,
            embed_scheme=embed_scheme,
            output_scheme=output_scheme,
            progress=progress,
            sizes=None if quiet else tell_growth,
            follow_links=follow_links,
        )
    seconds, written = time.perf_counter() - start, target.stat().st_size
    if as_json:
        terminal.say_json({"file": str(target), "bytes": written, "scheme": scheme, "seconds": seconds})
    elif not quiet:
        terminal.note(f"{target}: {terminal.size(written)}, {scheme}, {seconds:.1f} s")

"""edgeq convert: a checkpoint becomes one .edgeq file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from edgeq.cli import terminal
from edgeq.cli.cachekind import examine
from edgeq.cli.kv import Kind, one_kind
from edgeq.cli.options import examples, force_option, json_option, quiet_option
from edgeq.cli.sources import located, output_name, progress_bar, tell_growth
from edgeq.errors import UsageError
from edgeq.library.find import KEEP, TERNARY, kind, scheme_of

Command = Callable[..., Any]
WHY = {  # a scheme that nobody chose
    KEEP: " (the file's own numbers, as it is quantized; --scheme NAME rounds them)",
    TERNARY: " (its matrices are -1, 0 and 1 times a number, which that holds)",
}


def known(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The schemes that begin so, for a shell that completes them."""
    from edgeq.converters import CHOICES, KEEP

    return [name for name in (*CHOICES, KEEP) if name.startswith(incomplete)]


def scheme_option(name: str, words: str) -> Callable[[Command], Command]:
    """An option that names a scheme, which the recipe made of it checks."""
    return click.option(name, metavar="SCHEME", help=words, shell_complete=known)


class WithRecipes(click.Command):
    """A command whose help ends with the recipes that --recipe knows by name."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from edgeq.converters.recipe import shipped

        super().format_epilog(ctx, formatter)
        with formatter.section("Recipes"):
            formatter.write_dl([(recipe.name, recipe.about) for recipe in shipped().values()])


@click.command(
    "convert",
    cls=WithRecipes,
    epilog=examples(
        "edgeq convert model-dir -o model.edgeq",
        "edgeq convert model-Q4_K_M.gguf",
        "edgeq convert Qwen/Qwen3-0.6B -o small.edgeq --scheme e4",
        "edgeq convert model-dir -o mixed.edgeq --recipe q4-mixed",
    ),
)
@click.argument("source", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="The file to write.  [default: the source's name with .edgeq]",
)
@scheme_option(
    "--scheme",
    "Numbers of the weights, one of `edgeq schemes`; keep leaves each tensor's own.  "
    "[default: keep for a quantized .gguf or MXFP4, t2 for a ternary checkpoint, else q4]",
)
@scheme_option(
    "--embed-scheme",
    "Numbers of the embedding.  [default: 8 bits, or --scheme if that is keep or float]",
)
@scheme_option(
    "--output-scheme",
    "Numbers of the output head.  [default: 8 bits, or --scheme if that is keep or float]",
)
@click.option(
    "--recipe",
    type=click.Path(),
    metavar="RECIPE",
    help="A scheme for each tensor instead, by the rules of a recipe: one of those below, or a .toml file.",
)
@click.option(
    "--follow-links",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Links in a checkpoint's directory may lead into DIR.  [default: nowhere outside]",
)
@click.option(
    "--kv",
    type=Kind(),
    multiple=True,
    callback=one_kind,
    metavar="[q8|k8v4|q4|q2|f16|f32]",
    help="The KV cache that FILE is run with unless another is named.  [default: q8, or what keys with "
    "biases or norms turn out to need]",
)
@force_option
@json_option
@quiet_option
def command(
    source: str,
    output: str | None,
    scheme: str | None,
    embed_scheme: str | None,
    output_scheme: str | None,
    recipe: str | None,
    follow_links: str | None,
    kv: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert SOURCE into one .edgeq file.

    SOURCE is a directory with a Hugging Face checkpoint, a .gguf file of any types (of several parts any
    one), or a name on the Hugging Face hub, such as OWNER/NAME or OWNER/NAME:Q4_K_M. --scheme keep loses
    nothing. FILE appears when it is complete.
    """
    if output is None:
        output = output_name(source)
    target = Path(output)
    if target.is_dir():
        raise UsageError(f"{target} is a directory: name a file with -o")
    if target.exists() and not force:
        raise UsageError(f"{target} exists: name another file with -o, or replace it with --force")
    from edgeq.cache import stored
    from edgeq.converters import convert
    from edgeq.converters.recipe import choose
    from edgeq.formats import open_model

    found = located(source, quiet=quiet)
    usual = None if recipe or scheme else usual_scheme(found)
    chosen = choose(recipe, scheme or usual, embed_scheme, output_scheme)
    start = time.perf_counter()
    with progress_bar(quiet, "convert") as progress:
        convert(
            found,
            target,
            recipe=chosen,
            progress=progress,
            sizes=None if quiet else tell_growth,
            tell=None if quiet else terminal.note,
            follow_links=follow_links,
            overwrite=force,
            words={"cache": {"kind": kv}} if kv else None,
            examine=None if kv else partial(examine, quiet=quiet),
        )
    seconds, written = time.perf_counter() - start, target.stat().st_size
    if as_json:
        with open_model(target) as file:
            settled = stored(file.header)
        facts = {"file": str(target), "bytes": written, "recipe": chosen.name, "kv": settled}
        terminal.say_json({**facts, "seconds": seconds})
    elif not quiet:
        why = WHY.get(usual or "", "")
        terminal.note(f"{target}: {terminal.size(written)}, {chosen.name}{why}, {seconds:.1f} s")


def usual_scheme(source: str | os.PathLike[str]) -> str | None:
    """The scheme where nobody chose one; None for a name on the hub, or where the converter says what is
    wrong.
    """
    return scheme_of(Path(source), kind(source)) if Path(source).exists() else None

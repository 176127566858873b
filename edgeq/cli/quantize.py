"""edgeq quantize: a checkpoint becomes a small .edgeq file that stays close to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import terminal
from edgeq.cli.cachekind import examine
from edgeq.cli.convert import scheme_option
from edgeq.cli.options import (
    Bytes,
    Function,
    combine,
    force_option,
    json_option,
    quiet_option,
    threads_option,
)
from edgeq.cli.sources import located, output_name
from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.quantize.estimate import Estimate
    from edgeq.quantize.result import Result
    from edgeq.quantize.transforms import Transform

EVERY_S = 0.2  # between two changes of the line on a terminal


class Names(click.ParamType):
    """Words with commas between."""

    name = "LIST"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return tuple(word.strip() for word in str(value).split(",")) if isinstance(value, str) else value


def text_options(tokens: str = "32768") -> Callable[[Function], Function]:
    """The options of a text to calibrate on; `tokens` says how many are taken by default."""
    return combine(
        click.option(
            "-f",
            "--file",
            "files",
            multiple=True,
            type=click.Path(),
            metavar="TEXT",
            help="Text to calibrate on, UTF-8 or JSON lines (can be repeated).  [default: edgeq's own]",
        ),
        click.option(
            "--tokens",
            type=click.IntRange(1536),
            metavar="N",
            help=f"Tokens of it to take.  [default: {tokens}]",
        ),
    )


requantize_option = click.option(
    "--allow-requantize",
    is_flag=True,
    help="Take a model that is quantized already: its numbers are rounded twice.",
)


class WithPresets(click.Command):
    """A command whose help ends with the names that --preset knows."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from edgeq.quantize.presets import PRESETS

        with formatter.section("Presets"):
            formatter.write_dl([(row.name, row.about) for row in PRESETS.values()])


@click.command("quantize", cls=WithPresets)
@click.argument("source", metavar="MODEL", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The file to write.  [default: the model's name with .edgeq]",
)
@click.option(
    "--quality",
    type=click.Choice(["fast", "good", "best"]),
    default="good",
    show_default=True,
    help="fast searches for scales, without data; good calibrates; best also fits each layer to the "
    "quantized ones before it.",
)
@scheme_option("--scheme", "Numbers of the weights, one of `edgeq schemes`.  [default: e4]")
@scheme_option("--embed-scheme", "Numbers of the embedding.  [default: 8 bits, or --scheme if float]")
@scheme_option("--output-scheme", "Numbers of the output head.  [default: 8 bits, or --scheme if float]")
@click.option(
    "--recipe", type=click.Path(), metavar="RECIPE", help="A scheme for each tensor: see convert --help."
)
@click.option(
    "--target-bpw",
    type=click.FloatRange(2.0, 9.0),
    metavar="X",
    help="Bits for each weight, embedding and head included: each matrix gets the scheme that serves best.",
)
@click.option(
    "--target-size", type=Bytes(), metavar="SIZE", help="The same for a file of so many bytes: 700M."
)
@click.option(
    "--method",
    "steps",
    type=Names(),
    metavar="STEPS",
    help="Steps in place of the quality's, with commas: search, importance, gptq, descent; to compare with "
    "them rtn, stochastic, clip, hqq.",
)
@click.option(
    "--transform",
    "transforms",
    type=Names(),
    default=(),
    metavar="NAMES",
    help="What the float model goes through before, with commas: awq, smoothquant, sinq, rotate.",
)
@click.option(
    "--preset",
    "known",
    metavar="NAME",
    help="A known name, of those below, in place of scheme, steps and transforms.",
)
@text_options("32768; with best 65536")
@click.option(
    "--stats",
    type=click.Path(dir_okay=False),
    metavar="STATS",
    help="What `edgeq calibrate` kept, in place of text.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Kept in the file.")
@click.option(
    "--max-ram",
    type=Bytes(),
    metavar="SIZE",
    help="Memory to stay within, with fewer tokens of calibration.  [default: no limit]",
)
@click.option("--dry-run", is_flag=True, help="Tell what it will take, and do nothing.")
@requantize_option
@threads_option
@force_option
@json_option
@quiet_option
def command(
    source: str,
    output: str | None,
    quality: str,
    scheme: str | None,
    embed_scheme: str | None,
    output_scheme: str | None,
    recipe: str | None,
    target_bpw: float | None,
    target_size: int | None,
    steps: tuple[str, ...] | None,
    transforms: tuple[str, ...],
    known: str | None,
    files: tuple[str, ...],
    tokens: int | None,
    stats: str | None,
    seed: int,
    max_ram: int | None,
    dry_run: bool,
    allow_requantize: bool,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Quantize MODEL into one .edgeq file that stays as close to it as its bytes allow.

    MODEL is a directory with a Hugging Face checkpoint, a .gguf file of floats, or a name on the Hugging Face
    hub. Each step is held against the one before on text that it has not seen, and undone where it does not
    help. Broken off, the same command goes on from where it was. The same command gives the same bytes.
    """
    from edgeq.calibrate.statistics import Statistics
    from edgeq.calibrate.texts import read
    from edgeq.converters.recipe import choose
    from edgeq.quantize.budget import Budget
    from edgeq.quantize.pipeline import estimate, quantize
    from edgeq.quantize.presets import preset_of

    named = [word for word in (scheme, embed_scheme, output_scheme, recipe) if word is not None]
    if target_bpw is not None and target_size is not None:
        raise UsageError("--target-bpw and --target-size say the same twice: give one of them")
    given = target_bpw is not None or target_size is not None
    budget = Budget(target_bpw, target_size) if given else None
    if budget and named:
        raise UsageError("a target chooses every scheme: give either a target or schemes")
    chosen = (
        None if budget else choose(recipe, scheme or (None if recipe else "e4"), embed_scheme, output_scheme)
    )
    before: Sequence[str | Transform] = transforms
    if known is not None:
        if named or budget or steps or transforms:
            raise UsageError("a preset names scheme, steps and transforms: give either it or these")
        row = preset_of(known)
        chosen, steps, before = row.recipe, row.steps, row.transforms
        quality = quality if row.data else "fast"
        if not quiet:
            terminal.note(f"{row.name}: {row.about}; run it with --act {row.act}")
    if output is None:
        output = output_name(source)
    target = Path(output)
    if target.exists() and not force and not dry_run:
        raise UsageError(f"{target} exists: name another file with -o, or replace it with --force")
    texts = read(files) if files else None
    common: dict[str, Any] = dict(
        quality=quality, recipe=chosen, budget=budget, steps=steps, tokens=tokens, threads=threads,
        max_ram=max_ram, allow_requantize=allow_requantize,
    )  # fmt: skip
    statistics = Statistics(stats) if stats else None
    found = located(source, quiet=quiet)
    if dry_run:
        tell_estimate(estimate(found, **common), as_json)
        return
    start = time.perf_counter()
    with shares(quiet) as progress:
        result = quantize(
            found, target, **common, texts=texts, statistics=statistics, transforms=before, seed=seed,
            progress=progress, tell=None if quiet else terminal.note, examine=partial(examine, quiet=quiet),
        )  # fmt: skip
    tell_result(result, target.stat().st_size, time.perf_counter() - start, as_json)


@contextmanager
def shares(quiet: bool) -> Iterator[Callable[[float, str], object] | None]:
    """A line on stderr as a `progress(share, what)` callback, with the time that is left; None where nobody
    would see it.
    """
    status = terminal.Status(quiet)
    if not status.moves:
        yield None
        return
    start, shown = time.perf_counter(), 0.0

    def progress(share: float, what: str) -> None:
        nonlocal shown
        now = time.perf_counter()
        if now - shown < EVERY_S:
            return
        shown = now
        left = (now - start) * (1 - share) / share if share > 0.01 else None
        status.show(f"{share:4.0%}  {what}{'' if left is None else f', about {duration(left)} left'}")

    try:
        yield progress
    finally:
        status.clear()


def duration(seconds: float) -> str:
    """For a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def tell_estimate(found: Estimate, as_json: bool) -> None:
    """What it will take."""
    if as_json:
        terminal.say_json(found.to_json())
        return
    rows = [
        ("file", terminal.size(found.bytes)),
        ("memory", f"about {terminal.size(found.memory)}"),
        ("time", f"about {duration(found.seconds)} on this machine as it is now"),
        ("calibration", f"{found.tokens} tokens" if found.tokens else "none"),
    ]
    terminal.say("\n".join(f"{name.ljust(11)}  {value}" for name, value in rows))


def tell_result(result: Result, nbytes: int, seconds: float, as_json: bool) -> None:
    """What was made, and what the steps did."""
    if as_json:
        terminal.say_json({**result.to_json(), "bytes": nbytes, "seconds": seconds})
        return
    rows = [
        ("file", f"{result.file}, {terminal.size(nbytes)}, {result.bits_per_weight:.2f} bits a weight"),
        ("schemes", f"{result.recipe}, quality {result.quality}, {duration(seconds)}"),
    ]
    if result.text_sha256 is not None and result.divergence is not None:
        rows += [
            ("calibration", f"{result.text_tokens} tokens of a text with SHA-256 {result.text_sha256[:16]}"),
            (
                "held out",
                f"mean KLD {result.divergence:.6f} nats of the weights alone, on {result.divergence_tokens} "
                f"tokens that nothing was learnt from, the second halves of windows of {result.window}",
            ),
        ]
        if result.elsewhere is not None and result.elsewhere_sha256 is not None:
            words = (
                f"mean KLD {result.elsewhere:.6f}, on {result.elsewhere_tokens} tokens of edgeq's own text"
            )
            rows.append(("elsewhere", f"{words}, SHA-256 {result.elsewhere_sha256[:16]}"))
    helped = [f"{step} {count}" for step, count in result.helped.items()]
    rows.append(("helped", ", ".join(helped) + " matrices" if helped else "nothing"))
    if result.undone:
        rows.append(("undone", ", ".join(f"{step} {count}" for step, count in result.undone.items())))
    terminal.say("\n".join(f"{name.ljust(11)}  {value}" for name, value in rows))

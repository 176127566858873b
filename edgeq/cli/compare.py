"""edgeq compare: how far the numbers of one file are from those of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option, quiet_option
from edgeq.cli.sources import progress_bar, resolve


@click.command("compare")
@click.argument("model", type=click.Path())
@click.argument("reference", type=click.Path())
@click.option("--layers", is_flag=True, help="A row for each layer, not for each tensor.")
@click.option(
    "--stats",
    type=click.Path(dir_okay=False),
    metavar="STATS",
    help="What `edgeq calibrate` kept: tell the error of the outputs, too.",
)
@json_option
@quiet_option
def command(model: str, reference: str, layers: bool, stats: str | None, as_json: bool, quiet: bool) -> None:
    """Compare the numbers of MODEL with those of REFERENCE, tensor by tensor.

    "error" is the root mean square of the difference over that of the reference's numbers; with --stats
    "outputs" is the same of what matrices make of the inputs that were seen. What an error does to the
    answers is another question: `edgeq eval kld` has it.
    """
    from edgeq.evaluate.tensors import by_layer, compare_tensors, together
    from edgeq.formats import open_model

    paths = [resolve(name, quiet=quiet, keep=True) for name in (model, reference)]
    with (
        open_model(paths[0]) as mine,
        open_model(paths[1]) as theirs,
        progress_bar(quiet, "compare") as progress,
    ):
        found = compare_tensors(mine, theirs, progress, moments_of(stats))
        alone = sorted(set(mine.tensors) ^ set(theirs.tensors))
    rows = by_layer(found) if layers else found
    total = together("all", found)
    if as_json:
        terminal.say_json(
            {"rows": [row.to_json() for row in rows], "total": total.to_json(), "in_one_only": alone}
        )
        return
    head = (
        "layer" if layers else "tensor",
        "scheme",
        "reference",
        "numbers",
        "error",
        "MSE",
        "MAE",
        "largest",
        *(["outputs"] if stats else []),
    )
    cells = [
        (row.name, row.scheme, row.reference_scheme, row.count, f"{row.relative:.4%}", f"{row.mse:.3e}",
         f"{row.mae:.3e}", f"{row.largest:.3e}", *([outputs(row.output_error)] if stats else []))
        for row in (*rows, total)
    ]  # fmt: skip
    terminal.say(terminal.table(head, cells, left=3))
    if alone and not quiet:
        terminal.note(f"in one file only: {', '.join(alone)}")


def moments_of(stats: str | None) -> Callable[[str], Any]:
    """The mean of the inputs' x x' of a matrix by its name; None where it is not known."""
    if stats is None:
        return lambda name: None
    from edgeq.calibrate.statistics import Statistics

    statistics = Statistics(stats)
    taps = {name: tap for tap in statistics.taps if not tap.experts for name in tap.names}
    return lambda name: statistics.moments("judge", taps[name]).mean if name in taps else None


def outputs(error: float | None) -> str:
    return "-" if error is None else f"{error:.4%}"

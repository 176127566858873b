"""edgeq sensitivity: what rounding each matrix of a model costs."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option, quiet_option, threads_option
from edgeq.cli.quantize import requantize_option, shares, text_options
from edgeq.cli.sources import located
from edgeq.errors import UsageError


@click.command("sensitivity")
@click.argument("source", metavar="MODEL", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the figures, JSON.",
)
@text_options()
@requantize_option
@threads_option
@json_option
@quiet_option
def command(
    source: str,
    output: Path | None,
    files: tuple[str, ...],
    tokens: int | None,
    allow_requantize: bool,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """What rounding each matrix of MODEL to 4 bits costs, the others as they are.

    "KLD" is the divergence of the whole model's predictions with that one matrix rounded; "proxy" the error
    of the matrix's own outputs, which is far quicker to have. Their rank correlation says how much the proxy
    is worth. `edgeq quantize --target-bpw` chooses schemes by the former.
    """
    from edgeq.calibrate.texts import read
    from edgeq.quantize.pipeline import measure
    from edgeq.quantize.sensitivity import MEASURED, rank_correlation

    if output is not None and not output.parent.is_dir():  # told before hours of work
        raise UsageError(f"{output} cannot be written: its folder is not there; name one that is")
    texts = read(files) if files else None
    model = located(source, quiet=quiet)
    with shares(quiet) as progress:
        found = measure(
            model,
            texts=texts,
            tokens=tokens,
            threads=threads,
            allow_requantize=allow_requantize,
            progress=progress,
        )
    rows = found.rows
    inner = [row for row in rows if row.name.startswith("blocks.")]
    correlation = rank_correlation([row.proxy for row in inner], [row.divergence for row in inner])
    facts = {**found.to_json(), "rank_correlation": correlation, "scheme": MEASURED}
    if output is not None:
        terminal.save_json(output, facts)
    if as_json:
        terminal.say_json(facts)
        return
    total = sum(row.divergence for row in rows) or 1.0
    cells = [
        (
            row.name,
            f"{row.weights:,}",
            f"{row.proxy:.3e}",
            f"{row.divergence:.3e}",
            f"{row.divergence / total:.2%}",
            f"{row.divergence / row.weights * 1e9:.3f}",
        )
        for row in sorted(rows, key=lambda row: -row.divergence / row.weights)
    ]
    terminal.say(terminal.table(("tensor", "weights", "proxy", "KLD", "share", "nKLD/weight"), cells))
    terminal.say(f"rank correlation of proxy and KLD: {correlation:.2f}, {len(inner)} matrices of blocks")
    terminal.say(f"sum of KLD: {total:.3e} nats, scheme {MEASURED}")
    terminal.say(
        f"text: {found.tokens} tokens scored, the second halves of windows, SHA-256 {found.text_sha256[:16]}"
    )

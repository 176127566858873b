"""edgeq demo: the whole way from a checkpoint to text, with the bundled model, offline and in seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.options import quiet_option, threads_option

PROMPT = "Once upon a time"


@click.command("demo")
@click.option("-p", "--prompt", default=PROMPT, show_default=True, help="How the story begins.")
@click.option(
    "-n",
    "--predict",
    "max_tokens",
    type=click.IntRange(1),
    metavar="N",
    default=200,
    help="Tokens.  [default: 200]",
)
@click.option(
    "-s", "--seed", type=int, help="Another story for another seed.  [default: the likeliest story]"
)
@threads_option
@quiet_option
def command(prompt: str, max_tokens: int, seed: int | None, threads: int | None, quiet: bool) -> None:
    """Convert the bundled stories260K checkpoint (1 MB) to q8 and let it tell a story."""
    from edgeq.converters import convert
    from edgeq.demo import checkpoint

    def tell(text: str) -> None:
        if not quiet:
            terminal.note(text)

    clock = engine.Clock()
    with tempfile.TemporaryDirectory(prefix="edgeq-demo-") as directory:
        path = Path(directory) / "stories260K.edgeq"
        convert(checkpoint(), path, scheme="q8")
        tell(f"converted stories260K to q8: {terminal.size(path.stat().st_size)} in {clock.seconds:.2f} s")
        from edgeq.generate import SamplingOptions, stream

        sampling: dict[str, Any] = {"temperature": 0.0} if seed is None else {"seed": max(seed, 0)}
        with engine.load_file(path, quiet=quiet, threads=threads) as model:
            terminal.write(prompt)
            with stream(
                model, prompt, options=SamplingOptions(**sampling), max_tokens=max_tokens
            ) as generation:
                engine.show(generation)
            tell(engine.timings_line(generation.timings, clock.seconds))

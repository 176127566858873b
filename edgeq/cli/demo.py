"""edgeq demo: the whole way from a checkpoint to text, with the bundled model, offline and in seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from edgeq.cli import engine, terminal
from edgeq.cli.options import quiet_option

PROMPT = "Once upon a time"


@click.command("demo")
@click.option("-p", "--prompt", default=PROMPT, show_default=True, help="How the story begins.")
@click.option(
    "-n",
    "--predict",
    "max_tokens",
    type=click.IntRange(1),
    metavar="N",
    default=400,
    help="Tokens at the most.  [default: 400]",
)
@click.option(
    "-s",
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=24,
    help="Another number, another story.  [default: 24]",
)
@quiet_option
def command(prompt: str, max_tokens: int, seed: int, quiet: bool) -> None:
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

        # a model this small is in the processor's own cache: more threads would only wait for each other
        with engine.load_file(path, quiet=quiet, threads=1) as model:
            options = SamplingOptions(temperature=0.6, seed=seed)
            terminal.write(prompt)
            with stream(model, prompt, options=options, max_tokens=max_tokens) as story:
                for piece in story:
                    if story.ids and story.ids[-1] == model.tokenizer.bos_id:  # it begins the next story
                        break
                    terminal.write(piece)
            terminal.write("\n")
            tell(engine.timings_line(story.timings, clock.seconds))

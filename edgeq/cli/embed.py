"""edgeq embed: vectors of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.files import lines_of
from edgeq.cli.options import (
    combine,
    engine_options,
    examples,
    json_option,
    model_and_words,
    quiet_option,
)
from edgeq.errors import EdgeqError, UsageError

if TYPE_CHECKING:
    import numpy as np

SHOWN = 4  # numbers of a vector in the table
CHARS = 48  # of a text in it
COMPARED = 10  # texts whose similarities are shown

file_option = click.option(
    "-f", "--file", type=click.Path(), metavar="FILE", help="Take FILE's lines, too; - is stdin."
)
truncate_option = click.option(
    "--truncate", is_flag=True, help="Read the beginning of what is too long, which is refused otherwise."
)
reading_options = combine(truncate_option, engine_options(), json_option, quiet_option)


@click.command(
    "embed",
    epilog=examples(
        'edgeq embed model.edgeq "A cat sleeps." "A dog barks."',
        'edgeq embed model.edgeq --prompt query "Who sleeps?" --json',
        "edgeq embed model.edgeq -f lines.txt --npy vectors.npy",
    ),
)
@model_and_words("[TEXT]...")
@file_option
@click.option("--prompt", metavar="NAME", help="Put the model's prompt of that name before each text.")
@click.option(
    "--pooling",
    type=click.Choice(["last", "mean", "cls"]),
    help="Which rows become the vector.  [default: the model's]",
)
@click.option("--raw", is_flag=True, help="Leave vectors as long as they are.")
@click.option(
    "--dimensions", type=click.IntRange(1), metavar="N", help="The first N numbers.  [default: all]"
)
@click.option("--npy", type=click.Path(), metavar="FILE", help="Write all vectors to FILE, as NumPy's.")
@reading_options
def command(
    model: str,
    words: tuple[str, ...],
    file: str | None,
    npy: str | None,
    raw: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Vectors of texts: each TEXT, and each line of FILE that is not empty.

    A table shows the beginning of each vector, and how similar they are where there are a few: the cosine of
    each two. With --json, stdout gets one object with width and, in embeddings, text and numbers of each."""
    several = [*words, *lines_of(file)]
    if not several:
        raise UsageError("no text is given: name texts, or a file of lines with -f")
    own = {name: options.pop(name) for name in ("prompt", "pooling", "dimensions", "truncate")}
    normalize = False if raw else None
    status = terminal.Status(quiet)
    with engine.load(model, options, quiet=quiet) as loaded:
        vectors = loaded.embed(several, normalize=normalize, progress=told(status, "tokens"), **own)
        path = str(loaded.file.path)
    status.clear()
    if npy is not None:
        write_npy(Path(npy), vectors)
    if as_json:
        each = [
            {"text": text, "embedding": vector.tolist()}
            for text, vector in zip(several, vectors, strict=True)
        ]
        terminal.say_json({"model": path, "width": vectors.shape[1], "embeddings": each})
    elif npy is None:
        terminal.say(shown(several, vectors))


def told(status: terminal.Status, what: str) -> Any:
    """progress(done, total) that shows on the moving line."""
    return lambda done, total: status.show(f"{done:,} of {total:,} {what}")


def shown(texts: list[str], vectors: np.ndarray) -> str:
    """The table, and behind it the similarities of a few."""
    rows = [
        (n, short(text), " ".join(f"{x:.4f}" for x in vector[:SHOWN]) + " …")
        for n, (text, vector) in enumerate(zip(texts, vectors, strict=True), 1)
    ]
    parts = [terminal.table(("", "text", f"{vectors.shape[1]} numbers"), rows, left=3)]
    if 1 < len(texts) <= COMPARED:
        from edgeq.embed.vectors import unit

        cosines = unit(vectors) @ unit(vectors).T
        head = ("similarity", *(str(n) for n in range(1, len(texts) + 1)))
        lines = [(str(n), *(f"{x:.3f}" for x in row)) for n, row in enumerate(cosines, 1)]
        parts.append(terminal.table(head, lines))
    return "\n\n".join(parts)


def short(text: str) -> str:
    line = terminal.one_line(text)
    return line if len(line) <= CHARS else line[: CHARS - 1] + "…"


def write_npy(path: Path, vectors: np.ndarray) -> None:
    """float32 [texts, width] in NumPy's format; the file appears whole."""
    import io

    import numpy as np

    from edgeq.whole import write_whole

    data = io.BytesIO()
    np.save(data, vectors)
    try:
        write_whole(path, data.getvalue(), mode=0o666)
    except OSError as error:
        raise EdgeqError(f"{path} cannot be written: {error.strerror or error}") from None

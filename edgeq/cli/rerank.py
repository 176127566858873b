"""edgeq rerank: documents in the order in which they answer a query."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.embed import file_option, reading_options, short, told
from edgeq.cli.files import lines_of
from edgeq.cli.options import examples, model_and_words
from edgeq.errors import UsageError


@click.command(
    "rerank",
    epilog=examples(
        'edgeq rerank model.edgeq "Who sleeps?" "A cat sleeps." "A dog barks."',
        'edgeq rerank model.edgeq "Who sleeps?" -f lines.txt --top 5',
        'edgeq rerank model.edgeq "Who sleeps?" -f lines.txt --json',
    ),
)
@model_and_words("QUERY [DOCUMENT]...")
@file_option
@click.option("--instruction", metavar="TEXT", help="What is to be judged.  [default: the model's words]")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Tell of the best N.  [default: all]")
@reading_options
def command(
    model: str,
    words: tuple[str, ...],
    file: str | None,
    top: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Documents in the order in which they answer QUERY, with scores from 0 to 1: each DOCUMENT, and each
    line of FILE that is not empty.

    With --json, stdout gets one object whose results have index (from 0, as they were given), score and
    document of each."""
    if not words:
        raise UsageError("no query is given: name one behind the model")
    query, several = words[0], [*words[1:], *lines_of(file)]
    if not several:
        raise UsageError("no document is given: name documents, or a file of lines with -f")
    own = {name: options.pop(name) for name in ("instruction", "truncate")}
    status = terminal.Status(quiet)
    with engine.load(model, options, quiet=quiet) as loaded:
        scores = loaded.rerank(query, several, progress=told(status, "tokens"), **own)
        path = str(loaded.file.path)
    status.clear()
    best = sorted(range(len(several)), key=lambda n: (-scores[n], n))[:top]
    if as_json:
        results = [{"index": n, "score": float(scores[n]), "document": several[n]} for n in best]
        terminal.say_json({"model": path, "query": query, "results": results})
    else:
        rows = [(f"{scores[n]:.4f}", n + 1, short(several[n])) for n in best]
        terminal.say(terminal.table(("score", "", "document"), rows, left=3))

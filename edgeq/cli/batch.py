"""edgeq batch: answer a file of requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.hosted import stem
from edgeq.cli.options import (
    engine_options,
    examples,
    json_option,
    model_and_words,
    parallel_option,
    prompt_cache_options,
    quiet_option,
)
from edgeq.cli.template import template_file_option, template_given
from edgeq.errors import UsageError


@click.command(
    "batch",
    epilog=examples(
        "edgeq batch model.edgeq requests.jsonl -o answers.jsonl",
        "edgeq batch model.edgeq requests.jsonl -o answers.jsonl -np 32 -c 2048",
    ),
)
@model_and_words("IN.jsonl")
@click.option(
    "-o", "--output", required=True, type=click.Path(), metavar="FILE", help="Where the answers go."
)
@parallel_option(16)
@template_file_option
@engine_options()
@prompt_cache_options
@json_option
@quiet_option
def command(model: str, words: tuple[str, ...], **options: Any) -> None:
    """Answer the requests of IN.jsonl, each a line as OpenAI's batches have it: custom_id, url, body.

    Answers are appended to FILE as they end. Stopped and started again, it goes on with the requests that
    have no answer there. Needs the extra edgeq[serve]."""
    from edgeq.serve import check_extra

    check_extra()
    from edgeq.serve import batch
    from edgeq.serve.served import Served

    if len(words) != 1:
        raise UsageError(f"{len(words)} files of requests are given, but one is expected: IN.jsonl")
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    source, target = Path(words[0]), Path(options.pop("output"))
    parallel, template = options.pop("parallel"), template_given(options.pop("template_file"))
    for _ in batch.lines_of(source):  # before a model is loaded for them
        pass
    clock = engine.Clock()
    with engine.load(model, options, quiet=quiet) as loaded:
        served = Served(loaded, stem(loaded), template=template)
        done, refused, known = batch.run(served, source, target, parallel=parallel)
    if as_json:
        found = {"answered": done, "refused": refused, "answered_before": known, "seconds": clock.seconds}
        terminal.say_json({"output": str(target), **found})
    elif not quiet:
        before = f", {known} were answered before" if known else ""
        terminal.note(f"{done} answered, {refused} refused{before}, {clock.seconds:.1f} s")

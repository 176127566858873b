"""edgeq batch: answer a file of requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

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
from edgeq.errors import UsageError, printable

OF_WORKERS = {"model", "words", "output", "workers", "key_file", "parallel", "as_json", "quiet"}
SERVERS_MAX = 64


@click.command(
    "batch",
    epilog=examples(
        "edgeq batch model.edgeq requests.jsonl -o answers.jsonl",
        "edgeq batch model.edgeq requests.jsonl -o answers.jsonl -np 32 -c 2048",
        "edgeq batch in.jsonl -o out.jsonl --workers http://pi1:8080,http://pi2:8080",
    ),
)
@model_and_words("IN.jsonl")
@click.option(
    "-o", "--output", required=True, type=click.Path(), metavar="FILE", help="Where the answers go."
)
@click.option(
    "--workers",
    metavar="URL,URL",
    help="Let these servers answer, which `edgeq serve` made, and load no model here.",
)
@click.option(
    "--workers-key-file",
    "key_file",
    type=click.Path(),
    metavar="FILE",
    help="Their key, or one a line for each of them; else $EDGEQ_API_KEY.",
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
    have no answer there. With --workers there is no MODEL: each of the servers takes the next requests when
    it is ready for them, --parallel at a time, and what one does not end others answer. Needs the extra
    edgeq[serve]."""
    from edgeq.serve import check_extra

    check_extra()
    from edgeq.serve import batch

    urls, key_file = options.pop("workers"), options.pop("key_file")
    if urls is not None:
        check_workers_alone()
        words = (model, *words)
    elif key_file is not None:
        raise UsageError("--workers-key-file is for --workers URL,URL, and there are none")
    if len(words) != 1:
        raise UsageError(f"{len(words)} files of requests are given, but one is expected: IN.jsonl")
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    source, target = Path(words[0]), Path(options.pop("output"))
    parallel, template = options.pop("parallel"), template_given(options.pop("template_file"))
    for _ in batch.lines_of(source):  # before a model is loaded for them
        pass
    clock = engine.Clock()
    status = terminal.Status(quiet)

    def progress(done: int, refused: int, known: int) -> None:
        count = done + refused
        if status.moves:
            status.show(f"{count} requests, {refused} of them refused, {count / clock.seconds:.1f} a second")

    def note(line: str) -> None:
        status.clear()
        terminal.note(f"edgeq: warning: {line}")

    try:
        if urls is not None:
            from edgeq.serve import spread

            servers = spread.addresses(keyed(urls.split(","), key_file))
            done, refused, known = spread.run(
                servers, source, target, parallel=parallel, progress=progress, note=note
            )
        else:
            from edgeq.serve.served import Served

            with engine.load(model, options, quiet=quiet) as loaded:
                served = Served(loaded, stem(loaded), template=template)
                done, refused, known = batch.run(served, source, target, parallel=parallel, progress=progress)
    finally:
        status.clear()
    if as_json:
        found = {"answered": done, "refused": refused, "answered_before": known, "seconds": clock.seconds}
        terminal.say_json({"output": str(target), **found})
    elif not quiet:
        before = f", {known} were answered before" if known else ""
        terminal.note(f"{done} answered, {refused} refused{before}, {clock.seconds:.1f} s")


def check_workers_alone() -> None:
    """UsageError for an option that is the servers' to have."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in OF_WORKERS and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"{max(parameter.opts, key=len)} says how a model is run, and --workers run theirs as they "
                "were started: leave it out"
            )


def keyed(urls: Sequence[str], key_file: str | None) -> list[tuple[str, str | None]]:
    """Each URL and its key: the environment's, the file's one, or the file's one of its place."""
    from edgeq.serve.guard import Keys, keys_of
    from edgeq.serve.server import key_of_environment

    if len(urls) > SERVERS_MAX:
        raise UsageError(f"--workers names {len(urls)} servers, and {SERVERS_MAX} are the most")
    keys = key_of_environment() if key_file is None else keys_of(Path(key_file))
    Keys(keys)  # what could not be sent as one is told of
    if len(keys) not in ((0, 1) if key_file is None else (1, len(urls))):
        name = printable(str(key_file))
        raise UsageError(f"{name} has {len(keys)} keys for {len(urls)} workers: one for all, or one each")
    if len(keys) == len(urls):
        each: list[str | None] = [*keys]
    else:
        each = [keys[0] if keys else None] * len(urls)
    return [(url.strip(), key) for url, key in zip(urls, each, strict=True)]

"""edgeq run: continue a prompt."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.files import read_bytes
from edgeq.cli.options import (
    engine_options,
    generation_options,
    json_option,
    model_argument,
    quiet_option,
    sampling_options,
    sampling_values,
    take_escape,
)
from edgeq.errors import UsageError


@click.command("run")
@model_argument
@click.option("-p", "--prompt", help="The prompt.")
@click.option("-f", "--file", type=click.Path(), metavar="FILE", help="Take the prompt from FILE.")
@generation_options
@sampling_options
@engine_options()
@click.option(
    "--special", is_flag=True, help="Names of special tokens in the prompt are those tokens, not text."
)
@json_option
@quiet_option
def command(model: str, prompt: str | None, file: str | None, **options: Any) -> None:
    """Continue a prompt, given with -p, with -f or on stdin (one newline at the end of a file is no part of
    it).

    In what -p and --stop give, \\n is a line end and \\\\ a backslash, as in llama.cpp; --no-escape leaves it
    as it is. A file is always taken as it is.

    The text goes to stdout as it comes; timings go to stderr. With --json, stdout gets one object with text,
    ids, prompt_ids, finish_reason, seed and timings."""
    escape = take_escape(options)
    text = read_prompt(None if prompt is None else escape(prompt), file)
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    sampling = sampling_values(options)
    clock = engine.Clock()
    with engine.load(model, options, quiet=quiet) as loaded:
        load_seconds = clock.seconds
        from edgeq.generate import options_for, stream

        generation = stream(loaded, text, options=options_for(loaded, **sampling), **options)
        generation.timings.load_seconds = load_seconds
        with generation:
            if as_json:
                for _ in generation:
                    pass
                terminal.say_json(
                    {
                        "model": str(loaded.file.path),
                        "text": generation.text,
                        "ids": generation.ids,
                        "prompt_ids": generation.prompt_ids,
                        "finish_reason": generation.finish_reason,
                        "seed": generation.seed,
                        "timings": generation.timings.to_json(),
                    }
                )
            else:
                engine.show(generation)
        if not quiet:
            terminal.note(engine.timings_line(generation.timings, clock.seconds))


def read_prompt(prompt: str | None, file: str | None) -> str:
    """The prompt's text from -p, -f or stdin. Raises UsageError when there is none, two, or no UTF-8."""
    if prompt is not None and file is not None:
        raise UsageError("a prompt is given with -p and with -f: give one of them")
    if prompt is not None:
        data = prompt.encode("utf-8", "surrogateescape")
        return utf8(data, "the prompt")
    if file is not None and file != "-":
        data = read_bytes(file)
    elif sys.stdin is None or (file is None and sys.stdin.isatty()):
        raise UsageError("no prompt is given: use -p TEXT or -f FILE, or pipe text into stdin")
    else:
        data, file = sys.stdin.buffer.read(), "stdin"
    text = utf8(data, file)
    return text[:-1] if text.endswith("\n") else text


def utf8(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{what} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}"
        ) from None

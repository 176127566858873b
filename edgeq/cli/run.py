"""edgeq run: continue a prompt."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.drafting import draft_options, drafting, take_draft
from edgeq.cli.grammar import check_whole, grammar_options, take_form
from edgeq.cli.options import (
    engine_options,
    examples,
    generation_options,
    json_option,
    model_and_prompt,
    prompt_cache_options,
    quiet_option,
    take_escape,
)
from edgeq.cli.piped import read_prompt
from edgeq.cli.sampling import sampling_options, sampling_values


@click.command(
    "run",
    epilog=examples(
        'edgeq run model.edgeq "The capital of France is" -n 32',
        "edgeq run model.gguf -f story.txt --temp 0",
        'cat notes.txt | edgeq run model.edgeq -p "Summarize:"',
        "edgeq run model.edgeq --json -q < prompt.txt | jq .text",
        "edgeq run model.edgeq -f letter.txt --json-schema person.json -q | jq .name",
    ),
)
@model_and_prompt
@click.option(
    "-f", "--file", type=click.Path(), metavar="FILE", help="Take the prompt from FILE; - is stdin."
)
@generation_options
@sampling_options
@grammar_options
@draft_options
@engine_options()
@prompt_cache_options
@click.option(
    "--special", is_flag=True, help="Names of special tokens in the prompt are those tokens, not text."
)
@json_option
@quiet_option
def command(model: str, prompt: str | None, file: str | None, **options: Any) -> None:
    """Continue PROMPT, or the prompt given with -p, with -f or on stdin.

    What is piped into stdin beside a prompt follows it, after a newline where the prompt does not end in
    white space. One newline at the end of a file or of stdin is no part of it. In PROMPT and in what -p and
    --stop give, \\n is a line end and \\\\ a backslash, as in llama.cpp; --no-escape leaves it as it is. A
    file is always taken as it is.

    The text goes to stdout as it comes; timings go to stderr. With --json, stdout gets one object with text,
    ids, prompt_ids, finish_reason, seed and timings.

    With --json-schema, --grammar or --regex the text is what they ask for, or the exit code is not 0."""
    escape = take_escape(options)
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    text = read_prompt(None if prompt is None else escape(prompt), file, quiet=quiet)
    form = take_form(options)
    sampling = sampling_values(options)
    guesses, alike = take_draft(options), engine.alike(options)
    clock = engine.Clock()
    with (
        engine.load(model, options, quiet=quiet) as loaded,
        drafting(guesses, quiet=quiet, **alike) as draft,
    ):
        load_seconds = clock.seconds
        from edgeq.generate import held_to, options_for, stream

        mask = held_to(loaded, stop=options["stop"], ignore_eos=options["ignore_eos"], **form)
        drawn = options_for(loaded, **sampling)
        generation = stream(loaded, text, options=drawn, draft=draft, mask=mask, **options)
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
        check_whole(mask, generation.finish_reason)

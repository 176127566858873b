"""edgeq bench: tokens per second of prompt and of generation, and memory, for each number of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.options import (
    Numbers,
    context_option,
    engine_options,
    json_option,
    model_argument,
    quiet_option,
    take,
)
from edgeq.cli.sources import resolve

if TYPE_CHECKING:
    from edgeq.engine import Model
    from edgeq.evaluate import Throughput


@click.command("bench")
@model_argument
@click.option(
    "-p",
    "--n-prompt",
    "prompt",
    type=click.IntRange(0),
    metavar="N",
    default=256,
    help="Prompt tokens.  [default: 256]",
)
@click.option(
    "-n",
    "--n-gen",
    "generate",
    type=click.IntRange(0),
    metavar="N",
    default=64,
    help="Generated tokens.  [default: 64]",
)
@click.option(
    "-d",
    "--n-depth",
    "depth",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    help="Tokens before both.  [default: 0]",
)
@click.option(
    "-r",
    "--repetitions",
    type=click.IntRange(1),
    metavar="N",
    default=3,
    help="The median counts.  [default: 3]",
)
@engine_options(
    threads=click.option(
        "-t",
        "--threads",
        type=Numbers(),
        help="Numbers of threads, such as 1,2.  [default: this process's physical cores]",
    ),
    context=context_option("Tokens of context.  [default: those that are measured]"),
)
@json_option
@quiet_option
def command(model: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Measure MODEL: prompt and generated tokens per second, load time, peak memory.

    -t takes a list and measures each number of threads. A first turn that is not counted warms up. Peak
    memory is the highest of this process so far, pages of the mapped file included.
    """
    path = resolve(model, quiet=quiet)
    from edgeq.evaluate import throughput

    prompt, generate, depth = options["prompt"], options["generate"], options["depth"]
    numbers = take(options, "kv", "act")
    context = options["context"] or depth + max(prompt, generate, 1)

    status = terminal.Status(quiet)

    def load(threads: int | None) -> Model:
        model = engine.load_file(path, quiet=quiet, threads=threads, context=context, **numbers)
        numbers["kv"] = model.kv  # the file's, where none was named
        return model

    rows = throughput(
        load,
        threads=options["threads"] or (None,),
        prefill=prompt,
        decode=generate,
        depth=depth,
        repetitions=options["repetitions"],
        progress=lambda what, done, total: status.show(f"{what} {done} of {total}"),
    )
    status.clear()
    size = path.stat().st_size
    if as_json:
        facts = {"model": str(path), "bytes": size, **numbers}
        terminal.say_json({**facts, "rows": [row.to_json() for row in rows]})
    else:
        terminal.say(f"{path.name}, {terminal.size(size)}, kv {numbers['kv']}, act {numbers['act']}")
        terminal.say(report(rows, prompt, generate, depth))


def report(rows: list[Throughput], prompt: int, generate: int, depth: int) -> str:
    """The table of medians, tokens per second."""
    at = f" at {depth}" if depth else ""
    head = (
        "threads", f"prompt {prompt}{at}", f"generate {generate}{at}", "GB/s", "load s", "peak memory",
    )  # fmt: skip
    return terminal.table(
        head,
        [
            (
                row.threads,
                f"{row.prefill.median:.1f}/s" if row.prefill else "-",
                f"{row.decode.median:.2f}/s" if row.decode else "-",
                f"{row.decode_gbps:.1f}" if row.decode_gbps is not None else "-",
                f"{row.load_seconds:.2f}" if row.load_seconds is not None else "-",
                terminal.size(row.peak_rss_bytes) if row.peak_rss_bytes is not None else "-",
            )
            for row in rows
        ],
        left=0,
    )

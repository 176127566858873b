"""edgeq bench: tokens per second of prompt and of generation, and memory, for each number of threads."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import terminal
from edgeq.cli.options import Numbers, engine_options, json_option, model_argument, quiet_option
from edgeq.cli.sources import resolve
from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.engine import Model


@click.command("bench")
@model_argument
@click.option(
    "-p",
    "--n-prompt",
    "prompt",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Prompt tokens.",
)
@click.option(
    "-n",
    "--n-gen",
    "generate",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Generated tokens.",
)
@click.option(
    "-r", "--repetitions", type=click.IntRange(1), default=3, show_default=True, help="The median counts."
)
@engine_options(click.option("-t", "--threads", type=Numbers(), help="Numbers of threads, such as 1,2."))
@json_option
@quiet_option
def command(
    model: str, prompt: int, generate: int, repetitions: int, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Measure MODEL: prompt tokens per second, generated tokens per second, load time, peak memory.

    -t takes a list such as 1,2 and measures each. A first, unmeasured turn warms up. Peak memory is this
    process's largest resident set in that row, the mapped file included."""
    path = resolve(model, quiet=quiet)
    threads = options.pop("threads") or [None]
    context = options.pop("context") or prompt + generate
    if context < prompt + generate:
        raise UsageError(f"-c {context} is too small for {prompt} prompt and {generate} generated tokens")
    rows = []
    for count in threads:
        rows.append(measure(path, prompt, generate, repetitions, count, context, options))
        if not quiet and not as_json and len(threads) > 1:
            terminal.note(f"{rows[-1]['threads']} threads measured")
    if as_json:
        terminal.say_json(
            {
                "model": str(path),
                "bytes": path.stat().st_size,
                "prompt_tokens": prompt,
                "generated_tokens": generate,
                "repetitions": repetitions,
                **options,
                "rows": rows,
            }
        )
        return
    head = (
        "threads",
        f"prompt {prompt} (tokens/s)",
        f"generate {generate} (tokens/s)",
        "load (s)",
        "peak memory",
    )
    cells = [
        (
            row["threads"],
            f"{row['prompt_tps']:.1f}",
            f"{row['generate_tps']:.2f}",
            f"{row['load_seconds']:.2f}",
            terminal.size(row["peak_bytes"]),
        )
        for row in rows
    ]
    terminal.say(
        f"{path.name}, {terminal.size(path.stat().st_size)}, kv {options['kv']}, act {options['act']}, "
        f"median of {repetitions}"
    )
    terminal.say(terminal.table(head, cells, left=0))


def measure(
    path: Path,
    prompt: int,
    generate: int,
    repetitions: int,
    threads: int | None,
    context: int,
    options: dict[str, Any],
) -> dict[str, Any]:
    """One row: the medians of `repetitions` turns with `threads` threads."""
    import edgeq

    forget_peak()
    start = time.perf_counter()
    with edgeq.load(path, threads=threads, context=context, **options) as model:
        loaded = time.perf_counter() - start
        turn(model, min(prompt, 32), min(generate, 4))
        turns = [turn(model, prompt, generate) for _ in range(repetitions)]
        return {
            "threads": model.threads,
            "prompt_tps": statistics.median(prompt / times[0] for times in turns),
            "generate_tps": statistics.median(generate / times[1] for times in turns),
            "load_seconds": loaded,
            "peak_bytes": peak_memory(),
        }


def turn(model: Model, prompt: int, generate: int) -> tuple[float, float]:
    """Seconds for a prompt of mixed tokens and for `generate` single tokens after it, each the likeliest."""
    ids = [(7919 * i + 13) % model.vocab_size for i in range(prompt)]
    sequence = model.sequence()
    try:
        start = time.perf_counter()
        logits = sequence.feed(ids)
        middle = time.perf_counter()
        for _ in range(generate):
            logits = sequence.feed([int(logits.argmax())])
        return middle - start, time.perf_counter() - middle
    finally:
        sequence.close()


def forget_peak() -> None:
    """Begin the kernel's record of peak memory anew, where there is a way (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes of the largest resident set of this process since `forget_peak` (or since its start)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

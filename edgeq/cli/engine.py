"""Between the commands and the engine: load a model as the options say, stream a generation, tell its
timings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edgeq.cli import terminal
from edgeq.cli.options import take
from edgeq.cli.sources import resolve

if TYPE_CHECKING:
    from edgeq.engine import Model
    from edgeq.generate import Generation, Timings

ENGINE = ("context", "threads", "kv", "act")


def load(model: str, options: dict[str, Any], *, quiet: bool = False) -> Model:
    """The model that a command names, converted on the way if it must be; takes the engine's options out of
    `options`."""
    chosen = take(options, *ENGINE)
    chosen["context"] = chosen["context"] or None
    path = resolve(model, quiet=quiet)
    import edgeq

    return edgeq.load(path, **chosen)


def timings_line(timings: Timings, total_seconds: float) -> str:
    """What a generation took, as one line for a person."""
    parts = []
    if timings.load_seconds is not None:
        parts.append(f"load {timings.load_seconds:.2f} s")
    parts.append(f"prompt {timings.prompt_tokens} tokens, {timings.prompt_tokens_per_second:.1f}/s")
    parts.append(f"generated {timings.generated_tokens} tokens, {timings.generated_tokens_per_second:.1f}/s")
    parts.append(f"total {total_seconds:.2f} s")
    return " | ".join(parts)


def show(generation: Generation) -> str:
    """Stream a generation to stdout, end with a newline, and return its text."""
    for piece in generation:
        terminal.write(piece)
    if not generation.text.endswith("\n"):
        terminal.write("\n")
    return generation.text


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

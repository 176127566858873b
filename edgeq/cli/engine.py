"""Between the commands and the engine: load a model, stream a generation, tell its timings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.cli import terminal
from edgeq.cli.options import take
from edgeq.cli.sources import resolve

if TYPE_CHECKING:
    from edgeq.engine import Model
    from edgeq.generate import Generation, Timings

ENGINE = ("context", "threads", "kv", "act")
CACHES = ("prompt_cache", "prompt_cache_size", "prompt_cache_ro", "cache_memory")  # where a command has them


def load(model: str, options: dict[str, Any], *, quiet: bool = False, keep: bool = False) -> Model:
    """The model that a command names, converted on the way if it must be (`keep`: see sources.resolve).

    Takes the engine's options out of `options`.
    """
    chosen = take(options, *ENGINE)
    kept = {name: options.pop(name, None) for name in CACHES}
    chosen |= {name: value for name, value in kept.items() if value is not None and value is not False}
    return load_file(resolve(model, quiet=quiet, keep=keep), quiet=quiet, **chosen)


def alike(options: dict[str, Any]) -> dict[str, Any]:
    """The engine's options among a command's that count for a second model too."""
    return {name: options[name] for name in ENGINE if name != "context"}


def load_file(path: Path, *, quiet: bool = False, **options: Any) -> Model:
    """edgeq.load with a line on stderr while kernels are compiled."""
    import edgeq

    compiling = Compiling(quiet)
    model = edgeq.load(path, progress=compiling, **options)
    compiling.end()
    return model


class Compiling:
    """Tells of kernels being compiled, here or by another process that is waited for: a moving line on a
    terminal, a line before and after elsewhere.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._status = terminal.Status(quiet)
        self._clock: Clock | None = None
        self._total = 0

    def __call__(self, done: int, total: int, kernel: str) -> None:
        from edgeq.packs.store import WAITING

        if kernel == WAITING:
            if not self._quiet and not self._status.moves:
                terminal.note(kernel)
            self._status.show(kernel)
            return
        if self._clock is None and not self._quiet and not self._status.moves:
            terminal.note(f"compiling {kernels(total)} for this processor, once")
        self._clock, self._total = self._clock or Clock(), total
        self._status.show(f"compiling for this processor, once: {done + 1} of {total}, {kernel}")

    def end(self) -> None:
        self._status.clear()
        if self._clock is not None and not self._quiet:
            terminal.note(f"compiled {kernels(self._total)} in {self._clock.seconds:.1f} s")


def kernels(count: int) -> str:
    return "1 kernel" if count == 1 else f"{count} kernels"


def timings_line(timings: Timings, total_seconds: float) -> str:
    """What a generation took, as one line for a person."""
    parts = []
    if timings.load_seconds is not None:
        parts.append(f"load {timings.load_seconds:.2f} s")
    parts.append(f"prompt {timings.prompt_tokens} tokens, {timings.prompt_tokens_per_second:.1f}/s")
    parts.append(f"generated {timings.generated_tokens} tokens, {timings.generated_tokens_per_second:.1f}/s")
    if timings.draft_tokens:
        parts.append(f"guessed {timings.accepted_tokens} of {timings.draft_tokens}")
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

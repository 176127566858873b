"""The models of a server: opened one after the other, within the memory that there is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.cli import engine
from edgeq.cli.drafting import PROMPT, drafting
from edgeq.cli.sources import resolve
from edgeq.errors import OutOfMemoryError, UsageError, size

if TYPE_CHECKING:
    from edgeq.engine import Model
    from edgeq.serve.server import Loaded

NAME_CHARS_MAX = 128


def check_aliases(aliases: Sequence[str], count: int) -> None:
    """UsageError unless each is a name, and there is one for each of so many models, or none."""
    for alias in aliases:
        if not (0 < len(alias) <= NAME_CHARS_MAX and alias.isprintable()):
            raise UsageError(f"--alias must be 1 to {NAME_CHARS_MAX} printable characters")
    if aliases and len(aliases) != count:
        raise UsageError(
            f"--alias is given {len(aliases)} times for {count} model{'s' if count > 1 else ''}: give it "
            "once for each, in their order"
        )


def opened(
    models: Sequence[str],
    aliases: Sequence[str],
    options: dict[str, Any],
    guesses: dict[str, Any],
    *,
    quiet: bool,
    stack: ExitStack,
) -> list[Loaded]:
    """The models with their names, and what guesses their texts; that is closed with `stack`, and the models
    by whoever serves them. options: the engine's. guesses: as `take_draft` gives them. OutOfMemoryError where
    several together are more than the machine has, before any of them is opened.
    """
    from edgeq.cores import free_memory
    from edgeq.serve.server import Loaded

    paths = [resolve(model, quiet=quiet) for model in models]
    if len(paths) > 1:
        options = {**options, "cache_memory": share(paths, free_memory(), options.get("cache_memory"))}
    alike = engine.alike(options)
    draft = stack.enter_context(drafting(guesses, quiet=quiet, **alike))
    loaded: list[Loaded] = []
    try:
        for n, path in enumerate(paths):
            model = engine.load(str(path), dict(options), quiet=quiet)
            loaded.append(Loaded(aliases[n] if aliases else stem(model), model, draft))
    except BaseException:
        for each in loaded:
            each.model.close()
        raise
    return loaded


def stem(model: Model) -> str:
    """What a model is called that nobody named."""
    return Path(model.file.path).stem


def share(paths: Sequence[Path], free: int, asked: int | None) -> int:
    """Bytes of one model's caches where several are served: equal parts of what is asked for, else of a
    quarter of what their weights leave. OutOfMemoryError where these do not fit."""
    needed = sum(path.stat().st_size for path in paths) + (asked or 0)
    if needed > free:
        more = " with their caches" if asked else ""
        raise OutOfMemoryError(
            f"{len(paths)} models need {size(needed)}{more}, but the machine "
            f"has {size(free)} of memory free: serve fewer, or smaller ones"
        )
    return (asked if asked is not None else (free - needed) // 4) // len(paths)


def check_draft(guesses: dict[str, Any], count: int) -> None:
    """UsageError for a small model that would have to guess for several."""
    if count > 1 and guesses["name"] not in (None, PROMPT):
        raise UsageError(
            f"--draft {guesses['name']} guesses for one model, and {count} are served: --draft prompt does "
            "for any"
        )

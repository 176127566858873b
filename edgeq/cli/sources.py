"""What a command's MODEL is, with what a person sees while it is fetched or converted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeq import library
from edgeq.cli import terminal
from edgeq.hub import Snapshot
from edgeq.library.find import Progress, growth


def resolve(model: str, *, quiet: bool = False, keep: bool = False) -> Path:
    """`library.resolve` with its lines and its progress on stderr."""
    return converted(located(model, quiet=quiet), quiet=quiet, keep=keep)


def located(model: str, *, quiet: bool = False, refresh: bool = False) -> Path | Snapshot:
    """`library.locate` with its lines and its progress on stderr."""
    with progress_bar(quiet, "fetch") as progress:
        tell = None if quiet else terminal.note
        return library.locate(model, refresh=refresh, tell=tell, progress=progress)


def converted(source: Path | Snapshot, *, quiet: bool = False, keep: bool = False) -> Path:
    """`library.resolve` of what is on this machine."""
    with progress_bar(quiet, "convert") as progress:
        return library.resolve(source, keep=keep, tell=None if quiet else terminal.note, progress=progress)


def output_name(source: str) -> str:
    """The name of the .edgeq file that is made of a source where the person names none."""
    name = library.hub_name(source)
    if name is None:
        return Path(source.rstrip("/\\")).name.removesuffix(".gguf") + ".edgeq"
    if name.file is not None:
        return Path(name.file).stem + ".edgeq"
    return name.repository.partition("/")[2] + (f"-{name.type}" if name.type else "") + ".edgeq"


def tell_growth(output: int, source: int) -> None:
    """Say what the result takes where that is notably more than what it is made from."""
    if line := growth(output, source):
        terminal.note(line)


@contextmanager
def progress_bar(quiet: bool, what: str) -> Iterator[Progress | None]:
    """A tqdm bar on stderr as a `progress(done, total, name)` callback, there from its first call on; None
    where nobody would see it move.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bar: Any = None

    def progress(done: int, total: int, name: str) -> None:
        nonlocal bar
        if bar is None:
            from tqdm import tqdm

            bar = tqdm(
                total=0,
                desc=what,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
            )
        bar.total = total
        bar.set_postfix_str(terminal.one_line(name), refresh=False)
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()

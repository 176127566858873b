"""What was converted and kept: the folder's files, when each was last used, and a limit on what they take.

A file's time of access says when it was last used: edgeq sets it at each use, so mounts that do not keep it
(noatime) do no harm. A file that goes while a process has it mapped stays whole for that process."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import EdgeqError, UsageError, shown, size
from edgeq.sizes import bytes_in

LIMIT_MAX = 50 * 10**9  # bytes, where EDGEQ_CACHE_LIMIT says nothing
DISK_SHARE = 4  # and no more than a quarter of the disk
# what library.find.cached_path makes: source's name, scheme, source's path and its state
NAME = re.compile(r"(.+-[a-z0-9_]+)-([0-9a-f]{12})-[0-9a-f]{12}")

in_use: set[Path] = set()  # by this process


@dataclass(frozen=True)
class Kept:
    """A converted model in the cache. name: what `edgeq rm` takes; used: seconds since the epoch."""

    name: str
    path: Path
    nbytes: int
    used: float


def entries(folder: Path) -> list[Kept]:
    """The converted models in a folder, the one used last first; none where there is no folder."""
    found = []
    for path in folder.glob("*.edgeq"):
        with suppress(OSError):  # another process removed it
            facts = path.stat()
            found.append((path, facts.st_size, facts.st_atime))
    short = Counter(short_name(path) for path, _, _ in found)
    made = [
        Kept(short_name(path, full=short[short_name(path)] > 1), path, nbytes, used)
        for path, nbytes, used in found
    ]
    return sorted(made, key=lambda entry: (-entry.used, entry.name))


def short_name(path: Path, full: bool = False) -> str:
    """A file's name for people, as model-q4; with the source's hash where that is not enough."""
    match = NAME.fullmatch(path.stem)
    if match is None:
        return path.stem
    return f"{match[1]}-{match[2]}" if full else match[1]


def origin(entry: Kept) -> tuple[str, str]:
    """(source, scheme) as the header has them; empty where it is damaged or has none. To look is no use."""
    from edgeq.formats import open_model

    try:
        facts = entry.path.stat()
        with open_model(entry.path) as file:
            source = file.header.get("source") or {}
        os.utime(entry.path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    except (EdgeqError, OSError):
        return "", ""
    return str(source.get("name") or ""), str(source.get("recipe") or "")


def named(folder: Path, names: Iterable[str]) -> list[Kept]:
    """The models that these names mean: what `entries` calls them, a file's name or path, or the source's
    name. UsageError for a name of none, or of several; nothing is removed by then."""
    there, chosen = entries(folder), dict[Path, Kept]()
    for name in names:
        found = [entry for entry in there if name in (entry.name, entry.path.name, os.fspath(entry.path))]
        if name and not found:  # a file without a source has "" for one
            found = [entry for entry in there if name in (short_name(entry.path), origin(entry)[0])]
        if not found:
            raise UsageError(f"no converted model is called {shown(name)}: `edgeq list` shows the names")
        if len(found) > 1:
            words = ", ".join(entry.name for entry in found)
            raise UsageError(f"{shown(name)} means {len(found)} converted models: name one of {words}")
        chosen[found[0].path] = found[0]
    return list(chosen.values())


def remove(chosen: Iterable[Kept]) -> int:
    """Remove these, and return the bytes that they took. EdgeqError for the first that cannot be removed."""
    freed = 0
    for entry in chosen:
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            raise EdgeqError(f"{entry.path} cannot be removed: {error.strerror or error}") from None
        freed += entry.nbytes
    return freed


def clean(folder: Path) -> None:
    """Remove what conversions that were killed left in the folder; one that goes on is left alone."""
    from edgeq.formats.temporary import sweep

    sweep(folder)


def use(path: Path) -> None:
    """Note that this process uses a file from now on."""
    in_use.add(path)
    with suppress(OSError):  # of another user, or on a disk that cannot be written
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def limit_of(folder: Path) -> int | None:
    """Bytes that the folder's files may take, None without a limit: what EDGEQ_CACHE_LIMIT says, else a
    quarter of the disk and at most 50 GB. UsageError where it says no size."""
    given = os.environ.get("EDGEQ_CACHE_LIMIT")
    if given:
        count = bytes_in(given)
        if count is None:
            raise UsageError(
                f"EDGEQ_CACHE_LIMIT is {shown(given)}, but must be a size such as 20G, or 0 for no limit"
            )
        return count or None
    try:
        return min(LIMIT_MAX, shutil.disk_usage(folder).total // DISK_SHARE)
    except OSError:
        return LIMIT_MAX


def make_room(folder: Path, wanted: int, tell: Callable[[str], object]) -> None:
    """Before a file of `wanted` bytes comes: remove those used least recently until all stay within the
    limit, but none that this process uses. What killed writers left behind goes too.

    tell(line) is called when models are removed.
    """
    clean(folder)
    limit = limit_of(folder)
    if limit is None:
        return
    there = entries(folder)
    over = wanted + sum(entry.nbytes for entry in there) - limit
    gone, freed = [], 0
    for entry in reversed(there):
        if freed >= over:
            break
        if entry.path in in_use:
            continue
        with suppress(EdgeqError):  # it takes room, but what was asked for can be done
            freed += remove([entry])
            gone.append(entry.name)
    if gone:
        tell(
            f"removed {', '.join(gone)} ({size(freed)}), used least recently, to keep the converted models "
            f"within {size(limit)} (EDGEQ_CACHE_LIMIT)"
        )

"""edgeq list: the converted models that are kept."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from edgeq.cli import terminal
from edgeq.cli.options import json_option, quiet_option
from edgeq.library import kept
from edgeq.library.find import cache_directory


@click.command("list")
@json_option
@quiet_option
def command(as_json: bool, quiet: bool) -> None:
    """List the converted models that are kept: name, source, scheme, bytes, and when it was used last.

    A model that is no .edgeq file is converted once, into a folder of the cache. Where its files would take
    more than EDGEQ_CACHE_LIMIT (such as 20G; 0 is no limit; a quarter of the disk, and at most 50 GB, where
    it is not set), those used least recently go before another is converted.
    """
    folder = cache_directory()
    there, limit = kept.entries(folder), kept.limit_of(folder)
    origins = [kept.origin(entry) for entry in there]
    total = sum(entry.nbytes for entry in there)
    if as_json:
        rows = [
            {
                "name": entry.name,
                "file": str(entry.path),
                "source": source,
                "scheme": scheme,
                "bytes": entry.nbytes,
                "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
            }
            for entry, (source, scheme) in zip(there, origins, strict=True)
        ]
        terminal.say_json({"folder": str(folder), "bytes": total, "limit": limit, "models": rows})
        return
    if there:
        cells = [
            [entry.name, *origin, terminal.size(entry.nbytes), day(entry.used)]
            for entry, origin in zip(there, origins, strict=True)
        ]
        terminal.say(terminal.table(["name", "source", "scheme", "size", "last used"], cells, left=3))
    if not quiet:
        most = f", of {terminal.size(limit)} at the most" if limit is not None else ""
        what = f"{len(there)} converted model{'' if len(there) == 1 else 's'}"
        terminal.note(f"{what} in {folder}, {terminal.size(total)}{most}")


def day(seconds: float) -> str:
    """A time of the local clock, to the minute."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")

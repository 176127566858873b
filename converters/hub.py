"""The source `hub`: a checkpoint or a GGUF file on the Hugging Face hub, fetched by `edgeq.hub` and read as
what it is."""

from __future__ import annotations

from dataclasses import replace

from edgeq.converters.gguf import open_file
from edgeq.converters.huggingface import open_directory
from edgeq.converters.source import Source
from edgeq.errors import UnsupportedError
from edgeq.hub import Snapshot, fetch, parse


def open_hub(name: str) -> Source:
    """Fetch what is not in the hub's cache yet and open it; NetworkError or UnsupportedError says why that
    cannot be."""
    found = parse(name)
    if found is None:
        raise UnsupportedError(
            f"{name!r:.120} is neither a file, nor a directory, nor a hub name like OWNER/NAME"
        )
    return open_snapshot(fetch(found))


def open_snapshot(snapshot: Snapshot) -> Source:
    """Open what was fetched: the source says the repository and the commit, not where its files are kept."""
    if snapshot.file is None:
        return open_directory(snapshot.path, kind="hub", name=snapshot.repository, revision=snapshot.commit)
    name = f"{snapshot.repository}/{snapshot.file}"
    return replace(open_file(snapshot.path), name=name, revision=snapshot.commit)

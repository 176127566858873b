"""What a model keeps of prompts that it computed, for those that begin alike: in memory, and in a folder."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import __version__
from edgeq.cache import PageLayout
from edgeq.kernels import sources
from edgeq.prefix import Folder, Prefixes, identity

if TYPE_CHECKING:
    from edgeq.engine import Model

CODE = ("cache", "models", "ops", "runtime")  # besides the kernels, what the bits of a page come from


def prefixes_of(
    model: Model, folder: str | os.PathLike[str] | None, limit: int | None, writable: bool
) -> Prefixes:
    """The prefixes of a model; with a folder also those that other processes left there. limit: bytes of the
    folder. UsageError where it cannot be had.
    """
    layout, kept = PageLayout(model.cache), None
    if folder is not None:
        rotation = model.config.table(model.context)
        told = identity(model.file, act=model.act, plan=layout.describe(), rotation=rotation, code=code())
        bounds = {} if limit is None else {"limit": limit}
        kept = Folder(folder, told, layout, writable=writable, **bounds)
    return Prefixes(model.pool, layout, folder=kept)


@cache
def code() -> str:
    """A digest of all code that settles the bits of keys and values."""
    found = hashlib.sha256(f"{__version__} {sources.digest()}".encode())
    for part in CODE:
        for path in sorted((Path(__file__).parent / part).rglob("*.py")):
            found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()

"""Offsets in a worker's scratch as compile-time constants of a tag: see `catalog.Scratch`."""

from __future__ import annotations

from edgeq.simd.tag import Tag
from edgeq.simd.verbs.facts import fact

from .catalog import Scratch


@fact
def scratch_p(tag: Tag) -> int:
    """Of the numbers that multiply values."""
    return Scratch(tag.tokens, 0).p


@fact
def scratch_tiles(tag: Tag) -> int:
    """Of the tiles."""
    return Scratch(tag.tokens, 0).tiles

"""Offsets in a worker's scratch as compile-time constants of a tag: see `catalog.Scratch`."""

from __future__ import annotations

from edgeq.simd.tag import Tag
from edgeq.simd.verbs.facts import fact

from .catalog import Scratch


@fact
def scratch_p(tag: Tag) -> int:
    """Of the weights of keys."""
    return Scratch(tag.tokens, 0).p


@fact
def scratch_p_scale(tag: Tag) -> int:
    """Of the scales of those weights."""
    return Scratch(tag.tokens, 0).p_scale


@fact
def scratch_tiles(tag: Tag) -> int:
    """Of the tiles."""
    return Scratch(tag.tokens, 0).tiles

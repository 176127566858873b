"""Offsets in a worker's scratch as compile-time constants of a tag: see `catalog.Scratch`."""

from __future__ import annotations

from edgeq.simd.verbs.facts import fact

from .catalog import Scratch


def scratch_p(t): ...
def scratch_p_scale(t): ...
def scratch_tiles(t): ...


fact(scratch_p, lambda tag: Scratch(tag.tokens, 0).p)
fact(scratch_p_scale, lambda tag: Scratch(tag.tokens, 0).p_scale)
fact(scratch_tiles, lambda tag: Scratch(tag.tokens, 0).tiles)

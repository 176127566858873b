"""Bringing any numbers into a scheme: by rounding where it has a rule, or by a search for its scales.

Needs no data but the weights. Light to import: numba comes with the first block of a search.
"""

from __future__ import annotations

from edgeq.formats import Parts, Rounding, Scheme, round_block
from edgeq.formats.schemes import ACT_GROUP, SUBS, Array, rounds_to


def rounding_of(scheme: Scheme) -> Rounding | None:
    """How a block of rows is brought into a scheme of codes; None where nothing does it."""
    if rounds_to(scheme):
        return round_block
    if scheme.scale or scheme.min or not scheme.row:
        return None
    if scheme.sub and scheme.sub.columns == ACT_GROUP and not SUBS[scheme.sub.kind].submin:
        return _search
    return _ternary if not scheme.sub and scheme.values[0, :3].tolist() == [-1, 0, 1] else None


def _search(x: Array, scheme: Scheme) -> Parts:
    from .search import search

    return search(x, scheme)


def _ternary(x: Array, scheme: Scheme) -> Parts:
    from .ternary import ternary

    return ternary(x, scheme)

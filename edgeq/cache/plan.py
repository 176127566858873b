"""What a page holds: the layers that a model's program writes to the cache, one after another.

Layers whose queries see equally far back share pages: a *group*. A page of a group with a window is of no
more use once all that it holds is behind the window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from edgeq.formats.layout import round_up
from edgeq.kernels.catalog import CHUNK

from .kinds import Kind

ALIGNMENT = 64  # of each part


class LayerShape(NamedTuple):
    """What a layer keeps of each token, and how far back its queries see: `window` positions, all if 0."""

    kv_heads: int
    head_dim: int
    window: int = 0


@dataclass(eq=False)
class Group:
    """Layers whose queries see `window` positions, all if that is 0."""

    number: int
    window: int
    nbytes: int = 0  # of a page

    def seen_from(self, position: int) -> int:
        """The number of the first page that is read at a position or behind it."""
        return max(0, position - self.window + 1) // CHUNK if self.window else 0


@dataclass(frozen=True, eq=False)
class CacheLayer:
    """Keys and values of a layer, on whatever pages a sequence has: [kv_heads, CHUNK, head_dim] each."""

    kind: Kind
    group: Group
    kv_heads: int
    head_dim: int
    words: tuple[int, ...]  # where its parts begin on a page
    ends: tuple[int, ...]  # where they end
    pages_at: int  # bytes before the group's pages in the list of a sequence's

    @property
    def scheme(self) -> str:
        return self.kind.scheme

    @property
    def window(self) -> int:
        return self.group.window


@dataclass(eq=False)
class Plan:
    """Made while a program is recorded; `context` positions is a sequence at the most."""

    kind: Kind
    context: int
    groups: list[Group] = field(default_factory=list)

    @classmethod
    def of(cls, kind: Kind, context: int, layers: Iterable[LayerShape]) -> Plan:
        """For such layers."""
        plan = cls(kind, context)
        for layer in layers:
            plan.layer(layer)
        return plan

    def layer(self, shape: LayerShape) -> CacheLayer:
        """Room for one more."""
        group = next((g for g in self.groups if g.window == shape.window), None)
        if group is None:
            group = Group(len(self.groups), shape.window)
            self.groups.append(group)
        words, ends = [], []
        for nbytes in self.kind.parts(shape.kv_heads, shape.head_dim).values():
            words.append(group.nbytes)
            ends.append(group.nbytes + nbytes)
            group.nbytes = round_up(ends[-1], ALIGNMENT)
        at = group.number * self.pages * 8
        return CacheLayer(self.kind, group, shape.kv_heads, shape.head_dim, tuple(words), tuple(ends), at)

    @property
    def pages(self) -> int:
        """Of a group, that a sequence has at the most."""
        return -(-self.context // CHUNK)

    @property
    def page_bytes(self) -> int:
        """Of CHUNK positions of all layers."""
        return sum(group.nbytes for group in self.groups)

    @property
    def token_bytes(self) -> int:
        """Of one position of all layers."""
        return self.page_bytes // CHUNK

    @property
    def context_bytes(self) -> int:
        """Of as many pages as one sequence has at the most at one time, while a pass adds to it."""
        return sum(group.nbytes * min(self.pages, _held(group)) for group in self.groups)

    def bytes_for(self, tokens: int) -> int:
        """Of the pages of a sequence of so many tokens, in all groups."""
        count = -(-tokens // CHUNK)
        return sum(group.nbytes * min(count, _held(group)) for group in self.groups)


def _held(group: Group) -> int:
    """Pages of a group that a sequence has at the most: what a window and a pass behind it reach over."""
    return -(-(group.window + PASS) // CHUNK) + 1 if group.window else 1 << 40


PASS = 256  # rows of a pass at the most

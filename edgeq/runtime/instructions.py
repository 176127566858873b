"""What a program is made of: an instruction is a kernel with what it is given, as its words.

Words are numbers and addresses, or what gets its address later: buffers of the arena, and parts of a cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.cache import CacheShape
from edgeq.kernels.catalog import KERNELS
from edgeq.kernels.roles import Const, Weight
from edgeq.simd.tag import Tag

from .arena import Buffer


@dataclass(frozen=True)
class OfCache:
    """A word that is an address in the bound sequence's cache."""

    layer: int
    part: str


@dataclass(frozen=True)
class CacheLayer:
    """Keys and values of a layer in whatever cache is bound, [kv_heads, capacity, head_dim] each."""

    shape: CacheShape
    layer: int

    @property
    def scheme(self) -> str:
        return self.shape.kind

    @property
    def kv_heads(self) -> int:
        return self.shape.kv_heads

    @property
    def head_dim(self) -> int:
        return self.shape.head_dim

    @property
    def capacity(self) -> int:
        return self.shape.capacity

    @property
    def words(self) -> tuple[OfCache, ...]:
        return tuple(OfCache(self.layer, part) for part in self.shape.parts)


Shared = Buffer | OfCache  # what instructions share, so that they may have to wait for each other
Word = int | Shared


def called(kernel: str, given: Mapping[str, Any]) -> str:
    """The kernel and the weight that it is given, for messages."""
    for role in KERNELS[kernel].roles:
        name = getattr(given.get(role.name), "name", "") if isinstance(role, Weight | Const) else ""
        if name:
            return f"{kernel} of {name}"
    return kernel


@dataclass
class Instruction:
    """A kernel for a tag; what it is given, by role; its words by their names in the catalog."""

    kernel: str
    tag: Tag
    given: Mapping[str, Any]
    operands: Mapping[str, Word]
    reads: list[Shared]
    writes: list[Shared]
    barrier: bool = False  # the pool meets after it
    phase: int = 0

    def __str__(self) -> str:
        return called(self.kernel, self.given)

    @property
    def touches(self) -> list[Shared]:
        return [*self.reads, *self.writes]

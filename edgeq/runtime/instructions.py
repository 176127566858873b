"""What a program is made of: an instruction is a kernel with what it is given, as its words.

Words are numbers and addresses, or buffers of the arena, which get their addresses later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.cache import CacheLayer, StateLayer
from edgeq.kernels.roles import Const, Weight
from edgeq.kernels.table import KERNELS
from edgeq.simd.tag import Tag

from .arena import Buffer, Place

# what instructions share, so that they may have to wait for each other
Shared = Buffer | CacheLayer | StateLayer
Word = int | Buffer | Place


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
    outputs: bool = False  # whether its rows are those of the pass's outputs
    barrier: bool = False  # the pool meets after it
    phase: int = 0

    def __str__(self) -> str:
        return called(self.kernel, self.given)

    @property
    def touches(self) -> list[Shared]:
        return [*self.reads, *self.writes]

"""What a program is made of: instructions with their operands, checked against the memory there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.kernels.catalog import KERNELS, OPERANDS_AT
from edgeq.runtime import extents
from edgeq.runtime.arena import Buffer
from edgeq.simd.tag import Tag


@dataclass(frozen=True)
class OfCache:
    """An operand that is an address in the bound sequence's cache."""

    layer: int
    part: str


@dataclass
class Instruction:
    kernel: str
    tag: Tag
    operands: dict[str, Any]
    touches: list[Buffer | OfCache]
    barrier: bool = False
    phase: int = 0


def check(
    instructions: Sequence[Instruction], code: np.ndarray, sizes: extents.Sizes, *, cached: bool
) -> None:
    """UsageError where an instruction reaches beyond its buffers, or with `cached` beyond the cache's. With
    memory checked only; code holds their numbers.
    """
    for i, row in zip(instructions, code.tolist(), strict=True):
        numbers = dict(zip(KERNELS[i.kernel].operands, row[OPERANDS_AT // 8 :], strict=False))
        call = extents.Call(numbers, i.tag.scheme, i.tag.tokens, sizes)
        for name, nbytes in extents.of(i.kernel, call).items():
            if isinstance(i.operands[name], OfCache) == cached:
                memory.require(numbers[name], nbytes, f"{i.kernel}'s operand {name}")

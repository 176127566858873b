"""The KV cache of one sequence: its kinds, their sizes, and the memory. `kernels.cache` describes what lies
where.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq import memory
from edgeq.errors import OutOfMemoryError, UsageError, shown, size
from edgeq.kernels.catalog import CHUNK
from edgeq.ownership import Unique

KINDS = {"q8": 1, "f16": 2, "f32": 4}  # bytes of a number


@dataclass(frozen=True)
class CacheShape:
    """What a cache must hold. `capacity` is the number of positions, a multiple of CHUNK."""

    kind: str
    layers: int
    kv_heads: int
    head_dim: int
    capacity: int

    @classmethod
    def of(cls, kind: str, layers: int, kv_heads: int, head_dim: int, context: int) -> CacheShape:
        """For a context of that many tokens; UsageError for an unknown kind."""
        if not isinstance(kind, str) or kind not in KINDS:
            raise UsageError(f"kv is {shown(kind)}, but a KV cache is one of {', '.join(KINDS)}.")
        return cls(kind, layers, kv_heads, head_dim, (context + CHUNK - 1) // CHUNK * CHUNK)

    @property
    def dims(self) -> int:
        """The head's dimensions with padding."""
        return (self.head_dim + 31) // 32 * 32

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part of a layer."""
        numbers = self.kv_heads * self.capacity * self.dims * KINDS[self.kind]
        if self.kind != "q8":
            return {"keys": numbers, "values": numbers}
        return {
            "keys": numbers,
            "key_scales": self.kv_heads * self.capacity * self.dims // 8,
            "values": numbers,
            "value_scales": self.kv_heads * self.capacity * 4,
        }

    @property
    def nbytes(self) -> int:
        """Bytes of the whole cache."""
        return self.layers * sum(self.parts.values())


class Cache(Unique):
    """The memory of one sequence, OutOfMemoryError without it. Pages that were never written take none."""

    def __init__(self, shape: CacheShape):
        self.shape = shape
        try:
            self._memory = memory.pieces([*shape.parts.values()] * shape.layers)
        except MemoryError:
            raise OutOfMemoryError(
                f"a KV cache of {shape.capacity} positions needs {size(shape.nbytes)}, which are not to be "
                "had; a smaller context or kv='q8' takes less."
            ) from None
        names = [(layer, part) for layer in range(shape.layers) for part in shape.parts]
        places = (int(piece.ctypes.data) for piece in self._memory)
        self._places = dict(zip(names, places, strict=True))

    def address(self, layer: int, part: str) -> int:
        return self._places[layer, part]

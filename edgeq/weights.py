"""The tensors of a model file as kernels want them: addresses in the map for matrices, padded copies for
vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.errors import UsageError
from edgeq.formats import ModelFile
from edgeq.formats.reader import Tensor
from edgeq.formats.schemes import ACT_GROUP


@dataclass(frozen=True)
class Matrix:
    """A matrix in layout lines16, where the file's map holds it, or what else `owner` does."""

    scheme: str
    rows: int
    columns: int
    tiles: int
    groups: int  # 0 for floats
    codes: int  # address of the codes, or of the values of a matrix of floats
    scales: int  # address of the scales, 0 for floats
    owner: Any = field(default=None, repr=False, compare=False)  # keeps the memory at these addresses

    @classmethod
    def of(cls, tensor: Tensor) -> Matrix:
        rows, columns = tensor.shape
        quantized = bool(tensor.scheme.bits)
        codes = memory.mapped(tensor.part("low" if quantized else "value"))
        scales = memory.mapped(tensor.part("scale")) if quantized else None
        places = int(codes.ctypes.data), 0 if scales is None else int(scales.ctypes.data)
        shape = rows, columns, tensor.tiles, tensor.cols_padded // ACT_GROUP if quantized else 0
        return cls(tensor.scheme.name, *shape, *places, owner=(codes, scales))

    @property
    def quantized(self) -> bool:
        return self.groups > 0


class Vector:
    """A float32 vector, copied and padded with zeros: kernels read whole lines."""

    def __init__(self, values: np.ndarray):
        self.values = memory.zeros((len(values) + 31) // 32 * 32, np.float32)
        self.values[: len(values)] = values

    @property
    def address(self) -> int:
        return int(self.values.ctypes.data)


class Weights:
    """All weights of an open, checked model file, by the names of the family's table."""

    def __init__(self, file: ModelFile):
        self._all: dict[str, Matrix | Vector] = {}
        self._blocks: dict[str, dict[str, Matrix | Vector]] = {}  # by number, then by last name
        for name, tensor in file.tensors.items():
            if tensor.layout == "lines16":
                self._add(name, Matrix.of(tensor))
            elif tensor.scheme.name == "f32":
                self._add(name, Vector(tensor.array()))

    def _add(self, name: str, weight: Matrix | Vector) -> None:
        self._all[name] = weight
        first, _, rest = name.partition(".")
        if first == "blocks":
            number, _, last = rest.partition(".")
            self._blocks.setdefault(number, {})[last] = weight

    def matrix(self, name: str) -> Matrix:
        """UsageError when there is none of that name."""
        found = self._all.get(name)
        if not isinstance(found, Matrix):
            raise UsageError(f"{name} is no matrix of this model.")
        return found

    def matrices(self) -> list[Matrix]:
        """All matrices, in file order."""
        return [w for w in self._all.values() if isinstance(w, Matrix)]

    def vector(self, name: str) -> Vector:
        """UsageError when there is none of that name."""
        found = self._all.get(name)
        if not isinstance(found, Vector):
            raise UsageError(f"{name} is no vector of this model.")
        return found

    @property
    def head(self) -> Matrix:
        """The output matrix: the embedding where they are tied."""
        return self.matrix("output" if "output" in self._all else "embed")

    def block(self, i: int) -> SimpleNamespace:
        """The weights of block i by their last name: q, k, v, o, gate, up, down, norm1, norm2, …"""
        return SimpleNamespace(**self._blocks[str(i)])

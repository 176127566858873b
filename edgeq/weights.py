"""The tensors of a model file as kernels want them: addresses in the map for matrices, padded copies for
vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from edgeq.formats import ModelFile
from edgeq.formats.reader import Tensor


@dataclass(frozen=True)
class Matrix:
    """A matrix in layout lines16, where the file's map holds it."""

    scheme: str
    rows: int
    columns: int
    tiles: int
    groups: int  # 0 for floats
    codes: int  # address of the codes, or of the values of a matrix of floats
    scales: int  # address of the scales, 0 for floats

    @classmethod
    def of(cls, tensor: Tensor) -> Matrix:
        rows, columns = tensor.shape
        quantized = bool(tensor.scheme.bits)
        codes = tensor.codes if quantized else tensor.values
        scales = tensor.scales.ctypes.data if quantized else 0
        return cls(tensor.scheme.name, rows, columns, tensor.tiles, tensor.groups, codes.ctypes.data, scales)

    @property
    def quantized(self) -> bool:
        return self.groups > 0


class Vector:
    """A float32 vector, copied and padded with zeros: kernels read whole lines."""

    def __init__(self, values: np.ndarray):
        self.values = np.zeros((len(values) + 31) // 32 * 32 + 16, np.float32)
        self.values[: len(values)] = values

    @property
    def address(self) -> int:
        return int(self.values.ctypes.data)


class Weights:
    """All weights of an open, checked model file, by the names of the family's table."""

    def __init__(self, file: ModelFile):
        self._map = file.view(0, file.bytes_total)  # holds the map, whoever closes the file
        self._all: dict[str, Matrix | Vector] = {}
        for name, tensor in file.tensors.items():
            if tensor.layout == "lines16":
                self._all[name] = Matrix.of(tensor)
            elif tensor.scheme.name == "f32":
                self._all[name] = Vector(tensor.array())

    def matrix(self, name: str) -> Matrix:
        found = self._all[name]
        assert isinstance(found, Matrix)
        return found

    def matrices(self) -> list[Matrix]:
        """All matrices, in file order."""
        return [w for w in self._all.values() if isinstance(w, Matrix)]

    def vector(self, name: str) -> Vector:
        found = self._all[name]
        assert isinstance(found, Vector)
        return found

    @property
    def head(self) -> Matrix:
        """The output matrix: the embedding where they are tied."""
        return self.matrix("output" if "output" in self._all else "embed")

    def block(self, i: int) -> SimpleNamespace:
        """The weights of block i by their last name: q, k, v, o, gate, up, down, norm1, norm2, …"""
        prefix = f"blocks.{i}."
        return SimpleNamespace(
            **{name[len(prefix) :]: w for name, w in self._all.items() if name.startswith(prefix)}
        )

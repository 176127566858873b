"""The tensors of a model file as kernels want them: addresses in the map for matrices, padded copies for
vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from edgeq import memory
from edgeq.errors import UsageError
from edgeq.formats import ModelFile
from edgeq.formats.reader import Tensor
from edgeq.formats.schemes import ACT_GROUP, SCHEMES

from .arena import padded

Block = TypeVar("Block")


@dataclass(frozen=True)
class Matrix:
    """A matrix in layout lines16, where the file's map holds it, or what else `owner` does."""

    name: str  # its tensor's
    scheme: str
    rows: int
    columns: int
    tiles: int
    address: int  # of its parts, one after another
    owner: Any = field(default=None, repr=False, compare=False)  # keeps the memory there

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> Matrix:
        rows, columns = tensor.shape
        data = memory.mapped(tensor.data)
        return cls(name, tensor.scheme.name, rows, columns, tensor.tiles, int(data.ctypes.data), owner=data)

    @property
    def quantized(self) -> bool:
        return bool(SCHEMES[self.scheme].planes)

    @property
    def groups(self) -> int:
        """Groups of columns that share a scale of activations."""
        return padded(self.columns) // ACT_GROUP

    @property
    def words(self) -> tuple[int]:
        return (self.address,)


class Vector:
    """A float32 vector [columns], copied and padded with zeros: kernels read whole lines."""

    def __init__(self, name: str, values: np.ndarray):
        self.name = name
        self.columns = len(values)
        self.values = memory.zeros(padded(len(values)), np.float32)
        self.values[: len(values)] = values

    @property
    def words(self) -> tuple[int]:
        return (int(self.values.ctypes.data),)


class Weights:
    """Weights by the names of the family's table."""

    def __init__(self, weights: Iterable[Matrix | Vector]):
        self._all: dict[str, Matrix | Vector] = {}
        self._blocks: dict[str, dict[str, Matrix | Vector]] = {}  # by number, then by last name
        for weight in weights:
            self._all[weight.name] = weight
            first, _, rest = weight.name.partition(".")
            if first == "blocks":
                number, _, last = rest.partition(".")
                self._blocks.setdefault(number, {})[last] = weight

    @classmethod
    def of(cls, file: ModelFile) -> Weights:
        """All of an open, checked model file."""
        matrices = (Matrix.of(name, t) for name, t in file.tensors.items() if t.layout == "lines16")
        plain = ((name, t) for name, t in file.tensors.items() if t.layout != "lines16")
        vectors = (Vector(name, t.array()) for name, t in plain if t.scheme.name == "f32")
        return cls([*matrices, *vectors])

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

    def block(self, i: int, form: type[Block]) -> Block:
        """Weights of block i, in a dataclass of the family's whose fields are the last names of those that it
        is about.
        """
        names = {field.name for field in fields(form)}  # type: ignore[arg-type]
        return form(**{name: weight for name, weight in self._blocks[str(i)].items() if name in names})

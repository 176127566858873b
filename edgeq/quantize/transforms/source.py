"""A source whose tensors are computed from another's when they are read: what transforms make of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgeq.calibrate.layers import floats_of
from edgeq.converters.source import Source, SourceTensor
from edgeq.models import expected

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]  # float32 of a block's tensors, by their names without its prefix
ByRows = Callable[[slice], Array]  # float32 of some rows of a tensor

NOTHING = np.zeros(0, np.uint8)


@dataclass(frozen=True)
class Computed(SourceTensor):
    """float32 of the shape, of which `rows` gives some when they are asked for."""

    rows: ByRows = field(kw_only=True, repr=False, compare=False)

    def raw(self, rows: slice | Array) -> Array:
        if not isinstance(rows, slice):
            return np.concatenate([self.raw(slice(row, row + 1)) for row in rows.tolist()])
        found = np.ascontiguousarray(self.rows(rows), np.float32)
        return found.reshape(len(found), -1).view(np.uint8)


class Transformed(Source):
    """A source with other blocks, block(i, arrays) in place of the arrays of block i, and other `ends`, by
    their names. The tensors of one block are in memory at a time.

    `label` is added to the name, so that what is made of it is not taken for what is made of the other.
    """

    def __init__(
        self,
        source: Source,
        label: str,
        block: Callable[[int, Arrays], Arrays],
        ends: Mapping[str, ByRows] | None = None,
        *,
        tied: bool | None = None,
    ):
        config = source.config if tied is None else replace(source.config, tie_word_embeddings=tied)
        self._inner, self._block = source, block
        self._last: tuple[int, Arrays] = (-1, {})
        tensors: dict[str, SourceTensor] = {}
        for want in expected(source.family, config):
            name = want.name
            if ends and name in ends:
                tensors[name] = computed(name, want.shape, ends[name])
            elif name.startswith("blocks."):
                tensors[name] = computed(name, want.shape, self._rows_of(name))
            elif name in source.tensors:
                tensors[name] = source.tensors[name]
        super().__init__(
            kind=source.kind,
            name=f"{source.name}+{label}",
            family=source.family,
            config=config,
            tensors=tensors,
            made=source.made,
            tokenizer=source.tokenizer,
            revision=source.revision,
            chat_template=source.chat_template,
            generation=source.generation,
            license=source.license,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, of float32 where they are computed."""
        return sum(
            4 * math.prod(t.shape) if isinstance(t, Computed) else t.nbytes for t in self.tensors.values()
        )

    def _rows_of(self, name: str) -> ByRows:
        _, i, short = name.split(".", 2)
        return lambda rows: self._arrays(int(i))[short][rows]

    def _arrays(self, i: int) -> Arrays:
        if self._last[0] != i:
            self._last = i, self._block(i, block_of(self._inner, i))
        return self._last[1]


def computed(name: str, shape: tuple[int, ...], rows: ByRows) -> Computed:
    """A tensor of float32 that `rows` gives."""
    return Computed(name, "F32", shape, NOTHING, rows=rows)


def block_of(source: Source, i: int) -> Arrays:
    """The arrays of block i by their names without its prefix."""
    prefix = f"blocks.{i}."
    return {name.removeprefix(prefix): x for name, x in floats_of(source, i).items()}

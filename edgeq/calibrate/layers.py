"""What a model begins with, a layer of it, and its head, as programs of their own over windows of rows:
float32 weights, which may be exchanged, and a tap at the input of each product.

They are recorded from the family's own functions and run by the engine's kernels, one layer in memory at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeq import models
from edgeq.cache import PagePool, Plan, Table, kind_of
from edgeq.converters.recipe import matrices
from edgeq.converters.source import Source
from edgeq.models import BaseConfig, decoder
from edgeq.runtime.arena import Buffer, Rows
from edgeq.runtime.dense import Dense, rows_of, tiled
from edgeq.runtime.program import Settings
from edgeq.runtime.recorder import Recorder
from edgeq.runtime.weights import Matrix, Vector, Weights

Array = np.ndarray[Any, Any]

LOGITS_BYTES = 64 << 20  # of the head's rows at a time


@dataclass(frozen=True)
class Tap:
    """Rows that matrices are multiplied with: the place before which they can be read. Where the matrices are
    those of experts, a token has `picked` rows, and those that come to an expert stand one after another.
    """

    matrices: tuple[str, ...]  # their names in the file, which read the same rows
    rows: Rows
    first: int  # instruction
    last: int  # of the products with them
    adds: bool  # whether these are added to the layer's own rows
    bias: Vector | None = None  # of the first product
    picked: int = 1
    experts: int = 0  # 0: the matrices are of no experts
    ends: Buffer | None = None  # int32 [experts], behind which row each expert's end

    @property
    def columns(self) -> int:
        return self.rows.columns


class Held:
    """Matrices and vectors of float32 by their names, as kernels read them."""

    def __init__(self, arrays: Mapping[str, Array]):
        self._tiles = {name: tiled(array) for name, array in arrays.items() if array.ndim == 2}
        matrices = [
            Matrix(name, "f32", len(arrays[name]), arrays[name].shape[1], len(t), int(t.ctypes.data), t)
            for name, t in self._tiles.items()
        ]
        vectors = [Vector(name, array) for name, array in arrays.items() if array.ndim == 1]
        self.weights = Weights([*matrices, *vectors])

    def exchange(self, name: str, w: Array) -> None:
        """Another matrix, float32 of the same shape, under that name."""
        self._tiles[name][...] = tiled(w)


def floats_of(source: Source, i: int) -> dict[str, Array]:
    """float32 of all tensors of block i, by their names."""
    prefix = f"blocks.{i}."
    found = {name: t.floats() for name, t in source.tensors.items() if name.startswith(prefix)}
    source.let_pages_go()
    return {name: x.reshape(-1) if len(source.tensors[name].shape) == 1 else x for name, x in found.items()}


def outside(source: Source) -> dict[str, Array]:
    """float32 of all vectors that are of no block, by their names."""
    found = {
        name: tensor.floats().reshape(-1)
        for name, tensor in source.tensors.items()
        if len(tensor.shape) == 1 and not name.startswith("blocks.")
    }
    return {**found, **source.made}


def embedded(dense: Dense, source: Source, w: Array, ids: Array) -> Array:
    """float32 [windows, tokens, hidden]: the rows that passes over ids, [windows, tokens], begin with, where
    the embedding is w, float32 [vocabulary, hidden].
    """
    c: BaseConfig = source.config
    named, places = np.unique(ids, return_inverse=True)  # laid out for kernels is what is named alone
    held = Held({"embed": w[named], **outside(source)})
    count = ids.shape[1]
    recorder = Recorder(Settings(dense.isa, "f32", dense.workers, count, 1, dense.tokens))
    rows = models.family(source.family).embed(recorder, c, held.weights)
    program = _apart(dense, recorder)
    found = []
    for window in places.reshape(ids.shape):
        program.ids[:count] = window
        dense.run(program, count)
        found.append(program.numbers(rows).copy())
    return np.stack(found)


class Layer:
    """Block i over windows of up to `window` rows: `run` takes x, [n, hidden], and leaves what comes of
    it. A window begins where its sequence does: a recurrent layer has no state before it.
    """

    def __init__(self, dense: Dense, source: Source, i: int, window: int, arrays: Mapping[str, Array]):
        c: BaseConfig = source.config
        self.dense, self.window = dense, window
        self.held = Held({**arrays, **source.made})
        ropes = decoder.tables(c, self.held.weights, window)
        plan = Plan(kind_of("f32"), window)
        recorder = Recorder(Settings(dense.isa, "f32", dense.workers, window, 1, dense.tokens), plan)
        self.x = dense.zeros(window, c.hidden_size)
        rows = rows_of(self.x)
        shapes = list(c.cache_layers())
        models.family(source.family).layer(
            recorder, c, self.held.weights, i, rows, ropes, recorder.cache(shapes[i])
        )
        self._program = _apart(dense, recorder)
        pool = PagePool(plan.page_bytes * plan.pages + plan.state_bytes)
        self._pages = Table.empty(plan).prepared(pool, 0, window)[0]
        for rope in ropes.values():
            rope.ensure(window)
        self.taps = list(taps(recorder, rows, matrices(source.family, c)))

    def start(self, x: Array) -> None:
        """Rows of a window, float32 [n, hidden], from position 0 on."""
        self._count = len(x)
        self.x[: len(x)] = x
        self._done = 0

    def until(self, place: int | None = None) -> None:
        """Go on to an instruction, or to the end."""
        place = len(self._program.code) if place is None else place
        if place > self._done:
            self.dense.run(self._program, self._count, self._done, place, self._pages)
            self._done = place

    def read(self, tap: Tap) -> Array:
        """float32 [n * picked, columns], a view, of a tap that was gone `until`."""
        return self._program.numbers(tap.rows, tap.picked)[: self._count * tap.picked]

    def shared(self, tap: Tap) -> list[Array]:
        """The same rows, those of each expert apart; where there are none, all together."""
        x = self.read(tap)
        if tap.ends is None:
            return [x]
        ends = self._program.integers(tap.ends, tap.experts).tolist()
        return [x[first:last] for first, last in zip([0, *ends], ends, strict=False)]

    def run(self, x: Array) -> Array:
        """float32 [n, hidden], a view that the next run overwrites."""
        self.start(x)
        self.until()
        return self.x[: len(x)]


class Head:
    """What follows the last layer: a norm, and the product with the head's matrix w."""

    def __init__(self, dense: Dense, source: Source, w: Array):
        c: BaseConfig = source.config
        self.dense = dense
        self.held = Held({**outside(source), "output": w})
        self.limit = max(1, min(256, LOGITS_BYTES // (4 * c.vocab_size)))
        settings = Settings(dense.isa, "f32", dense.workers, self.limit, self.limit, dense.tokens)
        recorder = Recorder(settings)
        self.x = dense.zeros(self.limit, c.hidden_size)
        rows = rows_of(self.x)
        models.family(source.family).head(recorder, c, self.held.weights, rows)
        self._program = _apart(dense, recorder)
        (self._tap,) = taps(recorder, rows, ("output",))
        self._columns = c.vocab_size

    def logits(self, x: Array, read: Callable[[Array], Array] | None = None) -> Iterator[Array]:
        """float32 [some rows, vocabulary] of rows x [n, hidden], views that the next overwrites; `read` gives
        other rows in place of those that the matrix is multiplied with.
        """
        tap = self._tap
        for first in range(0, len(x), self.limit):
            part = x[first : first + self.limit]
            self.x[: len(part)] = part
            self.dense.run(self._program, len(part), 0, tap.first)
            if read is not None:
                rows = self._program.numbers(tap.rows)[: len(part)]
                rows[...] = read(rows)
            self.dense.run(self._program, len(part), tap.first)
            yield self._program.logits[: len(part), : self._columns]


def taps(recorder: Recorder, x: Rows, names: Collection[str]) -> Iterator[Tap]:
    """Those of the matrices of these names, in the order of the pass; products that read the same rows have
    one tap, if no other's stands between them.
    """
    found: list[Tap] = []
    for n, instruction in enumerate(recorder.instructions):
        given = instruction.given
        matrix = given.get("weights")
        if not isinstance(matrix, Matrix) or not isinstance(given.get("x"), Rows) or matrix.name not in names:
            continue
        if found and found[-1].rows is given["x"]:
            found[-1] = replace(found[-1], matrices=(*found[-1].matrices, matrix.name), last=n + 1)
            continue
        tap = Tap((matrix.name,), given["x"], n, n + 1, given["y"] is x, given.get("bias"))
        if "ends" in given:
            tap = replace(tap, picked=given["picked"], experts=given["experts"], ends=given["ends"])
        found.append(tap)
    yield from found


def _apart(dense: Dense, recorder: Recorder) -> Any:
    """The program with the pool meeting after each instruction, so that it may be run in pieces."""
    for instruction in recorder.instructions:
        instruction.barrier = True
    return dense.finish(recorder)

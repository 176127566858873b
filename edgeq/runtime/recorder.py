"""Records a forward pass: a family's `forward` runs once, with the functions of `edgeq.ops`, against a
`Recorder`.

They take buffers from it and have it append instructions. Where an instruction touches what another wrote
since the last barrier, or writes what another touched, the recorder puts a barrier between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import numpy as np

from edgeq import memory
from edgeq.cache import BothShape, CacheLayer, LayerShape, Plan, Shape, States, StateShape
from edgeq.errors import UsageError
from edgeq.kernels.catalog import GROUP, TASKS
from edgeq.ownership import Unique
from edgeq.simd.tag import Request, Tag

from . import operands
from .arena import SLACK, Buffer, Held, Quantized, Rows, Workspace, padded, row_bytes, spare_rows
from .instructions import Instruction, Shared
from .program import Program, Settings


class Recorder(Unique):
    """Instructions so far. `ids`, `logits` and `likeliest` are what a pass is given and what it leaves;
    `zeros` is a zero for each token.
    """

    def __init__(self, settings: Settings, plan: Plan | None = None):
        self.settings, self.plan = settings, plan
        self.ids, self.zeros = (Held.of(memory.zeros(settings.limit, np.int64)) for _ in range(2))
        self.logits = Held.of(memory.zeros((0, 0), np.float32))
        self.likeliest = Held.of(memory.zeros(settings.outputs, np.int64))
        self.finished = Held.of(memory.zeros(TASKS * settings.workers, np.int64))  # of attention's tasks
        self.yield_points: list[int] = []  # instructions before which a long pass may pause
        self.is_last = False  # whether the last layer is recorded, behind whose cache outputs alone count
        self.cut: int | None = None  # the first instruction that is about the pass's outputs alone
        self.instructions: list[Instruction] = []
        self._since: dict[Shared, bool] = {}  # touched since the last barrier: written?

    # ---- buffers ----
    @property
    def limit(self) -> int:
        """Rows that instructions are about at the most."""
        return self.settings.limit if self.cut is None else self.settings.outputs

    @property
    def _spare(self) -> int:
        """Rows that the largest tile reads beyond the last token."""
        return spare_rows(max(self.settings.tokens, *self.settings.tiles.values(), 0))

    def rows(self, columns: int, each: int = 1) -> Rows:
        """float32 [tokens, columns], or `each` such rows for a token."""
        count = (self.limit + self._spare) * each
        return Rows(Buffer(count * row_bytes(columns) + SLACK), columns)

    def quantized(self, columns: int, count: int | None = None, each: int = 1) -> Quantized:
        """int8 [tokens or `count` rows, columns], or `each` such rows for a token."""
        rows = (self.limit + self._spare) * each if count is None else count
        groups = padded(columns) // GROUP * rows
        return Quantized(columns, Buffer(groups * GROUP), Buffer(groups * 4), Buffer(groups * 4))

    def numbers(self, each: int) -> Buffer:
        """Numbers of 32 bits, `each` for a token, without gaps."""
        return Buffer(self.limit * each * 4)

    def floats(self, columns: int, count: int) -> Buffer:
        """float32 [count, columns padded to 32], without gaps."""
        return Buffer(count * row_bytes(columns))

    def workspace(self, nbytes: int) -> Workspace:
        """So much scratch for each worker."""
        return Workspace(Buffer(nbytes * self.settings.workers), nbytes)

    def result(self, columns: int) -> Rows:
        """float32 [outputs, columns]: what the program leaves of the tokens that it is wanted of."""
        array = memory.zeros((self.settings.outputs, row_bytes(columns) // 4), np.float32)
        self.logits = Held.of(array)
        return Rows(self.logits, columns)

    @overload
    def cache(self, shape: LayerShape) -> CacheLayer: ...
    @overload
    def cache(self, shape: StateShape) -> States: ...
    @overload
    def cache(self, shape: BothShape) -> tuple[CacheLayer, States]: ...
    @overload
    def cache(self, shape: Shape) -> CacheLayer | States | tuple[CacheLayer, States]: ...
    def cache(self, shape: Shape) -> CacheLayer | States | tuple[CacheLayer, States]:
        """A layer's keys and values on the pages of the pass's sequences, the parts of its state, or both;
        UsageError without a plan of those.
        """
        if self.plan is None:
            raise UsageError("a program without pages has no cache.")
        return self.plan.room(shape)

    # ---- instructions ----
    def emit(self, kernel: str, **given: Any) -> None:
        """Append an instruction: the kernel, and what it is given for each of its roles in the catalog.
        UsageError where that does not fit.
        """
        operands.check(kernel, given)
        scheme = operands.scheme(kernel, given)
        words = operands.words(kernel, given)
        reads, writes = operands.shared(kernel, given, words)
        if any(self._since.get(b) for b in reads) or any(b in self._since for b in writes):
            self.instructions[-1].barrier = True
            self._since.clear()
        for b in reads:
            self._since.setdefault(b, False)
        for b in writes:
            self._since[b] = True
        s = self.settings
        tag = Tag(s.isa, scheme, s.tiles.get(f"{kernel} {scheme}", s.tokens))
        outputs = self.cut is not None
        self.instructions.append(Instruction(kernel, tag, given, words, reads, writes, outputs))

    def yield_point(self) -> None:
        """A long pass may pause here, for Ctrl-C."""
        self.yield_points.append(len(self.instructions))

    def only_outputs(self) -> None:
        """Instructions from here on are about rows of the pass's outputs, in the order of these; a pass that
        has none ends here. UsageError where that was so before.
        """
        if self.cut is not None:
            raise UsageError("a program is about its outputs alone from one place on.")
        self.cut = len(self.instructions)
        self.yield_point()

    # ---- the end ----
    def requests(self) -> set[Request]:
        """The kernels that the program calls."""
        return {(i.kernel, i.tag) for i in self.instructions}

    def finish(self, addresses: Mapping[Request, int]) -> Program:
        """The program; `addresses` holds the compiled kernels."""
        self.instructions[-1].barrier = True
        return Program(
            self.settings,
            self.instructions,
            addresses,
            yield_points=self.yield_points,
            cut=self.cut,
            ids=self.ids.array,
            logits=self.logits.array,
            likeliest=self.likeliest.array,
            plan=self.plan,
        )

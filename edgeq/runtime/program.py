"""A recorded forward pass, ready to run for every pass of up to `limit` tokens.

Buffers whose lives do not overlap share memory in one arena. What belongs to a sequence, its pages, is told
with the rows of a pass (`batch`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeq import memory
from edgeq.cache import CacheLayer, Plan
from edgeq.errors import UsageError
from edgeq.kernels.catalog import BARRIER, BATCH_AT, FLAGS_AT, OPERANDS_AT, WIDTH, WORK_AT
from edgeq.kernels.table import KERNELS
from edgeq.ownership import Unique
from edgeq.simd.tag import Request

from . import extents
from .arena import Buffer, Held, Place, Rows, place
from .batch import Batch, Segment
from .instructions import Instruction


@dataclass
class Settings:
    """What all instructions of a program share."""

    isa: str
    act: str  # "int8" or "f32"
    workers: int
    limit: int  # tokens in a pass at the most
    outputs: int  # tokens whose logits, or rows, a pass can give
    tokens: int = field(default=1)  # to a tile: the instruction set's
    tiles: Mapping[str, int] = field(default_factory=dict)  # other numbers, by kernel and scheme: see `tuned`
    rows: bool = False  # leave the rows that logits are made of, in place of these


class Program(Unique):
    """`code` holds the instructions; `batch`, `ids`, `logits` and `likeliest` are what a pass is given and
    what it leaves; `plan` says what the pages hold that it reads and writes; `yield_points` are the
    instructions before which a long pass may pause. From instruction `cut` on, if there is one, rows are
    those of the pass's outputs, which `wanted` is about; `end` is where the pass ends, which is the cut where
    it has no outputs.

    UsageError, with memory checked, where an instruction reaches beyond its buffers.
    """

    def __init__(
        self,
        settings: Settings,
        instructions: Sequence[Instruction],
        addresses: Mapping[Request, int],
        *,
        yield_points: Sequence[int],
        cut: int | None = None,
        ids: np.ndarray,
        logits: np.ndarray,
        likeliest: np.ndarray,
        plan: Plan | None = None,
    ):
        self.settings, self.yield_points, self.plan = settings, yield_points, plan
        self.ids, self.logits, self.likeliest = ids, logits, likeliest
        self.batch = Batch(settings.limit, settings.outputs)
        self.cut = len(instructions) if cut is None else cut
        self.wanted = self.batch if cut is None else Batch(settings.outputs, settings.outputs)
        self.end = len(instructions)
        self.code = memory.zeros((len(instructions), WIDTH // 8), np.int64)
        self._instructions = instructions  # they hold the weights and tables that they read
        self._arena = place(self._buffers())
        self._write(addresses)
        if memory.checked():
            self._check()

    def _buffers(self) -> list[Buffer]:
        """Those of the arena, with the phases that they live in."""
        found: dict[Buffer, None] = {}
        phase = 0
        for i in self._instructions:
            i.phase = phase
            for b in i.touches:
                if isinstance(b, Buffer):
                    b.first = phase if b.first < 0 else b.first
                    b.last = phase
                    found[b] = None
            phase += i.barrier
        return [b for b in found if not isinstance(b, Held)]

    def _write(self, addresses: Mapping[Request, int]) -> None:
        """The code."""
        for n, i in enumerate(self._instructions):
            row = self.code[n]
            row[0] = addresses[i.kernel, i.tag]
            row[BATCH_AT // 8] = self.batch_of(i).address
            row[FLAGS_AT // 8] = BARRIER * i.barrier
            for at, name in enumerate(KERNELS[i.kernel].operands, OPERANDS_AT // 8):
                word = i.operands[name]
                row[at] = word.address if isinstance(word, Buffer | Place) else word

    def batch_of(self, instruction: Instruction) -> Batch:
        """What it is told of a pass."""
        return self.wanted if instruction.outputs else self.batch

    def requests(self) -> set[Request]:
        """The kernels that the program calls."""
        return {(i.kernel, i.tag) for i in self._instructions}

    def numbers(self, rows: Rows, each: int = 1) -> np.ndarray:
        """float32 [limit * each, columns]: what a buffer of rows holds now, a view."""
        count = self.settings.limit * each
        size = count * rows.stride
        raw = np.frombuffer((ctypes.c_char * size).from_address(rows.buffer.address + rows.at), np.float32)
        return raw.reshape(count, -1)[:, : rows.columns]

    def integers(self, buffer: Buffer, count: int) -> np.ndarray:
        """int32 [count]: what a buffer of such numbers holds now, a view."""
        return np.frombuffer((ctypes.c_char * (count * 4)).from_address(buffer.address), np.int32)

    def start(self, segments: Sequence[Segment]) -> None:
        """Say what the next pass is about; UsageError as of `Batch.fill`."""
        self.batch.fill(segments)
        if self.wanted is not self.batch:
            wanted = [s.outputs for s in segments if s.wanted]
            self.end = len(self.code) if wanted else self.cut
            if wanted:
                self.wanted.fill(wanted)
        self.ids[: sum(len(s.ids) for s in segments)] = np.concatenate([s.ids for s in segments])
        self.code[:, WORK_AT // 8] = 0  # nothing of the pass's work is taken yet

    def _check(self) -> None:
        """UsageError where an instruction reaches beyond its buffers, or a layer of the cache beyond its
        page.
        """
        s = self.settings
        sizes = extents.Sizes(s.limit, s.outputs, s.workers)
        of_outputs = extents.Sizes(s.outputs, s.outputs, s.workers)
        for i, row in zip(self._instructions, self.code.tolist(), strict=True):
            numbers = dict(zip(KERNELS[i.kernel].operands, row[OPERANDS_AT // 8 :], strict=False))
            for name, nbytes in extents.of(i, numbers, of_outputs if i.outputs else sizes).items():
                memory.require(numbers[name], nbytes, f"{i}'s operand {name}")
            for name, layer in i.given.items():
                ends = tuple(extents.on_page(i, numbers, name)) if isinstance(layer, CacheLayer) else ()
                if ends and ends != layer.ends:
                    raise UsageError(f"{i} reaches beyond its layer's part of a page.")

    def poison(self, pattern: np.ndarray) -> None:
        """Fill all that a pass computes in, and its results, with repetitions of some bytes. For tests: the
        next pass gives the same bits whatever they are.
        """
        for piece in (*self._arena, self.logits, self.likeliest):
            memory.fill(piece, pattern)

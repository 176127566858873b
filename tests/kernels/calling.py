"""Calls of single kernels: memory with canaries around every buffer, an instruction made of it, the call.

Buffers are as large as a program makes them and no larger; what kernels may not use is filled with NaN or
noise. On Linux the page after every buffer can be neither read nor written: a kernel that touches it ends
the process.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.formats import encode_parts
from edgeq.formats.schemes import NUMBERS, SCHEMES, Part, Scheme
from edgeq.kernels import meaning
from edgeq.kernels.catalog import BATCH_AT, OPERANDS_AT, WIDTH, Batch
from edgeq.kernels.table import KERNELS
from edgeq.packs.store import kernels
from edgeq.runtime.arena import ALIGNMENT, SLACK
from edgeq.simd import isa
from edgeq.simd.tag import Tag
from tests import emulator

Array = np.ndarray[Any, Any]
CANARY = 0xA5
NOISE = {"x": -128, "x_scale": np.nan, "x_sum": -32768}
GUARD = sys.platform == "linux" and not emulator.CPU  # whose driver never gives memory back


def tag_of(name: str, scheme: str = "") -> Tag:
    """The tag that programs use: as many tokens to a tile as the instruction set holds."""
    return Tag(name, scheme, isa.by_name(name).tokens)


def spare(count: int, tag: Tag) -> int:
    """Rows that a product reads beyond its tokens at the most."""
    return max(0, tag.tokens - 2) if count > 1 else 0


def float32_bits(x: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", x))[0])


@dataclass
class Buffer:
    """An array in memory of its own, `stride` bytes from row to row."""

    values: Array
    address: int
    stride: int


def guarded(nbytes: int) -> Array:
    """Bytes that end where a page begins that nobody may touch."""
    pages = -(-nbytes // mmap.PAGESIZE) + 1
    region = emulator.pages(pages)
    emulator.forbid(int(region.ctypes.data) + (pages - 1) * mmap.PAGESIZE)
    usable = region[: -mmap.PAGESIZE]
    usable[:] = CANARY
    return usable


class Memory:
    """The buffers of one call; `check` fails where a kernel wrote outside of them."""

    def __init__(self) -> None:
        self._raw: list[tuple[Array, int, int]] = []

    def flat(self, size: int, dtype: Any, fill: Any = None, slack: int = 0) -> Buffer:
        """`size` numbers, each `fill`, or noise; `slack` bytes more may be read and not written."""
        nbytes = size * np.dtype(dtype).itemsize
        if GUARD:
            raw = guarded(nbytes + slack + ALIGNMENT)
            start = len(raw) - nbytes - slack
        else:
            raw = emulator.zeros(nbytes + slack + 2 * ALIGNMENT)
            raw[:] = CANARY
            start = -int(raw.ctypes.data) % ALIGNMENT + ALIGNMENT
        values = raw[start : start + nbytes].view(dtype)
        if fill is not None:
            values[:] = fill
        self._raw.append((raw, start, nbytes))
        return Buffer(values, int(values.ctypes.data), nbytes)

    def put(self, values: Array) -> Buffer:
        """A copy of the array, as a model file's map holds it: there may be nothing after it."""
        buffer = self.flat(values.size, values.dtype)
        buffer.values[:] = values.reshape(-1)
        buffer.values = buffer.values.reshape(values.shape)
        return buffer

    def rows(self, values: Array, spare: int = 0) -> Buffer:
        """Rows as a program keeps them: whole groups of 32 float32, NaN in the padding; `spare` rows more may
        be read.
        """
        count, columns = values.shape
        width = -(-columns // 32) * 32
        buffer = self.flat(count * width, np.float32, np.nan, SLACK + spare * width * 4)
        rows = buffer.values.reshape(count, width)
        rows[:, :columns] = values
        return Buffer(rows[:, :columns], buffer.address, width * 4)

    def vector(self, values: Array) -> Buffer:
        """A vector as `weights.Vector` pads it."""
        buffer = self.flat(-(-len(values) // 32) * 32, np.float32, 0.0)
        buffer.values[: len(values)] = values
        return buffer

    def int8(self, count: int, columns: int) -> tuple[dict[str, int], Any]:
        """Room for quantized rows: the operands x, x_scale, x_sum, and a function that reads it."""
        groups = -(-columns // 32)
        x, scale, total = (
            self.flat(count * n, t) for n, t in ((groups * 32, "i1"), (groups, "f4"), (groups * 2, "i2"))
        )

        def read() -> meaning.Int8:
            rows = (b.values.reshape(count, -1).copy() for b in (x, scale, total))
            return meaning.Int8(*rows)._replace(x_sum=total.values.reshape(count, groups, 2).copy())

        return {"x": x.address, "x_scale": scale.address, "x_sum": total.address}, read

    def quantized(self, q: meaning.Int8, spare: int) -> dict[str, int]:
        """Quantized rows as a program keeps them, with noise in the `spare` ones that full tiles read."""
        operands = {}
        for name, part in zip(("x", "x_scale", "x_sum"), q, strict=True):
            rows = np.concatenate([part, np.full((spare, *part.shape[1:]), NOISE[name], part.dtype)])
            operands[name] = self.put(rows).address
        return operands

    def scratch(self, nbytes: int, workers: int) -> dict[str, int]:
        """So much for each worker, and nothing that means anything in it."""
        return {"scratch": self.flat(nbytes * workers, np.uint8, 0x5A).address, "scratch_stride": nbytes}

    def check(self) -> None:
        for raw, start, nbytes in self._raw:
            assert (raw[:start] == CANARY).all(), "written before a buffer"
            assert (raw[start + nbytes :] == CANARY).all(), "written past a buffer"


def run(
    memory: Memory,
    name: str,
    tag: Tag,
    *,
    count: int,
    position: int = 0,
    pages: int = 0,
    wanted: Any = (),  # numbers of rows
    workers: int = 1,
    **operands: Any,
) -> None:
    """Call the kernel once as every worker, at once where they are several, and check the canaries. The pass
    is `count` rows of one sequence from `position` on, whose pages are listed at an address.
    """
    assert set(operands) == set(KERNELS[name].operands)
    batch = batch_of([(count, position, pages)], wanted)
    call_with(memory, name, tag, int(batch[0].ctypes.data), workers, operands)


def batch_of(
    segments: Sequence[tuple[int, int, int]],
    wanted: Sequence[int] = (),
    states: Sequence[tuple[int, int]] = (),
) -> list[Array]:
    """A pass's words, and the tables that they point to: of each segment its rows, the position of the first,
    and where its pages are listed; and its states before and behind the pass.
    """
    states = states or [(0, 0)] * len(segments)
    words = emulator.zeros(Batch.BYTES).view(np.int64)
    rows = [(start + n, pages) for count, start, pages in segments for n in range(count)]
    firsts = np.cumsum([0, *(count for count, _, _ in segments)])
    tables = [
        np.array(rows),
        np.array([*wanted, 0]),
        np.array([(f, *each, *own) for f, each, own in zip(firsts[:-1], segments, states, strict=True)]),
    ]
    made = [words]
    for at, table in zip((Batch.ROWS, Batch.WANTED, Batch.SEGMENT), tables, strict=True):
        made.append(emulator.zeros(table.size * 8).view(np.int64))
        made[-1][:] = table.reshape(-1)
        words[at // 8] = made[-1].ctypes.data
    words[Batch.COUNT // 8], words[Batch.OUTPUTS // 8] = len(rows), len(wanted)
    words[Batch.SEGMENTS // 8] = len(segments)
    return made


def call_with(
    memory: Memory, name: str, tag: Tag, batch: int, workers: int, operands: Mapping[str, int]
) -> None:
    """Call the kernel for a pass's words."""
    instruction = emulator.zeros(WIDTH).view(np.int64)
    instruction[BATCH_AT // 8] = batch
    for at, operand in enumerate(KERNELS[name].operands, OPERANDS_AT // 8):
        instruction[at] = operands[operand]
    if emulator.CPU:
        for worker in range(workers):
            emulator.kernel(name, tag)(instruction.ctypes.data, worker, workers)
        memory.check()
        return
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(kernels().load([(name, tag)])[name, tag])
    threads = [
        threading.Thread(target=call, args=(instruction.ctypes.data, worker, workers))
        for worker in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.check()


def call(memory: Memory, name: str, tag: Tag, *operands: int) -> None:
    """Call a plain function, and check the canaries."""
    assert len(operands) == len(KERNELS[name].operands)
    if emulator.CPU:
        emulator.kernel(name, tag)(*operands)
    else:
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(operands))
        kind(kernels().load([(name, tag)])[name, tag])(*operands)
    memory.check()


# ---- weights ----
@dataclass(frozen=True)
class Weights:
    """A matrix: its parts, row-major and padded to the scheme's step, and its own columns."""

    scheme: Scheme
    parts: dict[str, Array]
    columns: int

    @property
    def rows(self) -> int:
        return len(self.parts[self.scheme.arrays[0].name])

    @property
    def shape(self) -> dict[str, int]:
        """The operands tiles, groups."""
        return {"tiles": -(-self.rows // 16), "groups": -(-self.columns // 32)}

    @property
    def numbers(self) -> dict[str, Any]:
        """Of plain numbers what `meaning` takes: weights [rows, columns] and row [rows], float32."""
        value, row = (self.parts.get(name) for name in ("value", "row"))
        assert value is not None
        return {
            "weights": NUMBERS[self.scheme.number].floats(value),
            "row": None if row is None else row[:, 0],
        }

    def put(self, memory: Memory) -> int:
        """Where a copy of the matrix lies, as in a file."""
        return memory.put(np.concatenate(list(encode_parts(self.parts, self.scheme)))).address


def random_weights(rng: np.random.Generator, name: str, rows: int, columns: int) -> Weights:
    """Any codes and integer scales, extremes often; floats of any sign, some subnormal; zeros as padding."""
    scheme = SCHEMES[name]
    padded = -(-columns // scheme.step) * scheme.step
    parts = {part.name: random_part(rng, part, (rows, part.entries(padded))) for part in scheme.arrays}
    parts[scheme.arrays[0].name][:, columns:] = scheme.padding
    return Weights(scheme, parts, columns)


def random_part(rng: np.random.Generator, part: Part, shape: tuple[int, int]) -> Array:
    if part.number == "e8m0":
        return rng.choice(np.array([0, 1, 2, 100, 118, 127, 130], np.uint8), shape)
    if part.number:
        number = NUMBERS[part.number]
        if number.nbytes == 1:
            codes = rng.integers(0, 256, shape, np.uint8)
            return np.where(number.finite(codes), codes, np.uint8(0))
        values = rng.normal(size=shape) * np.exp2(rng.choice([-8.0, -4.0, -22.0], shape))
        assert number.stored is not None
        return number.stored(values.astype(np.float32))
    limits = np.iinfo(part.dtype)
    low, high = (0, 2**part.bits - 1) if part.bits else (limits.min, limits.max)
    numbers = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high], shape), numbers).astype(part.dtype)


def same_bits(got: Array, want: Array) -> None:
    """Fails unless the float32 arrays hold the same bits."""
    assert got.shape == want.shape
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(np.uint32), np.ascontiguousarray(want).view(np.uint32)
    )

"""Calls of single kernels: memory with canaries around every buffer, an instruction made of it, the call.

Buffers are as large as a program makes them and no larger; what kernels may not use is filled with NaN or
noise. With EDGEQ_TEST_GUARD set, the page after every buffer can be neither read nor written.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.formats import schemes
from edgeq.kernels.catalog import KERNELS, OPERANDS_AT, STATE_AT, WIDTH, State
from edgeq.runtime.arena import ALIGNMENT, SLACK
from edgeq.simd import isa
from edgeq.simd.store import kernels
from edgeq.simd.tag import Tag
from tests import emulator

Array = np.ndarray[Any, Any]
CANARY = 0xA5
GUARD = bool(os.environ.get("EDGEQ_TEST_GUARD") or os.environ.get("EDGEQ_CHECK") == "memory")


def tag_of(name: str, scheme: str = "") -> Tag:
    """The tag that programs use: as many tokens to a tile as the instruction set holds."""
    return Tag(name, scheme, isa.by_name(name).tokens)


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

    def rows(self, values: Array) -> Buffer:
        """Rows as a program keeps them: whole groups of 32 float32, NaN in the padding."""
        count, columns = values.shape
        width = -(-columns // 32) * 32
        buffer = self.flat(count * width, np.float32, np.nan, SLACK)
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
            self.flat(count * n, t) for n, t in ((groups * 32, "i1"), (groups, "f4"), (groups, "i4"))
        )

        def read() -> tuple[Array, Array, Array]:
            return tuple(b.values.reshape(count, -1).copy() for b in (x, scale, total))  # type: ignore[return-value]

        return {"x": x.address, "x_scale": scale.address, "x_sum": total.address}, read

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
    outputs: int = 0,
    workers: int = 1,
    **operands: int,
) -> None:
    """Call the kernel once as every worker, at once where they are several, and check the canaries."""
    assert set(operands) == set(KERNELS[name].operands)
    state = emulator.zeros(State.BYTES).view(np.int64)
    for at, value in ((State.COUNT, count), (State.POSITION, position), (State.OUTPUTS, outputs)):
        state[at // 8] = value
    instruction = emulator.zeros(WIDTH).view(np.int64)
    instruction[STATE_AT // 8] = state.ctypes.data
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


# ---- weights ----
@dataclass(frozen=True)
class Codes:
    """A quantized matrix: logical codes [rows, columns padded] and scales [rows, groups], and its lines."""

    scheme: schemes.Scheme
    codes: Array
    scales: Array

    @property
    def tiles(self) -> int:
        return -(-len(self.codes) // 16)

    def lines(self, memory: Memory) -> dict[str, int]:
        """The operands weights, scales."""
        rows, columns = self.codes.shape
        codes = np.full((self.tiles * 16, columns), self.scheme.zero, np.uint8)
        codes[:rows] = self.codes
        scales = np.zeros((self.tiles * 16, self.scales.shape[1]), np.float16)
        scales[:rows] = self.scales
        by_tile = scales.reshape(self.tiles, 16, -1).transpose(0, 2, 1)
        return {
            "weights": memory.put(schemes.pack(codes, self.scheme.bits)).address,
            "scales": memory.put(np.ascontiguousarray(by_tile)).address,
        }


def random_codes(rng: np.random.Generator, scheme: str, rows: int, columns: int) -> Codes:
    """Any codes, extremes often; scales of any sign, some subnormal; the zero point in padding columns."""
    row = schemes.SCHEMES[scheme]
    groups = -(-columns // row.group)
    last = 2**row.bits - 1
    codes = rng.integers(0, last + 1, (rows, groups * row.group)).astype(np.uint8)
    extreme = rng.random(codes.shape) < 0.3
    codes[extreme] = rng.choice(np.array([0, last], np.uint8), int(extreme.sum()))
    codes[:, columns:] = row.zero
    scales = rng.normal(size=(rows, groups)) * np.exp2(rng.choice([-8.0, -4.0, -22.0], (rows, groups)))
    return Codes(row, codes, scales.astype(np.float16))


def float_lines(values: Array, scheme: str) -> Array:
    """Values [rows, columns] as float32 bits, float16 or bfloat16 in lines [tiles, columns, 16]."""
    rows, columns = values.shape
    padded = np.zeros((-(-rows // 16) * 16, columns), np.float32)
    padded[:rows] = values
    lines = np.ascontiguousarray(padded.reshape(-1, 16, columns).transpose(0, 2, 1))
    if scheme == "bf16":
        return (lines.view(np.uint32) >> 16).astype(np.uint16)
    return lines.astype({"f32": np.float32, "f16": np.float16}[scheme])


def representable(values: Array, scheme: str) -> Array:
    """The values cut to what the scheme can hold, as float32."""
    if scheme == "bf16":
        return (values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype({"f32": np.float32, "f16": np.float16}[scheme]).astype(np.float32)


def same_bits(got: Array, want: Array) -> None:
    """Fails unless the float32 arrays hold the same bits."""
    assert got.shape == want.shape
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(np.uint32), np.ascontiguousarray(want).view(np.uint32)
    )

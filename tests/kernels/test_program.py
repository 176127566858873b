"""Recorded programs: what runs side by side shares no memory that is written, and nothing is read before it
is there. Checked on addresses, after the arena was planned, against a table of what each kernel writes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeq import models
from edgeq.arena import Buffer
from edgeq.cache import CacheShape
from edgeq.kernels.catalog import BARRIER, FLAGS_AT, KERNELS
from edgeq.program import Instruction, OfCache, Program, Settings
from edgeq.weights import Matrix

INT8 = ("x", "x_scale", "x_sum")
CACHE = ("q", "q_scale", "q_sum", "keys", "key_scales", "values", "value_scales", "scratch")
WRITES = {
    "embed": ("y",),
    "embed_float": ("y",),
    "norm": ("y",),
    "norm_quantize": INT8,
    "norm_heads": ("x",),
    "quantize": INT8,
    "swiglu": ("y",),
    "swiglu_quantize": INT8,
    "matmul": ("y",),
    "matmul_act": ("y",),
    "matmul_float": ("y",),
    "argmax": ("likeliest",),
    "rotate": ("x",),
    "store_int8": CACHE,
    "store_float": CACHE,
    "attend_int8": ("y", "scratch"),
    "attend_float": ("y", "scratch"),
}
IN_PLACE = ("norm_heads", "rotate")  # what they write they read first, as a product with `add` does

Range = tuple[int, int, Any]  # from address, to address, whose


class FakeWeights:
    """Weights by shape and scheme alone; no kernel runs."""

    def __init__(self, config: Any, schemes: dict[str, str]):
        self.config, self.schemes = config, schemes

    def matrix(self, name: str) -> Matrix:
        c = self.config
        q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        rows, columns = {
            "embed": (c.vocab_size, c.hidden_size), "q": (q, c.hidden_size), "k": (kv, c.hidden_size),
            "v": (kv, c.hidden_size), "o": (c.hidden_size, q), "gate": (c.intermediate_size, c.hidden_size),
            "up": (c.intermediate_size, c.hidden_size), "down": (c.hidden_size, c.intermediate_size),
        }[name]  # fmt: skip
        scheme = self.schemes.get(name, self.schemes[""])
        groups = -(-columns // 32) if scheme[0] == "q" else 0
        return Matrix(scheme, rows, columns, -(-rows // 16), groups, 1 << 40, 1 << 41 if groups else 0)

    def vector(self, name: str) -> Any:
        return SimpleNamespace(address=1 << 42, values=np.zeros(64, np.float32))

    @property
    def head(self) -> Matrix:
        return self.matrix("embed")

    def block(self, i: int) -> Any:
        vectors = ("norm1", "norm2", "q_norm", "k_norm", "q_bias", "k_bias", "v_bias")
        matrices = ("q", "k", "v", "o", "gate", "up", "down")
        return SimpleNamespace(
            **{name: self.vector(name) for name in vectors}, **{name: self.matrix(name) for name in matrices}
        )


CONFIG = SimpleNamespace(
    vocab_size=500, hidden_size=72, intermediate_size=200, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=2, head_dim=20, rms_norm_eps=1e-5, sliding_window=None, max_position_embeddings=64,
)  # fmt: skip


def recorded(family: str, schemes: dict[str, str], act: str, kv: str, workers: int = 3) -> Program:
    table = np.zeros((64, 10), np.float32)
    shape = CacheShape.of(kv, 3, 2, 20, 300)
    program = Program(
        Settings(
            isa="generic",
            act=act,
            cache=shape,
            workers=workers,
            limit=16,
            outputs=4,
            epsilon=1e-5,
            window=None,
            cosine=table,
            sine=table,
            tokens=4,
        )  # fmt: skip
    )
    models.family(family).forward(program, CONFIG, FakeWeights(CONFIG, schemes))
    program.finish(dict.fromkeys(program.requests(), 1))
    return program


def ranges(i: Instruction) -> tuple[list[Range], list[Range]]:
    """What the instruction reads and what it writes, of the arena, the cache, ids and logits."""
    reads, writes = [], []
    for name, operand in i.operands.items():
        if isinstance(operand, Buffer):
            place: Range = (operand.address, operand.address + operand.nbytes, operand)
        elif isinstance(operand, OfCache):
            at = -(
                (operand.layer * 8 + list("kv_s").index(operand.part[0]) + 4 * ("_" in operand.part)) * 100
                + 100
            )
            place = (at, at + 1, operand)
        else:
            continue
        written = name in WRITES[i.kernel]
        if written:
            writes.append(place)
        if not written or i.kernel in IN_PLACE or i.operands.get("add"):
            reads.append(place)
    return reads, writes


def overlap(a: Range, b: Range) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def check_side_by_side(program: Program) -> int:
    """No two instructions without a barrier between them meet in memory that one of them writes."""
    pairs = 0
    phase: list[tuple[Instruction, list[Range], list[Range]]] = []
    for i, row in zip(program._instructions, program.code, strict=True):
        reads, writes = ranges(i)
        for before, its_reads, its_writes in phase:
            pairs += 1
            for written, touched in ((writes, its_reads + its_writes), (its_writes, reads + writes)):
                met = [(a, b) for a in written for b in touched if overlap(a, b)]
                assert not met, f"{before.kernel} and {i.kernel} run side by side on the same memory"
        phase.append((i, reads, writes))
        if row[FLAGS_AT // 8] == BARRIER:
            phase = []
    assert not phase, "the last instruction has no barrier"
    return pairs


def check_nothing_is_lost(program: Program) -> None:
    """Every buffer that is read holds, in full, what was last written under its name."""
    held: list[Range] = [(program._ids.address, program._ids.address + program._ids.nbytes, program._ids)]
    for i in program._instructions:
        reads, writes = ranges(i)
        for place in reads:
            if place[2] is not None and not (
                i.kernel.startswith("attend") and place[2] == i.operands["scratch"]
            ):
                assert any(h[2] is place[2] or h[2] == place[2] for h in held), (
                    f"{i.kernel} reads what is not there"
                )
        for place in writes:
            held = [h for h in held if not overlap(h, place)] + [place]


PROGRAMS = [
    ("llama", {"": "q4", "embed": "q8"}, "int8", "q8"),
    ("llama", {"": "q4", "embed": "q8"}, "f32", "f16"),
    ("llama", {"": "f16"}, "int8", "f32"),
    ("llama", {"": "q4", "v": "f16", "down": "bf16", "embed": "bf16"}, "int8", "q8"),
    ("qwen2", {"": "q8"}, "int8", "q8"),
    ("qwen3", {"": "q4", "k": "f32"}, "int8", "f16"),
]


@pytest.mark.parametrize(("family", "schemes", "act", "kv"), PROGRAMS)
def test_programs_are_sound(family: str, schemes: dict[str, str], act: str, kv: str) -> None:
    program = recorded(family, schemes, act, kv)
    assert check_side_by_side(program) > 5
    check_nothing_is_lost(program)


def test_a_missing_barrier_would_show() -> None:
    program = recorded(*PROGRAMS[0])
    barriers = [n for n, row in enumerate(program.code[:-1]) if row[FLAGS_AT // 8] == BARRIER]
    assert len(barriers) > 10
    for n in barriers:
        program.code[n, FLAGS_AT // 8] = 0
        with pytest.raises(AssertionError, match="side by side"):
            check_side_by_side(program)
        program.code[n, FLAGS_AT // 8] = BARRIER


def test_buffers_are_apart_and_aligned() -> None:
    """Buffers that live at the same time keep the gap that kernels may read over; all lie in the arena."""
    program = recorded(*PROGRAMS[0])
    start = int(program._arena.ctypes.data)
    buffers = {b for i in program._instructions for b in i.touches if isinstance(b, Buffer)}
    arena = [b for b in buffers if start <= b.address < start + program.arena_bytes]
    assert len(arena) > 10
    for b in arena:
        assert b.address % 64 == 0 and b.address + b.nbytes + 64 <= start + program.arena_bytes
        for other in arena:
            if other is not b and other.first <= b.last and b.first <= other.last:
                assert (
                    b.address + b.nbytes + 64 <= other.address
                    or other.address + other.nbytes + 64 <= b.address
                )


def test_every_operand_is_in_its_place() -> None:
    program = recorded(*PROGRAMS[0])
    for i, row in zip(program._instructions, program.code, strict=True):
        for at, name in enumerate(KERNELS[i.kernel].operands, 4):
            operand = i.operands[name]
            if not isinstance(operand, OfCache):
                assert row[at] == (operand.address if isinstance(operand, Buffer) else operand)


def test_every_kernel_has_its_writes() -> None:
    assert set(WRITES) == {name for name, row in KERNELS.items() if not row.plain}

"""Recorded programs: what runs side by side shares no memory that is written, and nothing is read before it
is there. Checked on addresses, after the arena was planned, against the roles in the catalog; `tests.arena`
holds kernels to those.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest

from edgeq import memory, models, ops
from edgeq.cache import CacheLayer, LayerShape, Plan, StateLayer, kind_of
from edgeq.converters import convert
from edgeq.errors import UsageError
from edgeq.formats import open_model
from edgeq.formats.layout import geometry
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels.catalog import BARRIER, FLAGS_AT, OPERANDS_MAX, Batch
from edgeq.kernels.roles import In, Number, Role, fact
from edgeq.kernels.row import Kernel
from edgeq.kernels.table import KERNELS
from edgeq.models import decoder
from edgeq.runtime.arena import ALIGNMENT, Buffer, Held, Input, Rows, plan
from edgeq.runtime.instructions import Instruction
from edgeq.runtime.operands import float32_bits
from edgeq.runtime.program import Program, Settings
from edgeq.runtime.recorder import Recorder
from edgeq.runtime.rotary import Tables
from edgeq.runtime.weights import Matrix, Vector, Weights

Block = TypeVar("Block")

Range = tuple[int, int, Any]  # from address, to address, whose


class FakeWeights:
    """Weights by shape and scheme alone, all zeros; no kernel runs."""

    def __init__(self, config: Any, schemes: dict[str, str]):
        self.config, self.schemes = config, schemes
        self.known: dict[str, Any] = {}
        self.of_family = set[str]()  # last names of what a block may have or not

    def matrix(self, name: str) -> Matrix:
        if name not in self.known:
            c = self.config
            q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
            shape = {
                "embed": (c.vocab_size, c.hidden_size), "q": (q, c.hidden_size), "k": (kv, c.hidden_size),
                "v": (kv, c.hidden_size), "o": (c.hidden_size, q),
                "gate": (c.intermediate_size, c.hidden_size), "up": (c.intermediate_size, c.hidden_size),
                "down": (c.hidden_size, c.intermediate_size),
            }[name]  # fmt: skip
            scheme = SCHEMES[self.schemes.get(name, self.schemes[""])]
            sizes = geometry(scheme, "lines16", shape)
            data = memory.zeros(sizes.nbytes)
            self.known[name] = Matrix(name, scheme.name, *shape, sizes.tiles, int(data.ctypes.data), data)
        return self.known[name]

    def vector(self, name: str) -> Vector:
        if name not in self.known:
            c = self.config
            q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
            sizes = {"q_norm": c.head_dim, "k_norm": c.head_dim, "q_bias": q, "k_bias": kv, "v_bias": kv}
            self.known[name] = Vector(name, np.zeros(sizes.get(name, c.hidden_size), np.float32))
        return self.known[name]

    @property
    def head(self) -> Matrix:
        return self.matrix("embed")

    def block(self, i: int, form: Any) -> Any:
        kinds = {"Matrix": self.matrix, "Vector": self.vector, "Vector | None": self.vector}
        needed = [f for f in fields(form) if "None" not in str(f.type) or f.name in self.of_family]
        return form(**{f.name: kinds[str(f.type)](f.name) for f in needed})


CONFIG = SimpleNamespace(
    vocab_size=500, hidden_size=72, intermediate_size=200, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=2, head_dim=20, rms_norm_eps=1e-5, sliding_window=None, max_position_embeddings=64,
)  # fmt: skip


def recorder(act: str = "int8", kv: str = "q8") -> Recorder:
    settings = Settings(isa="generic", act=act, workers=3, limit=16, outputs=4, tokens=4)
    return Recorder(settings, Plan(kind_of(kv), 300))


def recorded(
    family: str,
    schemes: dict[str, str],
    act: str,
    kv: str,
    layers: int = 3,
    weights: type[FakeWeights] = FakeWeights,
) -> Program:
    config = SimpleNamespace(**vars(CONFIG), cache_layers=lambda: [LayerShape(2, 20)] * layers)
    p = recorder(act, kv)
    module, w = models.family(family), weights(config, schemes)
    w.of_family = {row.name.split(".")[-1] for row in module.TENSORS}
    module.forward(p, config, w, {"rope": Tables(np.ones(10), 64)})
    return p.finish(dict.fromkeys(p.requests(), 1))


def place_of(shared: Buffer | CacheLayer | StateLayer) -> Range:
    """Layers of the cache have places below all addresses, and so have states."""
    if isinstance(shared, Buffer):
        return shared.address, shared.address + shared.nbytes, shared
    if isinstance(shared, StateLayer):
        return shared.at - (1 << 41), shared.at + shared.nbytes - (1 << 41), shared
    return shared.words[0] - (1 << 40), shared.ends[-1] - (1 << 40), shared


def ranges(i: Instruction) -> tuple[list[Range], list[Range]]:
    """What the instruction reads and what it writes, of the arena, the cache, ids and logits."""
    return [place_of(b) for b in i.reads], [place_of(b) for b in i.writes]


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


def counters(program: Program) -> Held:
    """Of the tasks of attention, which are zeros between instructions."""
    (found,) = {i.given["finished"] for i in program._instructions if "finished" in i.given}
    assert isinstance(found, Held) and not found.array.any()
    return found


def check_nothing_is_lost(program: Program) -> None:
    """Every buffer that is read holds, in full, what was last written under its name."""
    held = [place_of(b) for b in program._instructions[0].reads]  # the pass's ids
    assert [(start, end - start) for start, end, _ in held] == [(program.ids.ctypes.data, program.ids.nbytes)]
    held += [place_of(counters(program))]
    for i in program._instructions:
        reads, writes = ranges(i)
        for place in reads:
            assert place[2] in [h[2] for h in held], f"{i.kernel} reads what is not there"
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


def buffers(program: Program) -> list[Buffer]:
    """Those of the arena, in the order of the program."""
    every = dict.fromkeys(b for i in program._instructions for b in i.touches if isinstance(b, Buffer))
    return [b for b in every if not isinstance(b, Held)]


def test_buffers_are_apart_and_aligned() -> None:
    """Buffers that live at the same time share nothing; all lie in the arena."""
    program = recorded(*PROGRAMS[0])
    pieces = [(int(piece.ctypes.data), piece.nbytes) for piece in program._arena]
    found = buffers(program)
    assert len(found) > 10
    for b in found:
        assert b.address % ALIGNMENT == 0 or memory.checked()
        assert any(start <= b.address and b.address + b.nbytes <= start + n for start, n in pieces)
        for other in found:
            if other is not b and other.first <= b.last and b.first <= other.last:
                assert b.address + b.nbytes <= other.address or other.address + other.nbytes <= b.address


def first_fit(found: list[Buffer]) -> list[int]:
    """What `arena.plan` means: each buffer against all that were placed before it."""
    offsets: dict[int, int] = {}
    for n in sorted(range(len(found)), key=lambda n: (-found[n].nbytes, found[n].first)):
        b, at = found[n], 0
        room = -(-b.nbytes // ALIGNMENT) * ALIGNMENT
        for start, other in sorted((offsets[m], m) for m in offsets):
            o = found[other]
            if o.first <= b.last and b.first <= o.last and start < at + room:
                at = max(at, start + -(-o.nbytes // ALIGNMENT) * ALIGNMENT)
        offsets[n] = at
    return [offsets[n] for n in range(len(found))]


@pytest.mark.parametrize(("family", "schemes", "act", "kv"), PROGRAMS)
def test_the_plan_is_first_fit(family: str, schemes: dict[str, str], act: str, kv: str) -> None:
    found = buffers(recorded(family, schemes, act, kv, layers=6))
    assert plan(found) == first_fit(found)


def test_planning_compares_no_buffer_with_all() -> None:
    """Eight times the layers are eight times the work, counted in looks at buffers."""
    looks = 0

    class Watched(Buffer):
        def __getattribute__(self, name: str) -> Any:
            nonlocal looks
            looks += 1
            return super().__getattribute__(name)

    def planned(layers: int) -> int:
        nonlocal looks
        found = [Watched(**vars(b)) for b in buffers(recorded(*PROGRAMS[0], layers=layers))]
        looks = 0
        plan(found)
        return looks

    assert 0 < planned(64) < 9 * planned(8)


def test_every_operand_is_in_its_place() -> None:
    program = recorded(*PROGRAMS[0])
    for i, row in zip(program._instructions, program.code, strict=True):
        for at, name in enumerate(KERNELS[i.kernel].operands, 4):
            operand = i.operands[name]
            assert row[at] == (operand if isinstance(operand, int) else operand.address)


# ---- what a family must not record ----
def empty(act: str = "int8") -> tuple[Recorder, FakeWeights, Rows]:
    """A recorder, weights of several schemes, and the rows of the ids."""
    p, w = recorder(act), FakeWeights(CONFIG, {"": "q4", "up": "f16"})
    return p, w, ops.embed(p, w.matrix("embed"))


def test_a_weight_is_not_given_rows_of_other_columns() -> None:
    p, w, x = empty()
    with pytest.raises(UsageError, match="down of 200 columns is given rows of 72"):
        ops.matmul(p, w.matrix("down"), ops.quantize(p, x, [w.matrix("q")]))


def test_a_weight_is_not_given_rows_in_another_form() -> None:
    p, w, x = empty()
    with pytest.raises(UsageError, match="q, q4, is given rows that were not quantized"):
        ops.matmul(p, w.matrix("q"), ops.quantize(p, x, [w.matrix("up")]))
    with pytest.raises(UsageError, match="up, f16, is given rows that were not kept as floats"):
        ops.matmul(p, w.matrix("up"), ops.quantize(p, x, [w.matrix("q")]))


def test_a_sum_goes_to_rows_of_its_own_width() -> None:
    p, w, x = empty("f32")
    with pytest.raises(UsageError, match="200 sums a row of gate are added to rows of 72"):
        ops.matmul(p, w.matrix("gate"), ops.quantize(p, x, [w.matrix("gate")]), add_to=x)


@pytest.mark.parametrize(
    ("kernel", "given", "sentence"),
    [
        ("run", {}, "run is no kernel that a program can call"),
        ("nothing", {}, "nothing is no kernel that a program can call"),
        ("norm", dict(angle=1), "too many or too few operands: a, angle, count_at, epsilon, weight, y"),
        ("norm", dict(a="x", y="q", weight="norm1"), "a Matrix as y, where a buffer of rows is needed"),
        ("norm", dict(a="x", y="wide", weight="norm1"), "norm of norm1 is given y of 200 columns"),
        ("norm", dict(a="x", y="x", weight="q_norm"), "given weight of 20 columns, where 72 are needed"),
        ("norm", dict(a="x", y="x", weight="norm1", count_at=Batch.ROWS), "no count of rows"),
                ("rotate", dict(x="x", tables="tables", heads=6, head_dim=20), "x of 72 columns, where 120"),
        ("gated_silu", dict(gate="x", up="wide", y="x", each=1), "up of 200 columns, where 72"),
        ("embed", dict(ids="ids", weights="up", y="wide"), "embed of up is not made for f16, but"),
    ],
)  # fmt: skip
def test_what_a_role_does_not_take_is_refused(kernel: str, given: dict[str, Any], sentence: str) -> None:
    p, w, x = empty()
    known: dict[str, Any] = {
        "x": x,
        "wide": p.rows(200),
        "ids": p.ids,
        "tables": Tables(np.ones(10), 64),
        "q": w.matrix("q"),
        "up": w.matrix("up"),
    }
    known |= {name: w.vector(name) for name in ("norm1", "q_norm")}
    count = len(p.instructions)
    more = dict(epsilon=1e-5, count_at=Batch.COUNT) if "weight" in given else {}
    with pytest.raises(UsageError, match=sentence):
        p.emit(kernel, **more | {name: known.get(value, value) for name, value in given.items()})
    assert len(p.instructions) == count


def test_what_is_read_and_what_is_written() -> None:
    """Roles make barriers: an operand that is added to is read too."""
    p, w, x = empty("f32")
    ops.matmul(p, w.matrix("o"), Input(120, None, p.rows(120)), add_to=x)
    y = ops.matmul(p, w.matrix("q"), ops.quantize(p, x, [w.matrix("q")]))
    added, plain = p.instructions[-2:]
    assert x.buffer in added.reads and added.writes == [x.buffer] and added.barrier
    assert x.buffer in plain.reads and plain.writes == [y.buffer]


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        ([Number(f"n{i}") for i in range(OPERANDS_MAX + 1)], f"{OPERANDS_MAX + 1} operands, at most"),
        ([In("x", "dim")], "names operands twice or not at all: dim"),
        ([Number("x"), Number("x")], "names operands twice or not at all: x"),
        ([fact("dim", "x", "columns")], "names operands twice or not at all: x"),
    ],
)
def test_a_row_that_no_instruction_holds_is_refused(roles: list[Role], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Kernel("normalize", tuple(roles))


def test_weights_are_what_they_are_asked_for_as(demo_checkpoint: Path, tmp_path: Path) -> None:
    convert(demo_checkpoint, tmp_path / "demo.edgeq", scheme="q4")
    with open_model(tmp_path / "demo.edgeq") as file:
        w = Weights.of(file)
    assert w.matrix("embed").rows == 512 and len(w.vector("norm").values) == 64
    for name in ("embed", "nothing"):
        with pytest.raises(UsageError, match=f"{name} is no vector of this model"):
            w.vector(name)
    for name in ("norm", "nothing"):
        with pytest.raises(UsageError, match=f"{name} is no matrix of this model"):
            w.matrix(name)
    block = w.block(4, decoder.Block)
    assert block.down is w.matrix("blocks.4.down") and block.down.name == "blocks.4.down"
    assert block.norm1 is w.vector("blocks.4.norm1") and block.norm1.name == "blocks.4.norm1"


# ---- what the layers of a family tell attention ----
CAPS = [50.0, None, 30.0]


def sunk(p: Recorder, c: Any, w: Weights, i: int, x: Rows, ropes: Any, cache: CacheLayer) -> Rows:
    """A layer of a family with caps and, but for the last layer, sinks."""
    b = w.block(i, decoder.Block)
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, (b.q, b.k, b.v), epsilon=c.rms_norm_eps))
    sinks = Vector(f"sinks of {i}", np.full(6, i, np.float32)) if i < 2 else None
    a = ops.attend(p, q, k, v, cache, cap=CAPS[i], sinks=sinks)
    return ops.matmul(p, b.o, ops.quantize(p, a, (b.o,)), add_to=x)


@pytest.mark.parametrize("kv", ["q8", "f16", "q4", "k8v4"])
def test_caps_and_sinks_are_a_layers_own(kv: str) -> None:
    config = SimpleNamespace(**vars(CONFIG), cache_layers=lambda: [LayerShape(2, 20)] * 3)
    p, w = recorder(kv=kv), FakeWeights(CONFIG, {"": "q4", "embed": "q8"})
    decoder.decode(p, config, w, {"rope": Tables(np.ones(10), 64)}, sunk)  # type: ignore[arg-type]
    program = p.finish(dict.fromkeys(p.requests(), 1))
    check_side_by_side(program)
    rows = zip(program._instructions, program.code, strict=True)
    found = [(i, row) for i, row in rows if i.kernel.startswith("attend_")]
    assert len(found) == 3
    for n, (i, row) in enumerate(found):
        words = dict(zip(KERNELS[i.kernel].operands, row[4:], strict=False))
        assert words["cap"] == float32_bits(CAPS[n] or 0.0)
        vector = i.given["sinks"]
        assert words["sinks"] == (0 if n == 2 else vector.words[0])
        assert n == 2 or (vector.values[:6] == n).all()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(cap=-1.0), "cap is -1.0, where a number above 0 is needed"),
        (dict(cap=float("nan")), "cap is nan, where a number above 0 is needed"),
        (dict(sinks=Vector("sinks", np.zeros(5, np.float32))), "sinks of 5 columns, where 6 are needed"),
        (dict(cap=1.0, centre=np.zeros((2, 20), np.float32)), "centre of keys beside a cap or sinks"),
    ],
)
def test_a_cap_and_sinks_that_fit_no_layer_are_refused(given: dict[str, Any], sentence: str) -> None:
    p = recorder()
    q, k, v = p.rows(120), p.rows(40), p.rows(40)
    with pytest.raises(UsageError, match=sentence):
        ops.attend(p, q, k, v, p.cache(LayerShape(2, 20)), **given)

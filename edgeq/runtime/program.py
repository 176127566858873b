"""A forward pass as a program: recorded once, run for every pass of up to `limit` tokens.

A family's `forward` runs once against a `Program`, whose methods append instructions and return handles of
buffers. Where an instruction touches what another wrote since the last barrier, the recorder puts a
barrier between them; buffers whose lives do not overlap share memory in one arena. Operands that belong to
a sequence (its cache) are filled in by `bind`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.cache import Cache, CacheShape
from edgeq.errors import UsageError
from edgeq.kernels import catalog
from edgeq.kernels.catalog import KERNELS, Scratch, State
from edgeq.ownership import Unique
from edgeq.runtime import extents
from edgeq.runtime.arena import SLACK, Buffer, Input, Quantized, Rows, place, row_bytes
from edgeq.runtime.instructions import Instruction, OfCache, check
from edgeq.runtime.weights import Matrix, Vector
from edgeq.simd.tag import Request, Tag


def float32_bits(x: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", x))[0])


@dataclass
class Settings:
    """What a program is recorded for."""

    isa: str
    act: str  # "int8" or "f32"
    cache: CacheShape
    workers: int
    limit: int  # tokens in a pass at the most
    outputs: int  # tokens whose logits a pass can give
    epsilon: float
    window: int | None
    cosine: np.ndarray  # float32 [context, head_dim / 2]
    sine: np.ndarray
    tokens: int = field(default=1)  # to a tile: the instruction set's
    tiles: Mapping[str, int] = field(default_factory=dict)  # other numbers, by kernel and scheme: see `tuned`


class Program(Unique):
    """Recorder and recorded. After `finish`, `code` holds the instructions and `state`, `ids`, `logits` are
    its interface.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.state = memory.zeros(State.BYTES // 8, np.int64)
        self.ids = memory.zeros(settings.limit, np.int64)
        self.logits = memory.zeros((0, 0), np.float32)
        self.likeliest = memory.zeros(settings.outputs, np.int64)
        self.code = memory.zeros((0, catalog.WIDTH // 8), np.int64)
        self.marks: list[int] = []  # instructions before which a long pass may pause
        self._instructions: list[Instruction] = []
        self._since: dict[Any, bool] = {}  # touched since the last barrier: written?
        self._kept: list[np.ndarray] = []  # operands of the recorder's own
        self._cache_cells: list[tuple[int, int, OfCache]] = []
        self._ids = Buffer(self.ids.nbytes, self.ids.ctypes.data)
        self._embedded = 0  # tiles of the embedding
        self._weights: list[Matrix | Vector] = []  # whose memory the instructions read: they live as long
        self._arena: list[np.ndarray] = []

    # ---- recording ----
    def rows(self, columns: int) -> Rows:
        """A new buffer of float32 rows, one per token."""
        return Rows(Buffer(self.settings.limit * row_bytes(columns) + SLACK), columns)

    def _quantized(self, columns: int) -> Quantized:
        groups = (columns + 31) // 32 * self.settings.limit
        return Quantized(Buffer(groups * 32), Buffer(groups * 4), Buffer(groups * 4))

    def _emit(
        self, kernel: str, scheme: str, *, reads: Iterable[Any], writes: Iterable[Any], **operands: Any
    ) -> None:
        """Append an instruction; a barrier goes before it where it touches what changed, or changes what was
        touched. UsageError unless the operands are those of the catalog.
        """
        wrong = set(operands) ^ set(KERNELS[kernel].operands)
        if wrong:
            raise UsageError(
                f"kernel {kernel} is given too many or too few operands: {', '.join(sorted(wrong))}."
            )
        reads, writes = list(reads), list(writes)
        clash = any(self._since.get(b) for b in reads) or any(b in self._since for b in writes)
        if clash:
            self._instructions[-1].barrier = True
            self._since.clear()
        for b in reads:
            self._since.setdefault(b, False)
        for b in writes:
            self._since[b] = True
        s = self.settings
        tag = Tag(s.isa, scheme, s.tiles.get(f"{kernel} {scheme}", s.tokens))
        self._instructions.append(Instruction(kernel, tag, operands, [*reads, *writes]))

    def mark(self) -> None:
        """A long pass may pause here, for Ctrl-C."""
        self.marks.append(len(self._instructions))

    def embed(self, weight: Matrix) -> Rows:
        """The rows of the pass's ids."""
        self._embedded = weight.tiles
        self._weights.append(weight)
        y = self.rows(weight.columns)
        common: dict[str, Any] = dict(
            reads=[self._ids],
            writes=[y.buffer],
            ids=self._ids,
            y=y.buffer,
            y_stride=y.stride,
            weights=weight.codes,
        )
        if weight.quantized:
            self._emit("embed", weight.scheme, scales=weight.scales, groups=weight.groups, **common)
        else:
            self._emit("embed_float", weight.scheme, columns=weight.columns, **common)
        return y

    def _forms(self, columns: int, readers: Sequence[Matrix]) -> tuple[Quantized | None, Rows | None]:
        int8 = [m.quantized and self.settings.act == "int8" for m in readers]
        return (self._quantized(columns) if any(int8) else None), (
            self.rows(columns) if not all(int8) else None
        )

    def norm(self, x: Rows, weight: Vector, readers: Sequence[Matrix], *, outputs: bool = False) -> Input:
        """RMSNorm of x for the matrices that read it; with `outputs`, only of the tokens whose logits are
        wanted.
        """
        self._weights.append(weight)
        int8, floats = self._forms(x.columns, readers)
        common: dict[str, Any] = dict(
            weight=weight.address,
            dim=x.columns,
            epsilon=float32_bits(self.settings.epsilon),
            count_at=State.OUTPUTS if outputs else State.COUNT,
        )
        if int8:
            self._emit(
                "norm_quantize",
                "",
                reads=[x.buffer],
                writes=[int8.x, int8.scale, int8.sums],
                a=x.buffer,
                a_stride=x.stride,
                **int8.operands,
                **common,
            )
        if floats:
            self._emit(
                "norm",
                "",
                reads=[x.buffer],
                writes=[floats.buffer],
                x=x.buffer,
                x_stride=x.stride,
                y=floats.buffer,
                y_stride=floats.stride,
                **common,
            )
        return Input(x.columns, int8, floats)

    def input(self, x: Rows, readers: Sequence[Matrix]) -> Input:
        """x for the matrices that read it."""
        int8, floats = self._forms(x.columns, readers)
        if int8:
            self._emit(
                "quantize",
                "",
                reads=[x.buffer],
                writes=[int8.x, int8.scale, int8.sums],
                a=x.buffer,
                a_stride=x.stride,
                dim=x.columns,
                **int8.operands,
            )
        return Input(x.columns, int8, x if floats else None)

    def swiglu(self, gate: Rows, up: Rows, readers: Sequence[Matrix]) -> Input:
        """silu(gate) * up for the matrices that read it."""
        int8, floats = self._forms(gate.columns, readers)
        common: dict[str, Any] = dict(gate=gate.buffer, up=up.buffer, stride=gate.stride, dim=gate.columns)
        reads = [gate.buffer, up.buffer]
        if int8:
            self._emit(
                "swiglu_quantize",
                "",
                reads=reads,
                writes=[int8.x, int8.scale, int8.sums],
                **int8.operands,
                **common,
            )
        if floats:
            self._emit(
                "swiglu",
                "",
                reads=reads,
                writes=[floats.buffer],
                y=floats.buffer,
                y_stride=floats.stride,
                **common,
            )
        return Input(gate.columns, int8, floats)

    def matmul(
        self,
        weight: Matrix,
        x: Input,
        *,
        bias: Vector | None = None,
        add_to: Rows | None = None,
        outputs: bool = False,
    ) -> Rows:
        """weight . x (+ bias), added to the rows `add_to` where given; with `outputs`, into the program's
        logits. UsageError where x or add_to does not fit the weight, or x has not the form that it asks for.
        """
        if weight.columns != x.columns:
            raise UsageError(f"a weight of {weight.columns} columns is given rows of {x.columns}.")
        if add_to and add_to.columns != weight.rows:
            raise UsageError(f"{weight.rows} sums a row are added to rows of {add_to.columns}.")
        self._weights += [weight, bias] if bias else [weight]
        y = add_to or self.rows(weight.rows)
        if outputs:
            self.logits = memory.zeros((self.settings.outputs, row_bytes(weight.rows) // 4), np.float32)
            y = Rows(Buffer(self.logits.nbytes, self.logits.ctypes.data), weight.rows)
        common: dict[str, Any] = dict(
            weights=weight.codes,
            bias=bias.address if bias else 0,
            y=y.buffer,
            y_stride=y.stride,
            tiles=weight.tiles,
            add=int(add_to is not None),
            count_at=State.OUTPUTS if outputs else State.COUNT,
        )
        if weight.quantized and self.settings.act == "int8":
            q = x.int8
            if q is None:
                raise UsageError(f"a {weight.scheme} weight is given rows that were not quantized for it.")
            self._emit(
                "matmul",
                weight.scheme,
                reads=[q.x, q.scale, q.sums],
                writes=[y.buffer],
                scales=weight.scales,
                groups=weight.groups,
                **q.operands,
                **common,
            )
            return y
        if x.floats is None:
            raise UsageError(f"a {weight.scheme} weight is given rows that were not kept as floats for it.")
        common.update(reads=[x.floats.buffer], writes=[y.buffer], x=x.floats.buffer, x_stride=x.floats.stride)
        if weight.quantized:
            self._emit("matmul_act", weight.scheme, scales=weight.scales, columns=weight.columns, **common)
        else:
            self._emit("matmul_float", weight.scheme, columns=weight.columns, **common)
        return y

    def argmax(self, logits: Rows) -> None:
        """Where the largest of each row of the logits stands, into the program's `likeliest`."""
        out = Buffer(self.likeliest.nbytes, int(self.likeliest.ctypes.data))
        operands = dict(y=logits.buffer, y_stride=logits.stride, columns=logits.columns, likeliest=out)
        self._emit("argmax", "", reads=[logits.buffer], writes=[out], count_at=State.OUTPUTS, **operands)

    def norm_heads(self, x: Rows, weight: Vector, heads: int) -> Rows:
        """RMSNorm of each head of x, in place."""
        self._weights.append(weight)
        self._emit(
            "norm_heads",
            "",
            reads=[],
            writes=[x.buffer],
            x=x.buffer,
            x_stride=x.stride,
            weight=weight.address,
            heads=heads,
            head_dim=x.columns // heads,
            epsilon=float32_bits(self.settings.epsilon),
        )
        return x

    def rotate(self, x: Rows, heads: int) -> Rows:
        """Rotary position embedding of each head of x, in place."""
        self._emit(
            "rotate",
            "",
            reads=[],
            writes=[x.buffer],
            x=x.buffer,
            x_stride=x.stride,
            cosine=self.settings.cosine.ctypes.data,
            sine=self.settings.sine.ctypes.data,
            heads=heads,
            head_dim=x.columns // heads,
        )
        return x

    def attend(self, layer: int, q: Rows, k: Rows, v: Rows, *, centre: np.ndarray | None = None) -> Rows:
        """Causal attention of q over the layer's cache, after k and v were written to it.

        centre, float32 [kv_heads, head_dim], is taken from every key before it is rounded. It changes the
        scores of a query by one number, and so nothing but rounding: the nearer to all keys, the better.
        """
        s, shape = self.settings, self.settings.cache
        share = q.columns // shape.head_dim // shape.kv_heads
        dims = (shape.head_dim + 31) // 32 * 32
        count = s.limit * share + s.tokens  # queries of a key-value head, and what a last tile reads beyond
        size = count * shape.kv_heads
        heads = dict(
            heads=share * shape.kv_heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            capacity=shape.capacity,
            rows=count,
        )
        middle = memory.zeros((shape.kv_heads, dims), np.float32)
        if centre is not None:
            middle[:, : shape.head_dim] = centre
        self._kept.append(middle)
        scratch_bytes = Scratch(s.tokens, shape.head_dim).bytes
        scratch = dict(scratch=Buffer(scratch_bytes * s.workers), scratch_stride=scratch_bytes)
        source = dict(
            a=q.buffer,
            a_stride=q.stride,
            k=k.buffer,
            v=v.buffer,
            kv_stride=k.stride,
            centre=int(middle.ctypes.data),
            scaling=float32_bits(1.0 / math.sqrt(shape.head_dim)),
        )
        parts = {name: OfCache(layer, name) for name in shape.parts}
        query: dict[str, Buffer]
        if shape.kind == "q8":
            query = dict(
                q=Buffer(size * dims), q_scale=Buffer(size * dims // 8), q_sum=Buffer(size * dims // 8)
            )
        else:
            query = dict(q=Buffer(size * dims * 4))
        kind, tag = ("int8", "q8") if shape.kind == "q8" else ("float", shape.kind)
        y = self.rows(q.columns)
        own = scratch if kind == "int8" else {}
        self._emit(
            f"store_{kind}",
            tag,
            reads=[q.buffer, k.buffer, v.buffer],
            writes=[*query.values(), *parts.values(), *([scratch["scratch"]] if own else [])],
            **source,
            **query,
            **parts,
            **heads,
            **own,
        )
        self._emit(
            f"attend_{kind}",
            tag,
            reads=[*query.values(), *parts.values()],
            writes=[y.buffer, scratch["scratch"]],
            y=y.buffer,
            y_stride=y.stride,
            window=s.window or 0,
            **query,
            **parts,
            **heads,
            **scratch,
        )
        return y

    # ---- planning ----
    def requests(self) -> set[Request]:
        """The kernels that the program calls."""
        return {(i.kernel, i.tag) for i in self._instructions}

    def finish(self, addresses: dict[Request, int]) -> None:
        """Plan the arena and write the code; `addresses` holds the compiled kernels. UsageError, with memory
        checked, where an instruction reaches beyond its buffers.
        """
        self._instructions[-1].barrier = True
        phase = 0
        for i in self._instructions:
            i.phase = phase
            for b in i.touches:
                if isinstance(b, Buffer):
                    b.first = phase if b.first < 0 else b.first
                    b.last = phase
            phase += i.barrier
        every = dict.fromkeys(b for i in self._instructions for b in i.touches if isinstance(b, Buffer))
        self._arena = place([b for b in every if not b.address])
        self.code = memory.zeros((len(self._instructions), catalog.WIDTH // 8), np.int64)
        for n, i in enumerate(self._instructions):
            row = self.code[n]
            row[0] = addresses[i.kernel, i.tag]
            row[catalog.STATE_AT // 8] = self.state.ctypes.data
            row[catalog.FLAGS_AT // 8] = catalog.BARRIER * i.barrier
            for at, name in enumerate(KERNELS[i.kernel].operands, catalog.OPERANDS_AT // 8):
                value = i.operands[name]
                if isinstance(value, OfCache):
                    self._cache_cells.append((n, at, value))
                else:
                    row[at] = value.address if isinstance(value, Buffer) else value

        if memory.checked():
            self._check(cached=False)

    def bind(self, cache: Cache) -> None:
        """Point the program at a sequence's cache."""
        for row, at, ref in self._cache_cells:
            self.code[row, at] = cache.address(ref.layer, ref.part)
        if memory.checked():
            self._check(cached=True)

    def _check(self, *, cached: bool) -> None:
        s = self.settings
        sizes = extents.Sizes(s.limit, s.outputs, s.workers, len(s.cosine), self._embedded)
        check(self._instructions, self.code, sizes, cached=cached)

    @property
    def arena_bytes(self) -> int:
        """Memory of the activations."""
        return sum(piece.nbytes for piece in self._arena)

    def poison(self, pattern: np.ndarray) -> None:
        """Fill all that a pass computes in, and its results, with repetitions of some bytes. For tests: the
        next pass gives the same bits whatever they are.
        """
        for piece in (*self._arena, self.logits, self.likeliest):
            memory.fill(piece, pattern)

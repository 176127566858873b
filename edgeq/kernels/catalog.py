"""What kernels there are and what operands each takes, readable without numba.

An instruction is WIDTH bytes: the kernel's address, the address of the pass's state, a counter from which
workers take chunks of work, flags, and then the operands in the order of the row, each an int64. Addresses
point to the first element; strides are in bytes; `*_at` is the offset of a word in the state. What a buffer
holds beyond its columns and rows is said in `edgeq.arena`, how far each kernel reaches in `edgeq.extents`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.formats.schemes import SCHEMES

WIDTH = 256  # bytes of one instruction
STATE_AT, WORK_AT, FLAGS_AT, OPERANDS_AT = 8, 16, 24, 32
OPERANDS_MAX = (WIDTH - OPERANDS_AT) // 8
BARRIER = 1  # flag: the team meets after this instruction


class State:
    """Byte offsets of what one pass is about: written by the engine before each pass, read by kernels."""

    COUNT = 0  # tokens in this pass
    POSITION = 8  # position of the first of them
    OUTPUTS = 16  # how many of the last tokens want logits
    BYTES = 64


class Crew:
    """Byte offsets of what a team of workers shares, on cache lines of their own; a line of each worker's own
    follows.

    The gate says what is open to workers. From its low end: how many are inside; the first instruction of
    the open stretch, all ones when no pass runs; the number of the pass. Negative, it sends workers home.
    """

    GATE = 0
    INSIDE_BITS, INDEX_BITS = 10, 20
    SHUT, HOME = (2**INDEX_BITS - 1) << INSIDE_BITS, -1  # gates: no pass has run, none will
    PROGRAM, LENGTH = 64, 72  # of the pass
    WORKERS = 80  # how many
    YIELD, SLEEP, WAKE = 88, 96, 104  # addresses of the system's functions
    ASLEEP, BED = 128, 136  # per worker: 1 while its thread sleeps; the semaphore that it sleeps on
    CREW, WORKER = 144, 152  # per worker: where its crew is, and its number
    WORKER_BYTES = 64
    BYTES = 128  # before the workers' own


CHUNK = 256  # positions that attention handles at a time; a cache holds a multiple
QUERIES = 32  # of one key-value head, that a worker takes at a time


class Scratch:
    """Byte offsets of a worker's scratch in attention, for T <= 16 queries to a tile.

    First come lines of float32, one lane per query: a merge's factors, the chunk's own. At `tiles` begins
    what holds so far, for each tile of a task: two such lines, and the sums of values.
    """

    KEPT, ADDED, CHUNK_TOP, CHUNK_SUM = range(0, 256, 64)
    SCORES = 256  # float32 [T][CHUNK]
    LINE, TURNED = 0, 64  # in store_int8 instead of all that: a line of bytes, a head's float32
    TOP, SUM = 0, 64  # in a tile
    OUT = 128  # float32 [T][head_dim padded to 32]

    def __init__(self, tokens: int, head_dim: int):
        self.p = self.SCORES + tokens * CHUNK * 4  # int8 [T][CHUNK]
        self.p_scale = self.p + tokens * CHUNK  # float32 [T][CHUNK / 32]
        self.tiles = self.p_scale + tokens * CHUNK // 8
        tile = self.OUT + tokens * 4 * ((head_dim + 31) // 32 * 32)
        self.bytes = self.tiles + -(-QUERIES // tokens) * tile


@dataclass(frozen=True)
class Kernel:
    """A row: the module that defines the kernel, its operands, and the schemes that it is compiled for."""

    module: str
    operands: tuple[str, ...]
    schemes: tuple[str, ...] = ("",)  # "" where it reads neither weights nor cache
    plain: bool = False  # a C function of its own, not called through an instruction


CODES = tuple(row.name for row in SCHEMES.values() if row.planes)  # schemes of weights: codes with scales
FLOATS = tuple(row.name for row in SCHEMES.values() if row.number)  # and floats
CACHED = ("f32", "f16")  # floats of a cache; its codes are q8


INT8 = ("x", "x_scale", "x_sum")  # activations: int8; per 32 columns a float32 scale and two int16 sums
QUERY = ("q", "q_scale", "q_sum")  # queries: the same, [kv_heads][rows][head_dim padded to 32]
KEYS_VALUES = ("keys", "key_scales", "values", "value_scales")
HEADS = ("heads", "kv_heads", "head_dim", "capacity", "rows")

KERNELS = {
    "run": Kernel("interpreter", ("crew", "program", "length"), plain=True),
    "enter": Kernel("interpreter", ("own",), plain=True),
    "embed": Kernel("embedding", ("ids", "weights", "y", "y_stride", "tiles", "groups"), CODES),
    "embed_float": Kernel("embedding", ("ids", "weights", "y", "y_stride", "columns"), FLOATS),
    "norm": Kernel("normalize", ("x", "x_stride", "weight", "y", "y_stride", "dim", "epsilon", "count_at")),
    "norm_quantize": Kernel("normalize", ("a", "a_stride", "weight", *INT8, "dim", "epsilon", "count_at")),
    "norm_heads": Kernel("normalize", ("x", "x_stride", "weight", "heads", "head_dim", "epsilon")),
    "quantize": Kernel("activations", ("a", "a_stride", *INT8, "dim")),
    "swiglu": Kernel("activations", ("gate", "up", "stride", "y", "y_stride", "dim")),
    "swiglu_quantize": Kernel("activations", ("gate", "up", "stride", *INT8, "dim")),
    "matmul": Kernel(
        "matmul",
        (*INT8, "weights", "bias", "y", "y_stride", "tiles", "groups", "add", "count_at"),
        CODES,
    ),
    "matmul_act": Kernel(
        "matmul_float",
        (
            "x",
            "x_stride",
            "weights",
            "bias",
            "y",
            "y_stride",
            "tiles",
            "columns",
            "add",
            "count_at",
        ),
        CODES,
    ),
    "matmul_float": Kernel(
        "matmul_float",
        ("x", "x_stride", "weights", "bias", "y", "y_stride", "tiles", "columns", "add", "count_at"),
        FLOATS,
    ),
    "argmax": Kernel("argmax", ("y", "y_stride", "columns", "likeliest", "count_at")),
    "rotate": Kernel("rotate", ("x", "x_stride", "cosine", "sine", "heads", "head_dim")),
    "store_int8": Kernel(
        "cache",
        (
            "a",
            "a_stride",
            "k",
            "v",
            "kv_stride",
            "centre",
            "scaling",
            *QUERY,
            *KEYS_VALUES,
            *HEADS,
            "scratch",
            "scratch_stride",
        ),
        ("q8",),
    ),
    "store_float": Kernel(
        "cache",
        ("a", "a_stride", "k", "v", "kv_stride", "centre", "scaling", "q", "keys", "values", *HEADS),
        CACHED,
    ),
    "attend_int8": Kernel(
        "attention",
        (*QUERY, *KEYS_VALUES, "y", "y_stride", *HEADS, "window", "scratch", "scratch_stride"),
        ("q8",),
    ),
    "attend_float": Kernel(
        "attention",
        ("q", "keys", "values", "y", "y_stride", *HEADS, "window", "scratch", "scratch_stride"),
        CACHED,
    ),
}

"""What kernels there are and what operands each takes, readable without numba.

An instruction is WIDTH bytes: the kernel's address, the address of the pass's batch, a counter from which
workers take chunks of work, flags, and then the words of the operands in the order of the row, each an
int64. Addresses point to the first element; strides are in bytes; `*_at` is the offset of a word in the
batch. What a buffer holds beyond its columns and rows is said in `edgeq.runtime.arena`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from edgeq.errors import UsageError
from edgeq.formats.schemes import ACT_GROUP, SCHEMES

from .roles import (
    CACHE,
    FLAT,
    INT8,
    OUTSIDE,
    SCRATCH,
    SHARED,
    Const,
    Derived,
    Float,
    In,
    InBatch,
    InOut,
    Number,
    Operand,
    Out,
    Role,
    Shaped,
    Tables,
    Weight,
    fact,
    factors,
    stride,
)

WIDTH = 256  # bytes of one instruction
BATCH_AT, WORK_AT, FLAGS_AT, OPERANDS_AT = 8, 16, 24, 32
OPERANDS_MAX = (WIDTH - OPERANDS_AT) // 8
BARRIER = 1  # flag: the workers meet after this instruction


class Batch:
    """What one pass is about, rows of any number of sequences: byte offsets of the words that kernels read,
    and of the words of the tables that some of them are the addresses of. `runtime.batch` writes them.

    A segment is the rows of one sequence: one after another in the pass, at positions one after another.
    A sequence's pages are a row of addresses, one for each chunk of CHUNK positions, for each group of
    layers (`edgeq.cache.plan`) such a row.
    """

    COUNT = 0  # rows in this pass
    OUTPUTS = 8  # of them those whose logits are wanted
    SEGMENTS = 16
    ROWS, WANTED, SEGMENT = 24, 32, 40  # addresses of the three tables
    BYTES = 64

    POSITION, PAGES, ROW_BYTES = 0, 8, 16  # of a row: its position; where its sequence's pages are listed
    WANTED_BYTES = 8  # an output is the number of its row
    FIRST, LENGTH, START, OWN_PAGES = 0, 8, 16, 24  # of a segment: its first row, how many, and as of a row
    SEGMENT_BYTES = 32


class PoolState:
    """Byte offsets of what a pool of workers shares, on cache lines of their own; a line of each worker's own
    follows.

    The barrier says what is open to workers. From its low end: how many are inside; the first instruction
    of the open stretch, all ones when no pass runs; the number of the pass. Negative, it sends workers home.
    """

    BARRIER = 0
    INSIDE_BITS, INDEX_BITS = 10, 20
    SHUT, HOME = (2**INDEX_BITS - 1) << INSIDE_BITS, -1  # barriers: no pass has run, none will
    PROGRAM, LENGTH = 64, 72  # of the pass
    WORKERS = 80  # how many
    YIELD, SLEEP, WAKE = 88, 96, 104  # addresses of the system's functions
    ASLEEP, SEMAPHORE = 128, 136  # per worker: 1 while its thread sleeps; the semaphore that it sleeps on
    POOL, WORKER = 144, 152  # per worker: where its pool is, and its number
    WORKER_BYTES = 64
    BYTES = 128  # before the workers' own


CHUNK = 256  # positions that attention handles at a time, and that a page holds
QUERIES = 32  # of one key-value head, that a worker takes at a time
TASKS = 4  # of attention for each worker: where there are fewer, chunks are shared among workers too


class Scratch:
    """Byte offsets of a worker's scratch in attention, for T <= 16 queries to a tile.

    First come lines of float32, one lane per query: a merge's factors, the chunk's own. At `tiles` begins
    what holds so far, for each tile of a task: two such lines, and the sums of values.
    """

    KEPT, ADDED, CHUNK_TOP, CHUNK_SUM, STEP, WEIGHT_STEP = range(0, 384, 64)
    WEIGHTS = 384  # float32 [CHUNK], of the query at hand
    SCORES = WEIGHTS + CHUNK * 4  # float32 [T][CHUNK]
    LINE, TURNED = 0, 64  # in store_int8 instead of all that: a line of bytes, a head's float32
    ROOM = 64  # in narrow, behind the line: float32 [dims][16], and of a mean key [dims]
    TOP, SUM = 0, 64  # in a tile
    OUT = 128  # float32 [T][head_dim padded to 32]

    def __init__(self, tokens: int, head_dim: int):
        self.p = self.SCORES + tokens * CHUNK * 4  # numbers of 16 bits [T][CHUNK]
        self.tiles = self.p + tokens * CHUNK * 2
        tile = self.OUT + tokens * 4 * ((head_dim + 31) // 32 * 32)
        self.block = -(-QUERIES // tokens) * tile  # bytes of a task's tiles
        self.bytes = self.tiles + self.block


@dataclass(frozen=True)
class Kernel:
    """A row: the module that defines the kernel, the roles of its operands, and the schemes that it is
    compiled for. UsageError for a row that no instruction could hold, or that names what it does not have.
    """

    module: str
    roles: tuple[Role, ...]
    schemes: tuple[str, ...] = ("",)  # "" where it reads neither weights nor cache
    plain: bool = False  # a C function of its own, not called through an instruction

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The words of an instruction, which are the kernel's own parameters."""
        return tuple(word for role in self.roles for word in role.words)

    @cached_property
    def given(self) -> frozenset[str]:
        """The names of what a recorder is given."""
        return frozenset(role.name for role in self.roles if not isinstance(role, Derived))

    @cached_property
    def shared(self) -> tuple[Operand, ...]:
        """The operands that instructions share."""
        return tuple(role for role in self.roles if isinstance(role, Operand))

    @cached_property
    def shaped(self) -> tuple[Shaped, ...]:
        """The operands whose columns the kernel takes to be as many as its numbers say."""
        return tuple(role for role in self.roles if isinstance(role, Shaped) and role.width)

    @cached_property
    def of_scheme(self) -> str:
        """The name of the operand for whose scheme the kernel is compiled, "" where there is none."""
        of = (
            r.name
            for r in self.roles
            if isinstance(r, Weight) or (isinstance(r, Operand) and r.form is CACHE)
        )
        return next(of, "")

    def __post_init__(self) -> None:
        words = self.operands
        if len(words) > OPERANDS_MAX:
            raise UsageError(
                f"a kernel of {self.module} has {len(words)} operands, at most {OPERANDS_MAX} fit."
            )
        named = [f for role in self.roles for size in role.sizes for f in factors(size) if isinstance(f, str)]
        derived = [name for role in self.roles if isinstance(role, Derived) for name in role.of]
        unknown = {*named} - {*words, *OUTSIDE} | {*derived} - self.given
        twice = {word for word in words if words.count(word) > 1}
        if unknown or twice:
            wrong = ", ".join(sorted(unknown | twice))
            raise UsageError(f"a kernel of {self.module} names operands twice or not at all: {wrong}.")


CODES = tuple(row.name for row in SCHEMES.values() if row.planes)  # schemes of weights: codes with scales
FLOATS = tuple(row.name for row in SCHEMES.values() if row.number)  # and floats
CACHED = ("f32", "f16")  # floats of a cache; its bytes are q8
FAR = ("q4m", "q2m")  # and codes of its far pages

LINE = 16  # float32 that are read or written at once
GROUP = ACT_GROUP  # columns that share a scale, of a cache as of activations
TILE = 16  # rows of a matrix that are computed at once
ROOM = 2 * TILE  # bytes for each column of a tile unpacked: its codes, and lines of what comes of its scales

WEIGHTS = Weight("weights")
IDS = In("ids", form=FLAT, item=8)
COUNT = InBatch("count_at")
EPSILON = Float("epsilon")
ADDED = Number("add"), COUNT
BIAS = Const("bias", ("tiles", TILE), optional=True)
PRODUCT = Out("y", ("tiles", TILE), adds="add")
FLOAT_PRODUCT = (
    In("x", "columns", count="read"),
    WEIGHTS,
    BIAS,
    PRODUCT,
    fact("tiles", "weights"),
    fact("columns", "weights"),
    *ADDED,
)

QUERY_ROWS = ("kv_heads", "rows")
KEYS_VALUES = ("keys", "key_scales", "values", "value_scales")
FAR_PARTS = {  # by what kernels are called where keys are codes as well, and where values alone are
    "": ("means", "mean_scales", "far_keys", "far_values"),
    "_values": ("near_keys", "near_scales", "far_values"),
}
FAR_SCHEMES = {"": FAR, "_values": FAR[:1]}
ALL_HEADS, KV_HEADS = ("heads", "head_dim"), ("kv_heads", "head_dim")
HEADS = (
    Number("heads"),
    fact("kv_heads", "cache"),
    fact("head_dim", "cache"),
    fact("pages_at", "cache"),
    Number("rows"),
)
SOURCE = (
    In("a", ALL_HEADS, GROUP),
    In("k", KV_HEADS, GROUP, form=SHARED),
    In("v", KV_HEADS, GROUP, form=SHARED),
    stride("kv_stride", "k", "v"),
    Const("centre", "head_dim", GROUP, "kv_heads"),
    Float("scaling"),
)
ATTENDED = Out("y", ALL_HEADS)
SOFTMAX = (fact("window", "cache"), Float("cap"), Const("sinks", "heads", optional=True))
OWN_SCRATCH = Out("scratch", count="workers", form=SCRATCH)
WORKSPACE = (
    OWN_SCRATCH,
    Out("units", "block", count="units_max", form=SCRATCH, item=1, named=("units", "block")),
    Number("units_max"),
    InOut("finished", count=(TASKS, "workers"), form=FLAT, item=8),
)
ONE_HEAD = Out("scratch", "head_dim", GROUP, "workers", SCRATCH, before=Scratch.TURNED)
UNPACKED = Out("scratch", (ROOM, "groups", GROUP), count="workers", form=SCRATCH, item=1)


def plain(module: str, *operands: str) -> Kernel:
    """A row of a plain function, whose operands are addresses and numbers."""
    return Kernel(module, tuple(map(Number, operands)), plain=True)


KERNELS = {
    "run": plain("interpreter", "pool", "program", "length"),
    "enter": plain("interpreter", "own"),
    "block_tops": plain("logits.likelihood", "row", "count", "tops", "tail", "found"),
    "exponential_sum": plain("logits.likelihood", "row", "count", "top_bits", "tail", "found"),
    "weigh": plain(
        "logits.likelihood",
        *("row", "count", "top_bits", "factor_bits", "bound_bits", "last", "above_bits"),
        *("weights", "sums", "tail", "found"),
    ),
    "typicality": plain(
        "logits.likelihood",
        *("row", "count", "top_bits", "factor_bits", "mean_bits", "typical", "tops", "tail"),
    ),
    "blank": plain(
        "logits.likelihood",
        *("row", "logits", "count", "bound_bits", "last", "above_bits", "blanked", "tail"),
    ),
    "spread": plain("logits.likelihood", "row", "count", "centre_bits", "tail", "found"),
    "adapt": plain("logits.likelihood", "weights", "count", "share_bits", "target_bits", "row"),
    "descend": plain(
        "logits.selection",
        *("row", "weights", "count", "top_bits", "scale_bits", "steps", "histogram", "tail"),
    ),
    "at_step": plain(
        "logits.selection",
        *("row", "count", "top_bits", "scale_bits", "step", "steps", "places", "tail", "found"),
    ),
    "collect": plain(
        "logits.selection",
        *("row", "logits", "ids", "count", "bound_bits", "last", "above_bits", "tops"),
        *("kept_logits", "kept_ids", "found"),
    ),
    "allowed": plain("logits.selection", "mask", "logits", "count", "kept_logits", "kept_ids", "found"),
    "tally": plain("logits.repetition", "text", "length", "counts", "ids", "times", "found"),
    "repeats": plain("logits.repetition", "text", "length", "lengths"),
    "embed": Kernel(
        "embedding",
        (IDS, WEIGHTS, Out("y", ("groups", GROUP)), fact("tiles", "weights"), fact("groups", "weights")),
        CODES,
    ),
    "embed_float": Kernel(
        "embedding",
        (IDS, WEIGHTS, Out("y", "columns"), fact("tiles", "weights"), fact("columns", "weights")),
        FLOATS,
    ),
    "norm": Kernel(
        "normalize",
        (
            In("a", "dim", LINE, "limit"),
            Const("weight", "dim", LINE),
            Out("y", "dim", LINE),
            fact("dim", "a", "columns"),
            EPSILON,
            COUNT,
        ),
    ),
    "norm_quantize": Kernel(
        "normalize",
        (
            In("a", "dim", GROUP, "limit"),
            Const("weight", "dim", GROUP),
            Out("x", "dim", form=INT8),
            fact("dim", "a", "columns"),
            EPSILON,
            COUNT,
        ),
    ),
    "norm_heads": Kernel(
        "normalize",
        (InOut("x", ALL_HEADS), Const("weight", "head_dim"), Number("heads"), Number("head_dim"), EPSILON),
    ),
    "quantize": Kernel(
        "activations",
        (In("a", "dim", GROUP), Out("x", "dim", form=INT8), fact("dim", "a", "columns")),
    ),
    "swiglu": Kernel(
        "activations",
        (
            In("gate", "dim", LINE, form=SHARED),
            In("up", "dim", LINE, form=SHARED),
            stride("stride", "gate", "up"),
            Out("y", "dim", LINE),
            fact("dim", "gate", "columns"),
        ),
    ),
    "swiglu_quantize": Kernel(
        "activations",
        (
            In("gate", "dim", GROUP, form=SHARED),
            In("up", "dim", GROUP, form=SHARED),
            stride("stride", "gate", "up"),
            Out("x", "dim", form=INT8),
            fact("dim", "gate", "columns"),
        ),
    ),
    "matmul": Kernel(
        "matmul",
        (
            In("x", ("groups", GROUP), count="read", form=INT8),
            WEIGHTS,
            BIAS,
            PRODUCT,
            fact("tiles", "weights"),
            fact("groups", "weights"),
            *ADDED,
            UNPACKED,
        ),
        CODES,
    ),
    "matmul_act": Kernel("matmul_float", FLOAT_PRODUCT, CODES),
    "matmul_float": Kernel("matmul_float", FLOAT_PRODUCT, FLOATS),
    "argmax": Kernel(
        "argmax",
        (In("y", "columns", LINE), fact("columns", "y"), Out("likeliest", form=FLAT, item=8), COUNT),
    ),
    "rotate": Kernel(
        "rotate", (InOut("x", ALL_HEADS), Tables("tables", "head_dim"), Number("heads"), Number("head_dim"))
    ),
    "store_int8": Kernel(
        "cache",
        (
            *SOURCE,
            Out("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            Out("cache", form=CACHE, named=KEYS_VALUES),
            *HEADS,
            ONE_HEAD,
        ),
        ("q8", *FAR),
    ),
    "store_float": Kernel(
        "cache",
        (
            *SOURCE,
            Out("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            Out("cache", form=CACHE, named=("keys", "values")),
            *HEADS,
        ),
        CACHED,
    ),
    "attend_int8": Kernel(
        "attention",
        (
            In("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            In("cache", form=CACHE, named=KEYS_VALUES),
            ATTENDED,
            *HEADS,
            *SOFTMAX,
            *WORKSPACE,
        ),
        ("q8",),
    ),
    "attend_float": Kernel(
        "attention",
        (
            In("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            In("cache", form=CACHE, named=("keys", "values")),
            ATTENDED,
            *HEADS,
            *SOFTMAX,
            *WORKSPACE,
        ),
        CACHED,
    ),
    **{
        f"attend_coded{suffix}": Kernel(
            "far",
            (
                In("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
                In("far", form=CACHE, named=words),
                In("cache", form=CACHE, named=KEYS_VALUES),
                ATTENDED,
                *HEADS,
                *SOFTMAX,
                *WORKSPACE,
            ),
            FAR_SCHEMES[suffix],
        )
        for suffix, words in FAR_PARTS.items()
    },
    **{
        f"narrow{suffix}": Kernel(
            "narrow",
            (
                Out("far", form=CACHE, named=words),
                In("cache", form=CACHE, named=KEYS_VALUES),
                fact("kv_heads", "far"),
                fact("head_dim", "far"),
                fact("pages_at", "far"),
                OWN_SCRATCH,
            ),
            FAR_SCHEMES[suffix],
        )
        for suffix, words in FAR_PARTS.items()
    },
}

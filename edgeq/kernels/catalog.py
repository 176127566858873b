"""What pages, batches and instructions look like to kernels: offsets and sizes, readable without numba.

An instruction is WIDTH bytes: the kernel's address, the address of the pass's batch, a counter from which
workers take chunks of work, flags, and then the words of the operands in the order of the kernel's row
(`table`), each an int64. Addresses point to the first element; strides are in bytes; `*_at` is the offset of
a word in the batch. What a buffer holds beyond its columns and rows is said in `edgeq.runtime.arena`.
"""

from __future__ import annotations

from edgeq.formats.schemes import ACT_GROUP

WIDTH = 256  # bytes of one instruction
BATCH_AT, WORK_AT, FLAGS_AT, OPERANDS_AT = 8, 16, 24, 32
OPERANDS_MAX = (WIDTH - OPERANDS_AT) // 8
BARRIER = 1  # flag: the workers meet after this instruction


class Batch:
    """What one pass is about, rows of any number of sequences: byte offsets of the words that kernels read,
    and of the words of the tables that some of them are the addresses of. `runtime.batch` writes them.

    A segment is the rows of one sequence: one after another in the pass, at positions one after another.
    A sequence's pages are a row of addresses, one for each chunk of CHUNK positions, for each group of
    layers (`edgeq.cache.plan`) such a row. Before its first token it has no state: that page is 0.
    """

    COUNT = 0  # rows in this pass
    OUTPUTS = 8  # of them those whose logits are wanted
    SEGMENTS = 16
    ROWS, WANTED, SEGMENT = 24, 32, 40  # addresses of the three tables
    BYTES = 64

    POSITION, PAGES, ROW_BYTES = 0, 8, 16  # of a row: its position; where its sequence's pages are listed
    WANTED_BYTES = 8  # an output is the number of its row
    FIRST, LENGTH, START, OWN_PAGES = 0, 8, 16, 24  # of a segment: its first row, how many, and as of a row
    OLD_STATE, NEW_STATE = 32, 40  # the pages with its sequence's state before the pass, and behind it
    SEGMENT_BYTES = 48


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


LINE = 16  # float32 that are read or written at once
GROUP = ACT_GROUP  # columns that share a scale, of a cache as of activations
TILE = 16  # rows of a matrix that are computed at once
ROOM = 2 * TILE  # bytes for each column of a tile unpacked: its codes, and lines of what comes of its scales

"""Which tile and how many threads are fastest here: found by running products as the engine runs a model's.

The programs are recorded like those of models, of a few layers with random weights, so barriers, the
quantization between products and the tiles that a block of tokens leaves over are in the figures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeq import memory, ops
from edgeq.cores import allowed_cpus, default_threads
from edgeq.formats.schemes import NUMBERS, SCHEMES, TILE_ROWS, Part, Scheme
from edgeq.kernels.catalog import WORK_AT
from edgeq.packs import store
from edgeq.runtime.pool import Pool
from edgeq.runtime.program import Settings
from edgeq.runtime.recorder import Recorder
from edgeq.runtime.weights import Matrix
from edgeq.simd.host import host_isa
from edgeq.tuned import TILED, TILES, Tuned

SIDE = 2048  # rows and columns of a layer's product
LAYERS = 28  # 66 MB of q4: more than caches hold
FEW = 3  # layers, where the product is bound by arithmetic
PROMPT = 256  # tokens of a long pass
ROUNDS = 7  # of all candidates in turn; each one's fastest counts
BETTER = 1.05  # times the default's rate, for another to be chosen: less may be chance

Progress = Callable[[str], object]


@dataclass
class Choice:
    """A question, its candidates' rates, and the answer."""

    subject: str  # "matmul q4" or "threads"
    default: int
    unit: str
    rates: dict[int, float] = field(default_factory=dict)

    @property
    def chosen(self) -> int:
        """The fastest, if it is clearly faster than the default."""
        best = max(self.rates, key=lambda candidate: (self.rates[candidate], -candidate))
        return best if self.rates[best] > BETTER * self.rates[self.default] else self.default

    def to_json(self) -> dict[str, Any]:
        rates = {str(candidate): round(rate, 2) for candidate, rate in self.rates.items()}
        return {"chosen": self.chosen, "default": self.default, self.unit: rates}


class Weights:
    """Matrices of random codes and sub-scales, one after another in memory."""

    def __init__(self, scheme: str, layers: int, rows: int = SIDE, columns: int = SIDE):
        row = SCHEMES[scheme]
        padded = -(-columns // row.step) * row.step
        size = rows // TILE_ROWS * row.tile_bytes(padded)
        data = memory.zeros((layers, size))
        data[:] = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        at = 0
        for part in row.parts:
            end = at + rows // TILE_ROWS * part.tile_bytes(padded)
            if part.number:
                data[:, at:end] = np.tile(
                    _small(row, part, columns), (end - at) // np.dtype(part.dtype).itemsize
                )
            at = end
        address = int(data.ctypes.data)
        self.matrices = [
            Matrix(f"layer {n}", scheme, rows, columns, rows // TILE_ROWS, address + n * size, data)
            for n in range(layers)
        ]
        self.nbytes = data.nbytes


def _small(row: Scheme, part: Part, columns: int) -> np.ndarray:
    """The bytes of a float that makes what comes out about as large as what goes in; of a min zero, of a
    scale beside a row's float one.
    """
    subs, number = row.sub_kind, NUMBERS[part.number]
    spread = float(row.values.std()) * (max(-subs.low, subs.high) / math.sqrt(3) if subs else 1)
    value = 1 / (spread * math.sqrt(columns) * row.unit)
    if part.name == "min" or part.name == "scale" and row.row:
        value = float(part.name == "scale")
    if number.stored is None:  # a byte: the nearest of them all
        stored = np.arange(256, dtype=np.uint8)
        stored = stored[number.finite(stored)]
        return stored[[np.abs(number.floats(stored) - value).argmin()]]
    return number.stored(np.float32(value).reshape(1)).view(np.uint8)


class Passes:
    """A program over some matrices, and a pool that runs it."""

    def __init__(self, matrices: list[Matrix], workers: int, tiles: dict[str, int]):
        isa = host_isa()
        p = Recorder(
            Settings(
                isa=isa.name,
                act="int8",
                workers=workers,
                limit=PROMPT,
                outputs=PROMPT,
                tokens=isa.tokens,
                tiles=tiles,
            )
        )
        x = ops.embed(p, matrices[0])
        for n, matrix in enumerate(matrices, 1):
            x = ops.matmul(p, matrix, ops.quantize(p, x, [matrix]), outputs=n == len(matrices))
        self.program = p.finish(store.kernels().load(p.requests()))
        self.pool = Pool(workers, isa.name)

    def seconds(self, tokens: int, clock: Callable[[], float]) -> float:
        """Of one pass."""
        self.program.batch.count(tokens)
        self.program.code[:, WORK_AT // 8] = 0
        start = clock()
        self.pool.run(self.program.code)
        return clock() - start


@contextmanager
def passes(weights: Weights, settings: dict[int, tuple[int, dict[str, int]]]) -> Iterator[dict[int, Passes]]:
    """A program for each candidate's (workers, tiles); their threads end with the context."""
    made: dict[int, Passes] = {}
    try:
        for candidate, (workers, tiles) in settings.items():
            made[candidate] = Passes(weights.matrices, workers, tiles)
        yield made
    finally:
        for one in made.values():
            one.pool.close()


def fastest(
    candidates: dict[int, Passes], tokens: int, clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Each one's shortest time, after a round that warms up."""
    times: dict[int, list[float]] = {candidate: [] for candidate in candidates}
    for turn in range(ROUNDS + 1):
        for candidate, one in candidates.items():
            took = one.seconds(tokens, clock)
            if turn:
                times[candidate].append(took)
    return {candidate: min(each) for candidate, each in times.items()}


def best_tile(kernel: str) -> Choice:
    """Prompt tokens by tile, one worker."""
    choice = Choice(kernel, host_isa().tokens, "GMAC/s")
    weights = Weights(kernel.split()[1], FEW)
    candidates = sorted({*TILES, choice.default})
    with passes(weights, {tokens: (1, {kernel: tokens}) for tokens in candidates}) as made:
        # one worker's own processor time: other programs do not lengthen it
        for tokens, took in fastest(made, PROMPT, time.thread_time).items():
            choice.rates[tokens] = FEW * SIDE * SIDE * PROMPT / took / 1e9
    return choice


def best_threads(tiles: dict[str, int]) -> Choice:
    """Tokens by threads: the mean of prompt and decode, each as a part of the default's rate."""
    default, most = default_threads(), allowed_cpus()
    choice = Choice("threads", default, "of the default's rate")
    weights = Weights("q4", LAYERS)
    candidates = sorted({n for n in (1, 2, 3, 4, 6, 8, 12, 16, default, most) if n <= max(default, most)})
    with passes(weights, {workers: (workers, tiles) for workers in candidates}) as made:
        decode, prompt = fastest(made, 1), fastest(made, PROMPT // 8)
    for n in candidates:
        choice.rates[n] = math.sqrt(decode[default] / decode[n] * prompt[default] / prompt[n])
    return choice


def tune(progress: Progress = lambda subject: None) -> tuple[Tuned, list[Choice]]:
    """What is best here, and how that was found. Half a minute; most of it compiles the kernels to try."""
    choices = []
    for kernel in TILED:
        progress(kernel)
        choices.append(best_tile(kernel))
    tiles = {choice.subject: choice.chosen for choice in choices if choice.chosen != choice.default}
    progress("threads")
    threads = best_threads(tiles)
    return Tuned(tiles, threads.chosen if threads.chosen != threads.default else 0), [*choices, threads]

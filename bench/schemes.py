"""How fast the product of each scheme is, alone: one matrix of a 1.1B model, 1 token and many.

usage: python -m bench.schemes [SCHEME ...] [--tokens 1,2,3,4,256] [--isa NAME] [--json]

One thread, its own processor time, the fastest of several turns in which the schemes follow each other, so
that other programs lengthen all alike. A single token reads matrices that no cache holds; beside it stands
what a loop reads that does nothing else. With --json the last line of stdout is one object.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from typing import Any

import numpy as np

from edgeq import memory
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels import catalog
from edgeq.kernels.catalog import BATCH_AT, OPERANDS_AT, ROOM, WIDTH, WORK_AT
from edgeq.kernels.row import CODES
from edgeq.kernels.table import KERNELS
from edgeq.packs import store
from edgeq.runtime.batch import Batch
from edgeq.simd import isa
from edgeq.simd.host import host_isa
from edgeq.simd.tag import Tag
from edgeq.tune import Weights

ROWS, COLUMNS = 2048, 5632
MANY = 96 << 20  # bytes of weights that a single token reads: more than caches hold
TURN_S = 0.05  # of one measurement, at the least


class Product:
    """A scheme's product with so many tokens, over all copies of its matrix."""

    def __init__(self, name: str, tokens: int, isa_name: str):
        copies = int(MANY * 8 / (ROWS * COLUMNS * SCHEMES[name].bits)) + 1 if tokens == 1 else 1
        self.weights = Weights(name, copies, ROWS, COLUMNS)
        self.nbytes, self.macs = self.weights.nbytes, copies * ROWS * COLUMNS * tokens
        groups, rows = COLUMNS // 32, tokens + isa.by_name(isa_name).tokens
        rng = np.random.default_rng(1)
        self.x = memory.zeros(rows * COLUMNS, np.int8)
        self.x[:] = rng.integers(-127, 128, rows * COLUMNS)
        self.x_scale, self.x_sum = (
            memory.zeros(rows * groups, np.float32),
            memory.zeros(rows * groups * 2, np.int16),
        )
        self.x_scale[:] = 1e-3
        self.x_sum[:] = self.x.reshape(-1, 16).sum(1)
        self.y = memory.zeros(rows * ROWS, np.float32)
        self.scratch = memory.zeros(ROOM * COLUMNS)
        self.batch = Batch(tokens, 1)
        self.batch.count(tokens)
        operands: dict[str, Any] = dict(bias=0, y=self.y, y_stride=ROWS * 4, tiles=ROWS // 16, groups=groups)
        operands |= dict(x=self.x, x_scale=self.x_scale, x_sum=self.x_sum, add=0)
        operands["count_at"] = catalog.Batch.COUNT
        operands |= dict(scratch=self.scratch, scratch_stride=self.scratch.nbytes)
        self.code = memory.zeros((copies, WIDTH // 8), np.int64)
        for matrix, line in zip(self.weights.matrices, self.code, strict=True):
            line[BATCH_AT // 8] = self.batch.address
            operands["weights"] = matrix.address
            for at, operand in enumerate(KERNELS["matmul"].operands, OPERANDS_AT // 8):
                value = operands[operand]
                line[at] = value.ctypes.data if isinstance(value, np.ndarray) else value
        tag = Tag(isa_name, name, isa.by_name(isa_name).tokens)
        address = store.kernels().load([("matmul", tag)])["matmul", tag]
        self.call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(address)
        self.best = float("inf")

    def measure(self) -> None:
        """Seconds of one run over all copies, into `best` if there was none shorter."""
        runs, start = 0, time.thread_time()
        while time.thread_time() - start < TURN_S or not runs:
            self.code[:, WORK_AT // 8] = 0
            for line in self.code:
                self.call(line.ctypes.data, 0, 1)
            runs += 1
        self.best = min(self.best, (time.thread_time() - start) / runs)


class Read:
    """A loop over as many bytes that only adds them up."""

    def __init__(self) -> None:
        from bench.machine import read_kernel

        self.kernel, self.buffer, self.best = read_kernel(), np.ones(MANY // 4, np.float32), float("inf")
        self.kernel(self.buffer[:16])

    def measure(self) -> None:
        start = time.thread_time()
        self.kernel(self.buffer)
        self.best = min(self.best, time.thread_time() - start)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.schemes", description=__doc__, formatter_class=raw)
    parser.add_argument("schemes", nargs="*", help="all, if none is named")
    parser.add_argument("--tokens", default="1,256", help="tokens at once, separated by commas")
    parser.add_argument("--isa", default=host_isa().name, help="instruction set [the host's best]")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    counts = [int(n) for n in given.tokens.split(",")]
    names = given.schemes or list(CODES)
    read = Read()
    made = {(name, n): Product(name, n, given.isa) for name in names for n in counts}
    for _ in range(given.turns):
        read.measure()
        for one in made.values():
            one.measure()
    rows: list[dict[str, Any]] = []
    read_gbps = round(MANY / read.best / 1e9, 1)
    print(f"{given.isa}, one thread; GMAC/s, and what a token reads; a read loop does {read_gbps} GB/s")
    print(f"{'':8}" + "".join(f"{f'x{n}':>8}" for n in counts) + f"{'GB/s':>8}")
    for name in names:
        rates = {str(n): round(made[name, n].macs / made[name, n].best / 1e9, 1) for n in counts}
        single = made.get((name, 1))
        gbps = round(single.nbytes / single.best / 1e9, 1) if single else 0.0
        rows.append({"scheme": name, "gmacs": rates, "gbps": gbps})
        print(f"{name:8}" + "".join(f"{rate:8.1f}" for rate in rates.values()) + f"{gbps:8.1f}")
    if given.json:
        print(json.dumps({"isa": given.isa, "read_gbps": read_gbps, "rows": rows}))


if __name__ == "__main__":
    main()

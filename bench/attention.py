"""Where attention's time goes within a chunk of an INT8 cache: products, probabilities, merging.

usage: python -m bench.attention [--head-dims 64,128] [--tokens N,...] [--isa NAME] [--turns N] [--json]

A full chunk of positions that lies in the CPU's caches is attended again and again by a tile of queries, one
thread, each stage by itself and all together by turns: the best of them, in nanoseconds for each position and
query. The
bars: what makes probabilities of scores takes no longer than the products; everything together at least
WHOLE_BAR of the products' speed. Turning and rounding the keys, values and queries of a token is timed beside
it, for the share that it has in a pass. With --json the last line of stdout is one object.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.machine import Machine
from edgeq import memory
from edgeq.kernels.catalog import CHUNK, Scratch
from edgeq.simd import host, isa
from edgeq.simd.tag import Tag

WHOLE_BAR = 0.69  # of the products' speed, for everything together
SECONDS = 0.01  # of a measurement
ROOM = 1 << 20
STAGES = {  # of a chunk, in the words of edgeq.kernels.attention
    "keys": "chunk_scores(t, (keys, key_scales, values), q, scores, groups, {chunk})",
    "probabilities": """chunk_weights(value_scales, 0, {chunk}, m)
for n in range({queries}):
    chunk_probabilities(t, m, n, q_scale, 0, {chunk}, {chunk}, p + n * {chunk} * 2)""",
    "merge": "merge_chunk(m, tile)\nin_steps(m)",
    "values": "chunk_values(t, values, p, m, tile, groups, {chunk} // 32)",
}
PRODUCTS = ("keys", "values")
PLACES = """groups = {dims} // 32
keys, values = m + {room}, m + {room} + {chunk} * {dims}
key_scales, value_scales = m + 3 * {room}, m + 3 * {room} + {chunk} * {dims} // 8
q, q_scale = m + 4 * {room}, peek_f32(m + 4 * {room} + {dims} * 2)
scores, p, tile = m + {scores}, m + {p}, m + {tiles}
"""


@dataclass(frozen=True)
class Timed:
    """Nanoseconds for each position and query, of one size of heads and tiles."""

    head_dim: int
    queries: int
    ns: dict[str, float]  # by stage, and `whole`
    peak: float  # 10^9 multiply-adds a second of the best dot product of bytes, on registers alone

    @property
    def products(self) -> float:
        return sum(self.ns[name] for name in PRODUCTS)

    def row(self) -> dict[str, Any]:
        return {
            "head_dim": self.head_dim,
            "queries": self.queries,
            **{f"{name}_ns": round(ns, 3) for name, ns in self.ns.items()},
            "probabilities_of_products": round(self.ns["probabilities"] / self.products, 2),
            "products_of_whole": round(self.products / self.ns["whole"], 2),
            "gmacs_of_products": round(2 * self.head_dim / self.products, 1),
            "gmacs_of_registers": round(self.peak, 1),
        }


def compiled(text: str, tag: Tag) -> Callable[[int, int], None]:
    """The native function that does it `turns` times with the memory at m."""
    from numba import types

    from edgeq.kernels import attention, probabilities
    from edgeq.packs.executable import Executable
    from edgeq.simd import compile, verbs
    from edgeq.simd.frontend import written
    from edgeq.simd.link import link
    from edgeq.simd.target import Target

    scope: dict[str, Any] = {**vars(verbs), **vars(attention), **vars(probabilities), "t": tag}
    body = "\n        ".join(text.splitlines())
    exec(f"def f(m, turns):\n    for _ in range(turns):\n        {body}\n", scope)
    target = Target.of(tag.isa)
    module = compile.optimized(*written(scope["f"], types.void(types.int64, types.int64)), 2, "f", target)
    image, at = link({"f": bytes(compile.target_machine(target).emit_object(module))}, "f", target.machine)
    code = Executable.of_bytes(image)
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(code.address + at["f"])

    def run(m: int, turns: int, _keep: Executable = code) -> None:
        call(m, turns)

    return run


def filled(dims: int, tag: Tag) -> tuple[Any, int]:
    """Memory for the stages and where it begins: a chunk of random keys and values, queries whose scores are
    some units apart.
    """
    raw = memory.zeros(5 * ROOM)
    rng = np.random.default_rng(0)
    parts = raw[ROOM : ROOM + 2 * CHUNK * dims].view(np.int8)
    parts[:] = rng.integers(-127, 128, len(parts))
    raw[3 * ROOM : 4 * ROOM].view(np.float32)[:] = 1e-2
    queries = raw[4 * ROOM : 4 * ROOM + tag.tokens * dims * 4].view(np.int16).reshape(tag.tokens, -1)
    queries[:] = rng.integers(-127, 128, queries.shape) * 256
    queries[:, dims : dims + 2] = np.array([1e-5], np.float32).view(np.int16)
    return raw, int(raw.ctypes.data)


def measured(head_dim: int, tag: Tag, turns: int) -> Timed:
    scratch = Scratch(tag.tokens, head_dim)
    dims = -(-head_dim // 32) * 32
    numbers = {
        "dims": dims, "chunk": CHUNK, "queries": tag.tokens, "room": ROOM,
        "scores": Scratch.SCORES, "p": scratch.p, "tiles": scratch.tiles,
    }  # fmt: skip
    texts = {name: (PLACES + text).format(**numbers) for name, text in STAGES.items()}
    texts["whole"] = (PLACES + "\n".join(STAGES.values())).format(**numbers)
    calls = {name: compiled(text, tag) for name, text in texts.items()}
    raw, m = filled(dims, tag)
    found: dict[str, list[float]] = {name: [] for name in calls}
    rates: list[float] = []
    calls["whole"](m, 2)  # so that every stage finds what comes before it
    probe = Machine(1)
    for _ in range(turns):
        for name, call in calls.items():
            found[name].append(seconds(call, m) * 1e9 / (CHUNK * tag.tokens))
        rates.append(probe.dot_gmacs())
    del raw
    return Timed(head_dim, tag.tokens, {name: min(each) for name, each in found.items()}, max(rates))


def seconds(call: Callable[[int, int], None], m: int) -> float:
    """Of one turn, from as many as take SECONDS."""
    turns = 1
    while True:
        start = time.perf_counter()
        call(m, turns)
        taken = time.perf_counter() - start
        if taken >= SECONDS:
            return taken / turns
        turns *= 2 if taken <= 0 else max(2, int(1.2 * SECONDS / taken))


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m bench.attention", description=__doc__, formatter_class=raw)
    parser.add_argument("--head-dims", default="64,128", help="separated by commas [64,128]")
    parser.add_argument("--tokens", default="", help="queries of a tile, by commas [1 and a full one]")
    parser.add_argument("--isa", default="", help="an instruction set that this CPU has [the best]")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    row = isa.by_name(given.isa) if given.isa else host.host_isa()
    tokens = [int(n) for n in given.tokens.split(",") if n] or sorted({1, row.tokens})
    print(f"{row.name}: ns for each position and query, best of {given.turns}")
    names = [*STAGES, "whole"]
    heads = "".join(f"{name:>14}" for name in names)
    print(f"{'':13}{heads}{'products':>17}{'probabilities':>15}{'products':>10}")
    units = f"{'GMAC/s':>8}{'at most':>9}{'/ products':>15}{'/ whole':>10}"
    print(f"{'head':>5}{'queries':>8}{'ns':>14}{'':56}{units}")
    print(f"{'bars':>5}{1.0:{8 + 70 + 17 + 15}.2f}{WHOLE_BAR:10.2f}")
    rows = []
    for head_dim in map(int, given.head_dims.split(",")):
        for queries in tokens:
            found = measured(head_dim, Tag(row.name, "q8", queries), given.turns).row()
            rows.append(found)
            stages = "".join(f"{found[name + '_ns']:14.3f}" for name in names)
            rates = f"{found['gmacs_of_products']:8.1f}{found['gmacs_of_registers']:9.1f}"
            bars = f"{found['probabilities_of_products']:15.2f}{found['products_of_whole']:10.2f}"
            print(f"{head_dim:5}{queries:8}{stages}{rates}{bars}", flush=True)
    if given.json:
        print(json.dumps({"isa": row.name, "rows": rows}))


if __name__ == "__main__":
    main()

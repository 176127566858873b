"""How fast the experts of a mixture are read: a model of nothing but its mixtures, beside the read loop.

usage: python -m bench.experts [--shape olmoe-1b-7b] [--format q4_0] [--threads 2] [--tokens 16] [--repeat 9]
                               [--dir DIR] [--json]

The model is recorded without its attention, so that a token reads its experts, the routers and the head.
Each token is another one and goes to other experts. It and a loop that only reads take turns; medians are
told. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench.files import default_directory, prepare
from bench.machine import Machine
from bench.peers import processor, warn_if_busy
from bench.weights import SHAPES
from edgeq import engine, models, ops
from edgeq.formats import open_model
from edgeq.models import decoder, experts
from edgeq.models.families.qwen3_moe import Sparse

BAR = 0.85
MIXTURES = [name for name, shape in SHAPES.items() if shape.experts]


def mixtures_alone(p: Any, c: Any, w: Any, ropes: Any) -> None:
    """The pass of a model whose layers are their mixtures."""

    def layer(p: Any, c: Any, w: Any, i: int, x: Any, ropes: Any, cache: Any) -> Any:
        b = w.block(i, Sparse)
        return experts.mixture(p, c, b, x, ops.norm(p, x, b.norm2, b.readers, epsilon=c.rms_norm_eps))

    decoder.decode(p, c, w, ropes, layer)


def bytes_read(model: engine.Model) -> int:
    """By a token."""
    c: Any = model.config
    tensors = model.file.tensors
    head = tensors["output" if "output" in tensors else "embed"].nbytes
    share = c.num_experts_per_tok / c.num_experts
    return round(
        head
        + sum(
            tensor.nbytes * (share if ".experts_" in name else 1)
            for name, tensor in tensors.items()
            if ".experts_" in name or ".router" in name
        )
    )


def measure(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    with open_model(path) as file:
        family = models.family(file.family)
    with mock.patch.object(family, "forward", mixtures_alone):
        model = engine.load(path, threads=given.threads, context=4096)
    machine = Machine(given.threads)
    with model:
        nbytes = bytes_read(model)
        rates: list[float] = []
        reads: list[float] = []
        sequence = model.sequence()
        for turn in range(given.repeat + 1):
            reads.append(machine.read_gbps())
            ids = rng.integers(0, model.vocab_size, given.tokens).tolist()
            start = time.perf_counter()
            for id in ids:
                sequence.feed([id])
            seconds = (time.perf_counter() - start) / given.tokens
            if turn:  # the first one maps the file
                rates.append(nbytes / seconds / 1e9)
    loop = statistics.median(reads)
    rate = statistics.median(rates)
    share = statistics.median(r / m for r, m in zip(rates, reads[1:], strict=True))
    return {"mb": nbytes / 1e6, "gbps": rate, "loop_gbps": loop, "share": share}


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.experts", description=__doc__, formatter_class=raw)
    parser.add_argument("--shape", default="olmoe-1b-7b", choices=MIXTURES)
    parser.add_argument("--format", default="q4_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16, help="of each turn")
    parser.add_argument("--repeat", type=int, default=9, help="turns")
    parser.add_argument("--dir", type=Path, default=default_directory(), help="where model files are kept")
    parser.add_argument("--json", action="store_true", help="the JSON object alone")
    given = parser.parse_args()
    warn_if_busy()
    found = measure(prepare(given.dir, given.shape, given.format).edgeq, given)
    if not given.json:
        print(f"{processor()}, {given.threads} threads: {given.shape}, {given.format}")
        print(f"a token reads {found['mb']:.0f} MB of experts, routers and head at {found['gbps']:.1f} GB/s;")
        print(f"the read loop {found['loop_gbps']:.1f} GB/s: {found['share']:.2f} of it, bar {BAR}")
    print(json.dumps({"shape": given.shape, "format": given.format, "bar": BAR} | found))
    return int(found["share"] < BAR)


if __name__ == "__main__":
    sys.exit(main())

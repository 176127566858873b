"""Rotations that are folded into the weights: QuaRot's R1 and R2 (Ashkboos and others, 2024).

R1 turns the residual rows: norms' vectors go into the matrices behind them, which read turned rows, as those
that write to the rows write turned ones. R2 turns the values of each head, between v and o. Both are Hadamard
matrices with random signs, so that what is large in a few columns is spread over all. The online rotations
(of queries and keys, and of what `down` reads) are left out: nothing here is left to the runtime.

R1 puts the last norm's vector into the head, which therefore is no longer the embedding: a tied head is
untied, and the file has one matrix more.

SpinQuant learns R1 and R2 by gradients (Liu and others, 2024); `tries` stands for it without any: of so many
seeds the one whose weights are rounded with the least error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.converters.source import Source
from edgeq.models.folds import bias_of

from ..grid import inner
from ..methods import METHODS
from ..task import Task
from .base import Setting, Transform, folds_of
from .hadamard import Rotation
from .source import Arrays, ByRows, Transformed, block_of


@dataclass(frozen=True)
class Rotate(Transform):
    name = "rotate"
    residual: bool = True  # R1
    heads: bool = True  # R2
    tries: int = 1

    def __call__(self, source: Source, setting: Setting) -> Source:
        seeds = [setting.seed + n for n in range(self.tries)]
        if len(seeds) > 1:
            losses = [error_of(self.turned(source, seed), setting) for seed in seeds]
            seeds = [seeds[int(np.argmin(losses))]]
        return self.turned(source, seeds[0])

    def turned(self, source: Source, seed: int) -> Source:
        """The source turned by the matrices of a seed."""
        folds, c = folds_of(source), source.config
        r1, r2 = Rotation(c.hidden_size, seed), Rotation(c.head_dim, seed)

        def block(i: int, arrays: Arrays) -> Arrays:
            made = dict(arrays)
            for fold in folds.sets:
                norm = made[fold.feeder]
                if self.residual and norm.ndim == 1:
                    for name in fold.readers:
                        made[name] = r1(made[name].astype(np.float64) * norm)
                    made[fold.feeder] = np.ones_like(norm)
                if self.heads and fold.heads:
                    w = made[fold.feeder]
                    by_head = w.reshape(-1, c.head_dim, w.shape[1])
                    made[fold.feeder] = np.concatenate([r2.rows(head) for head in by_head])
                    bias = bias_of(fold.feeder)
                    if bias in made:
                        made[bias] = r2(made[bias].reshape(-1, c.head_dim)).reshape(-1)
                    for name in fold.readers:
                        columns = made[name].reshape(len(made[name]), -1, c.head_dim)
                        made[name] = r2(columns).reshape(made[name].shape)
            for name in folds.adders if self.residual else ():
                made[name] = r1.rows(made[name])
                if bias_of(name) in made:
                    made[bias_of(name)] = r1(made[bias_of(name)])
            return made

        label = f"rotate{'-r1' * self.residual}{'-r2' * self.heads}-{seed}"
        if not self.residual:
            return Transformed(source, label, block)
        embed = source.tensors["embed"]
        head = source.tensors.get("output", embed)
        norm = source.tensors["norm"].floats().reshape(-1)
        ends: dict[str, ByRows] = {
            "embed": lambda rows: r1(embed.floats(rows)),
            "output": lambda rows: r1(head.floats(rows).astype(np.float64) * norm),
            "norm": lambda rows: np.ones_like(norm)[rows],
        }
        return Transformed(source, label, block, ends, tied=False)


def error_of(source: Source, setting: Setting) -> float:
    """The squared errors of the blocks' matrices, rounded by a search, each relative to its size."""
    total = 0.0
    for i in range(source.config.num_hidden_layers):
        for name, w in block_of(source, i).items():
            scheme = setting.schemes.get(f"blocks.{i}.{name}")
            if scheme is None or not scheme.planes:
                continue
            task = Task(w, scheme, None, setting.dense, setting.seed)
            off = task.values(METHODS["search"].run(task, None)) - w
            total += inner(off, off) / (inner(w, w) or 1.0)
    return total

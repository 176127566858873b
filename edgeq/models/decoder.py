"""The blocks that decoders of the Llama line are made of, in the functions of `edgeq.ops`.

`p` is a recorder, `c` the model's config, `b` the weights of a block; rows x are [tokens, hidden].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import ops
from edgeq.models.base import BaseConfig
from edgeq.runtime import rotary

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights

    Project = Callable[[Recorder, BaseConfig, Any, Input], tuple[Rows, Rows, Rows]]
    Layer = Callable[[Recorder, BaseConfig, Weights, int, Rows, rotary.Tables, CacheLayer], Rows]


CENTRED = 4096  # positions whose keys a block's centre is meant for: where most sequences end


@dataclass(frozen=True)
class Block:
    """The weights of one layer; families with more have a class of their own."""

    norm1: Vector  # [hidden]
    q: Matrix  # [heads * head_dim, hidden]
    k: Matrix  # [kv_heads * head_dim, hidden]
    v: Matrix  # [kv_heads * head_dim, hidden]
    o: Matrix  # [hidden, heads * head_dim]
    norm2: Vector  # [hidden]
    gate: Matrix  # [intermediate, hidden]
    up: Matrix  # [intermediate, hidden]
    down: Matrix  # [hidden, intermediate]

    @property
    def key_bias(self) -> Vector | None:
        """What is added to each token's keys, [kv_heads * head_dim]."""
        return None


def project(p: Recorder, c: BaseConfig, b: Block, h: Input) -> tuple[Rows, Rows, Rows]:
    """Queries, keys and values of a block without biases or norms."""
    return ops.matmul(p, b.q, h), ops.matmul(p, b.k, h), ops.matmul(p, b.v, h)


def key_centre(c: BaseConfig, w: Weights, b: Block) -> np.ndarray | None:
    """Where the keys of a block lie about, float32 [kv_heads, head_dim], if they have a bias."""
    if b.key_bias is None:
        return None
    bias = b.key_bias.values[: c.num_key_value_heads * c.head_dim].reshape(-1, c.head_dim)
    frequencies = w.vector("rope.inverse_frequencies").values[: c.head_dim // 2]
    return rotary.mean(bias, frequencies, min(c.max_position_embeddings, CENTRED))


def attention(
    p: Recorder,
    c: BaseConfig,
    b: Block,
    x: Rows,
    project: Project,
    rope: rotary.Tables,
    cache: CacheLayer,
    centre: np.ndarray | None,
) -> Rows:
    """x + W_o . attention(RoPE(q), RoPE(k), v), with grouped queries."""
    q, k, v = project(p, c, b, ops.norm(p, x, b.norm1, (b.q, b.k, b.v), epsilon=c.rms_norm_eps))
    q = ops.rotate(p, q, rope, heads=c.num_attention_heads)
    k = ops.rotate(p, k, rope, heads=c.num_key_value_heads)
    a = ops.attend(p, q, k, v, cache, centre=centre)
    return ops.matmul(p, b.o, ops.quantize(p, a, (b.o,)), add_to=x)


def mlp(p: Recorder, c: BaseConfig, b: Block, x: Rows) -> Rows:
    """x + W_down . (silu(W_gate . h) * (W_up . h)), h the norm of x."""
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=c.rms_norm_eps)
    gated = ops.swiglu(p, ops.matmul(p, b.gate, h), ops.matmul(p, b.up, h), (b.down,))
    return ops.matmul(p, b.down, gated, add_to=x)


def layer(
    p: Recorder,
    c: BaseConfig,
    w: Weights,
    i: int,
    x: Rows,
    rope: rotary.Tables,
    cache: CacheLayer,
    form: type[Block] = Block,
    project: Project = project,
) -> Rows:
    """x after block i, whose weights have this form, which `project` knows."""
    b = w.block(i, form)
    return mlp(p, c, b, attention(p, c, b, x, project, rope, cache, key_centre(c, w, b)))


def head(p: Recorder, c: BaseConfig, w: Weights, x: Rows) -> None:
    """The logits of the pass's outputs, from x after the last block."""
    h = ops.norm(p, x, w.vector("norm"), (w.head,), epsilon=c.rms_norm_eps, outputs=True)
    ops.argmax(p, ops.matmul(p, w.head, h, outputs=True))


def decode(p: Recorder, c: BaseConfig, w: Weights, rope: rotary.Tables, layer: Layer = layer) -> None:
    """The whole pass, from ids to logits."""
    x = ops.embed(p, w.matrix("embed"))
    for i, shape in enumerate(c.cache_layers()):
        p.yield_point()
        x = layer(p, c, w, i, x, rope, p.cache(shape))
    p.yield_point()
    head(p, c, w, x)

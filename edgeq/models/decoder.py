"""The blocks that decoders are made of, in the functions of `edgeq.ops`.

`p` is a recorder, `c` the model's config, `b` the weights of a block; rows x are [tokens, hidden]. What a
block may have or not (biases, norms of heads) is used where the file has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeq import ops
from edgeq.models.base import BaseConfig
from edgeq.runtime import rotary

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights

Ropes = Mapping[str, rotary.Tables]  # by the names of `BaseConfig.ropes`
Layer = Callable[..., "Rows"]  # of (p, c, w, i, x, ropes, cache)
CENTRED = 4096  # positions whose keys a block's centre is meant for: where most sequences end


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The matrices of attention, and what may come with them."""

    q: Matrix  # [heads * head_dim, hidden]
    k: Matrix  # [kv_heads * head_dim, hidden]
    v: Matrix  # [kv_heads * head_dim, hidden]
    o: Matrix  # [hidden, heads * head_dim]
    q_bias: Vector | None = None  # [heads * head_dim]
    k_bias: Vector | None = None  # [kv_heads * head_dim]
    v_bias: Vector | None = None  # [kv_heads * head_dim]
    o_bias: Vector | None = None  # [hidden]
    q_norm: Vector | None = None  # [head_dim], or of all heads
    k_norm: Vector | None = None

    @property
    def qkv(self) -> tuple[Matrix, Matrix, Matrix]:
        return self.q, self.k, self.v


@dataclass(frozen=True, kw_only=True)
class Gated:
    """The matrices of a gated MLP."""

    gate: Matrix  # [intermediate, hidden]
    up: Matrix  # [intermediate, hidden]
    down: Matrix  # [hidden, intermediate]


@dataclass(frozen=True, kw_only=True)
class Mlp(Gated):
    """With the norm before it, where the rest of a layer is more than one thing."""

    norm2: Vector  # [hidden]


@dataclass(frozen=True, kw_only=True)
class Products(Attention, Gated):
    """Both; families with more have a class of their own."""


@dataclass(frozen=True, kw_only=True)
class Block(Products):
    """With the norms before attention and before the MLP."""

    norm1: Vector  # [hidden]
    norm2: Vector  # [hidden]


def tables(c: BaseConfig, w: Weights, positions: int) -> dict[str, rotary.Tables]:
    """Those of the config, for so many positions."""
    made = {}
    for name, of in c.TABLES.items():
        vector = w.vector(f"{of}.inverse_frequencies")
        factor = c.rope_factors.get(of, 1.0)
        made[name] = rotary.Tables(vector.values[: vector.columns], positions, factor, c.growth(name))
    return made


def project(p: Recorder, b: Attention, h: Input) -> tuple[Rows, Rows, Rows]:
    """Queries, keys and values."""
    q = ops.matmul(p, b.q, h, bias=b.q_bias)
    k = ops.matmul(p, b.k, h, bias=b.k_bias)
    return q, k, ops.matmul(p, b.v, h, bias=b.v_bias)


def norm_heads(p: Recorder, c: BaseConfig, b: Attention, q: Rows, k: Rows) -> tuple[Rows, Rows]:
    """Heads of queries and keys normalized, one by one or all as one, where the block has norms for that."""
    if b.q_norm is not None:
        ops.norm_heads(p, q, b.q_norm, epsilon=c.rms_norm_eps)
    if b.k_norm is not None:
        ops.norm_heads(p, k, b.k_norm, epsilon=c.rms_norm_eps)
    return q, k


def rotate(p: Recorder, c: BaseConfig, q: Rows, k: Rows, rope: rotary.Tables) -> tuple[Rows, Rows]:
    """Queries and keys turned by their positions."""
    q = ops.rotate(p, q, rope, heads=c.num_attention_heads)
    return q, ops.rotate(p, k, rope, heads=c.num_key_value_heads)


def key_centre(c: BaseConfig, b: Attention, rope: rotary.Tables | None) -> np.ndarray | None:
    """Where the keys of a block lie about, float32 [kv_heads, head_dim], if they have a bias. A norm behind
    it leaves nothing to know.
    """
    if b.k_bias is None or b.k_norm is not None:
        return None
    bias = b.k_bias.values[: c.num_key_value_heads * c.head_dim].reshape(-1, c.head_dim)
    return bias if rope is None else rope.mean(bias, min(c.max_position_embeddings, CENTRED))


def output(p: Recorder, b: Attention, a: Rows, add_to: Rows | None = None) -> Rows:
    """W_o . a, added to other rows or not."""
    return ops.matmul(p, b.o, ops.quantize(p, a, (b.o,)), bias=b.o_bias, add_to=add_to)


def feed_forward(
    p: Recorder, b: Gated, h: Input, activation: str = "silu", add_to: Rows | None = None
) -> Rows:
    """W_down . (activation(W_gate . h) * (W_up . h)), added to other rows or not."""
    y = ops.gated(p, ops.matmul(p, b.gate, h), ops.matmul(p, b.up, h), (b.down,), activation)
    return ops.matmul(p, b.down, y, add_to=add_to)


def mlp(p: Recorder, c: BaseConfig, w: Weights, i: int, x: Rows) -> Rows:
    """x + mlp(norm(x)) of layer i."""
    b = w.block(i, Mlp)
    return feed_forward(p, b, ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=c.rms_norm_eps), add_to=x)


def attend_for_outputs(
    p: Recorder, c: BaseConfig, b: Block, x: Rows, h: Input, rope: rotary.Tables, cache: CacheLayer
) -> tuple[Rows, Rows]:
    """Of a pass's last layer, which needs keys and values of all rows of x, whose norm is h, and queries of
    its outputs alone: x of these, and what they attend to.
    """
    k, v = ops.matmul(p, b.k, h, bias=b.k_bias), ops.matmul(p, b.v, h, bias=b.v_bias)
    if b.k_norm is not None:
        ops.norm_heads(p, k, b.k_norm, epsilon=c.rms_norm_eps)
    ops.rotate(p, k, rope, heads=c.num_key_value_heads)
    ops.store(p, k, v, cache, centre=key_centre(c, b, rope))
    (x,) = ops.outputs(p, x)
    q = ops.matmul(p, b.q, ops.norm(p, x, b.norm1, (b.q,), epsilon=c.rms_norm_eps), bias=b.q_bias)
    if b.q_norm is not None:
        ops.norm_heads(p, q, b.q_norm, epsilon=c.rms_norm_eps)
    ops.rotate(p, q, rope, heads=c.num_attention_heads)
    return x, ops.attend(p, q, None, None, cache)


def layer(p: Recorder, c: BaseConfig, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's: x + W_o . attention(RoPE(q), RoPE(k), v) of the norm of x, with grouped queries, then x +
    W_down . (silu(W_gate . h) * (W_up . h)), h the norm of that.
    """
    b, rope = w.block(i, Block), ropes["rope"]
    h = ops.norm(p, x, b.norm1, b.qkv, epsilon=c.rms_norm_eps)
    if p.is_last:
        x, a = attend_for_outputs(p, c, b, x, h, rope, cache)
    else:
        q, k, v = project(p, b, h)
        q, k = rotate(p, c, *norm_heads(p, c, b, q, k), rope)
        a = ops.attend(p, q, k, v, cache, centre=key_centre(c, b, rope))
    x = output(p, b, a, add_to=x)
    return feed_forward(p, b, ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=c.rms_norm_eps), add_to=x)


def head(
    p: Recorder, c: BaseConfig, w: Weights, x: Rows, *, scale: float = 1.0, cap: float | None = None
) -> None:
    """The logits of the pass's outputs, from x after the last block; times `scale` and under a cap."""
    h = ops.norm(p, x, w.vector("norm"), (w.head,), epsilon=c.rms_norm_eps, outputs=True)
    logits(p, w, h, scale=scale, cap=cap)


def layer_norm_head(p: Recorder, c: BaseConfig, w: Weights, x: Rows) -> None:
    """The logits of the pass's outputs behind a LayerNorm with a bias."""
    weight, bias = w.vector("norm"), w.vector("norm_bias")
    logits(p, w, ops.layer_norm(p, x, weight, bias, (w.head,), epsilon=c.rms_norm_eps, outputs=True))


def logits(p: Recorder, w: Weights, h: Input, *, scale: float = 1.0, cap: float | None = None) -> None:
    """W_head . h, times `scale` and under a cap; nothing in a program that leaves h itself."""
    if p.settings.rows:
        return
    y = ops.matmul(p, w.head, h, outputs=True)
    ops.argmax(p, ops.scale(p, y, scale, cap=cap, outputs=True))


def decode(
    p: Recorder,
    c: BaseConfig,
    w: Weights,
    ropes: Ropes,
    layer: Layer,
    head: Callable[..., None] = head,
    *,
    embedding_scale: float = 1.0,
    positions: Vector | None = None,
) -> None:
    """The whole pass, from ids to logits, or to the rows that these are made of (`Settings.rows`); what the
    file has for each position is added to its token's row.
    """
    x = ops.scale(p, ops.embed(p, w.matrix("embed")), embedding_scale)
    if positions is not None:
        ops.add_positions(p, x, positions, positions=c.max_position_embeddings)
    for i, shape in enumerate(c.cache_layers()):
        p.yield_point()
        p.is_last = i == c.num_hidden_layers - 1
        x = layer(p, c, w, i, x, ropes, p.cache(shape))
    p.yield_point()
    head(p, c, w, x)

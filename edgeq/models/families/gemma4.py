"""Gemma 4 (E2B, E4B, 12B, 31B, 26B-A4B): heads of two sizes, layers that read the keys and values of others,
an input of its own for each layer, and in one model experts beside each MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from edgeq import ops
from edgeq.models import decoder, experts
from edgeq.models.gemma4 import GGUF, Config
from edgeq.models.gemma4_tensors import TENSORS, UNREAD

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights

__all__ = ["GGUF", "HUGGINGFACE", "TENSORS", "UNREAD", "Config", "embed", "forward", "head", "layer"]

HUGGINGFACE = (
    ("gemma4_text", "Gemma4ForCausalLM"),
    ("gemma4_unified_text", "Gemma4UnifiedForCausalLM"),
)


@dataclass(frozen=True, kw_only=True)
class Block:
    q: Matrix  # [heads * head_dim, hidden]
    o: Matrix  # [hidden, heads * head_dim]
    q_norm: Vector  # [head_dim]
    norm1: Vector  # [hidden]
    post_norm1: Vector  # [hidden]
    gate: Matrix  # [intermediate, hidden]
    up: Matrix  # [intermediate, hidden]
    down: Matrix  # [hidden, intermediate]
    norm2: Vector  # [hidden]
    post_norm2: Vector  # [hidden]
    scale: Vector  # [1]
    k: Matrix | None = None  # [kv_heads * head_dim, hidden]
    v: Matrix | None = None  # [kv_heads * head_dim, hidden]; without it values are what keys are made of
    k_norm: Vector | None = None  # [head_dim]
    input_gate: Matrix | None = None  # [input, hidden]
    input_up: Matrix | None = None  # [hidden, input]
    input_norm: Vector | None = None  # [hidden]

    @property
    def qkv(self) -> list[Matrix]:
        return [each for each in (self.q, self.k, self.v) if each is not None]


@dataclass(frozen=True, kw_only=True)
class Sparse(Block, experts.Experts):
    router_norm: Vector  # [hidden]
    router_scales: Vector  # [experts]
    mlp_norm: Vector  # [hidden]
    experts_norm1: Vector  # [hidden]
    experts_norm2: Vector  # [hidden]


def attention(p: Recorder, c: Config, b: Block, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """W_o . attention(RoPE(norm(q)), RoPE(norm(k)), v / rms(v)) of the norm of x, with scores as they are."""
    epsilon, rope = c.rms_norm_eps, ropes[c.layer_types[i]]
    h = ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon)
    q = ops.norm_heads(p, ops.matmul(p, b.q, h), b.q_norm, epsilon=epsilon)
    q = ops.rotate(p, q, rope, heads=c.num_attention_heads)
    k = v = None
    if b.k is not None:
        k = ops.matmul(p, b.k, h)
        v = ops.copy(p, k) if b.v is None else ops.matmul(p, b.v, h)
        v = ops.norm_heads(p, v, None, epsilon=epsilon, head_dim=c.head_size(i))
        k = ops.norm_heads(p, k, b.k_norm, epsilon=epsilon, head_dim=c.head_size(i))
        k = ops.rotate(p, k, rope, heads=c.kv_heads(i))
    a = ops.attend(p, q, k, v, cache, scale=1.0)
    return ops.matmul(p, b.o, ops.quantize(p, a, (b.o,)))


def feed_forward(p: Recorder, c: Config, b: Block, x: Rows) -> Rows:
    """An MLP of the norm of x; or the norm of that + the norm of a mixture of another norm of x, by scores of
    a third.
    """
    epsilon = c.rms_norm_eps
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    y = ops.matmul(p, b.down, gelu(p, ops.matmul(p, b.gate, h), ops.matmul(p, b.up, h), (b.down,)))
    if not isinstance(b, Sparse):
        return y
    first = ops.norm(p, y, b.mlp_norm, (), epsilon=epsilon).floats
    assert first is not None  # without readers it is
    scores = ops.matmul(p, b.router, ops.norm(p, x, b.router_norm, (b.router,), epsilon=epsilon))
    scores = ops.scale(p, scores, c.hidden_size**-0.5)
    h = ops.norm(p, x, b.experts_norm1, (b.experts_gate, b.experts_up), epsilon=epsilon)
    y = experts.mixture(p, c, b, None, h, scores=scores, scales=b.router_scales, gate=gelu)
    return ops.add_norm(p, first, y, b.experts_norm2, epsilon=epsilon)


def gelu(p: Recorder, gate: Rows, up: Rows, readers: tuple[Matrix], each: int = 1) -> Input:
    """gelu(gate) * up."""
    return ops.gated(p, gate, up, readers, "gelu", each=each)


def layer(
    p: Recorder,
    c: Config,
    w: Weights,
    i: int,
    x: Rows,
    ropes: Ropes,
    cache: CacheLayer,
    inputs: Rows | None = None,
) -> Rows:
    """x + norm(attention), + norm(MLP), + norm(W_up . (gelu(W_gate . x) * its input)), times a number."""
    b, epsilon = w.block(i, Sparse if c.num_experts else Block), c.rms_norm_eps
    x = ops.add_norm(p, x, attention(p, c, b, i, x, ropes, cache), b.post_norm1, epsilon=epsilon)
    x = ops.add_norm(p, x, feed_forward(p, c, b, x), b.post_norm2, epsilon=epsilon)
    if inputs and b.input_gate and b.input_up and b.input_norm:
        size = c.hidden_size_per_layer_input
        gate = ops.matmul(p, b.input_gate, ops.quantize(p, x, (b.input_gate,)))
        y = ops.matmul(p, b.input_up, gelu(p, gate, inputs.part(i * size, size), (b.input_up,)))
        x = ops.add_norm(p, x, y, b.input_norm, epsilon=epsilon)
    return ops.scale(p, x, float(b.scale.values[0]))


def layer_inputs(p: Recorder, c: Config, w: Weights, x: Rows) -> Rows:
    """[tokens, layers * input]: the token's row of a table, and for each layer the norm of a product with the
    embedding, which the reference divides by sqrt(hidden): to a norm that is a larger epsilon.
    """
    matrix = w.matrix("inputs")
    y = ops.matmul(p, matrix, ops.quantize(p, x, (matrix,)))
    y = ops.norm_heads(p, y, w.vector("inputs_norm"), epsilon=c.rms_norm_eps * c.hidden_size)
    own = ops.embed(p, w.matrix("embed_inputs"))
    own = ops.scale(p, own, sqrt(c.hidden_size_per_layer_input / 2))
    return ops.add(p, own, y, sqrt(0.5))


def embed(p: Recorder, c: Config, w: Weights) -> Rows:
    """Rows times the root of their width."""
    return decoder.embed(p, c, w, scale=sqrt(c.hidden_size))


def head(p: Recorder, c: Config, w: Weights, x: Rows) -> None:
    """Logits under a cap."""
    decoder.head(p, c, w, x, cap=c.final_logit_softcapping)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass. Where no layer keeps keys and values any more, only rows of outputs go on."""
    x = embed(p, c, w)
    inputs = layer_inputs(p, c, w, x) if c.hidden_size_per_layer_input else None
    for i, shape in enumerate(c.cache_layers()):
        p.yield_point()
        if i == c.keeping:
            x, *rest = ops.outputs(p, x, *((inputs,) if inputs else ()))
            inputs = rest[0] if rest else None
        x = layer(p, c, w, i, x, ropes, p.cache(shape), inputs)
    p.yield_point()
    head(p, c, w, x)

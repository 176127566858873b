"""Gemma 4 (E2B, E4B, 12B, 31B, 26B-A4B): heads of two sizes, layers that read the keys and values of others,
an input of its own for each layer, and in one model experts beside each MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

from edgeq import ops
from edgeq.models import decoder, experts, tensors
from edgeq.models.families.gemma2 import post_norms
from edgeq.models.gemma4 import GGUF, Config
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, Part, Tensor, sources

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights

__all__ = ["GGUF", "HUGGINGFACE", "TENSORS", "UNREAD", "Config", "forward", "head", "layer"]

HUGGINGFACE = (
    ("gemma4_text", "Gemma4ForCausalLM"),
    ("gemma4_unified_text", "Gemma4UnifiedForCausalLM"),
)
INPUTS = "hidden_size_per_layer_input"
GLOBAL = {"q_size": "global_q_size", "kv_size": "global_kv_size", "head_dim": "global_head_dim"}
When = Callable[[Config, int], bool]


def keeps(c: Config, i: int) -> bool:
    return i < c.keeping


def has_values(c: Config, i: int) -> bool:
    return keeps(c, i) and not (c.attention_k_eq_v and c.is_global(i))


def every(c: Config, i: int) -> bool:
    return True


def is_wide(c: Config, i: int) -> bool:
    return c.use_double_wide_mlp and not keeps(c, i)


def has_experts(c: Config, i: int) -> bool:
    return c.num_experts > 0


def of_kinds(row: Tensor, when: When) -> tuple[Tensor, Tensor]:
    """A row of layers with a window, and that of the others, whose heads are of another size."""

    def sizes(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(GLOBAL.get(name, name) for name in names)

    def fused(source: From) -> From:
        moves = (replace(m, of=sizes(m.of)) if isinstance(m, Part) else m for m in source.moves)
        return replace(source, moves=tuple(moves))

    gguf = tuple(map(fused, sources(row.gguf)))
    return (
        replace(row, when=lambda c, i: when(c, i) and not c.is_global(i)),
        replace(row, shape=sizes(row.shape), gguf=gguf, when=lambda c, i: when(c, i) and c.is_global(i)),
    )


def attention_rows() -> tuple[Tensor, ...]:
    q, k, v, o = tensors.attention()
    q_norm, k_norm = tensors.head_norms()
    each = ((q, every), (k, keeps), (v, has_values), (o, every), (q_norm, every), (k_norm, keeps))
    return tuple(made for row, when in each for made in of_kinds(row, when))


def mlp_rows() -> tuple[Tensor, ...]:
    rows = tensors.mlp()
    double = {"intermediate_size": "double_size"}
    wide = (replace(row, shape=tuple(double.get(size, size) for size in row.shape)) for row in rows)
    return (
        *(replace(row, when=lambda c, i: not is_wide(c, i)) for row in rows),
        *(replace(row, when=is_wide) for row in wide),
    )


def idle_rows() -> tuple[Tensor, ...]:
    """What layers that keep no keys and values have of them in some checkpoints."""
    rows = (*tensors.attention()[1:3], *tensors.head_norms())
    return tuple(replace(row, when=lambda c, i: not keeps(c, i)) for row in rows if "q_norm" not in row.name)


def vector(name: str, hf: str, gguf: str, size: str, when: str | When | None = None) -> Tensor:
    return Tensor(f"blocks.{{i}}.{name}", f"{HF}{hf}", f"{BLK}{gguf}", (size,), "vector", when=when)


TENSORS = (
    *tensors.ends(),
    Tensor("rope.sliding.inverse_frequencies", None, None, ("sliding_rotary_size",), "vector"),
    Tensor("embed_inputs", "model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight",
           ("vocab_size_per_layer_input", "inputs_size"), "embed", when=INPUTS),
    Tensor("inputs", "model.per_layer_model_projection.weight", "per_layer_model_proj.weight",
           ("inputs_size", "hidden_size"), "matrix", when=INPUTS),
    Tensor("inputs_norm", "model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight",
           (INPUTS,), "vector", when=INPUTS),
    *post_norms(plus=0.0),
    *attention_rows(),
    *mlp_rows(),
    Tensor("blocks.{i}.input_gate", f"{HF}per_layer_input_gate.weight", f"{BLK}inp_gate.weight",
           (INPUTS, "hidden_size"), "matrix", when=INPUTS),
    Tensor("blocks.{i}.input_up", f"{HF}per_layer_projection.weight", f"{BLK}proj.weight",
           ("hidden_size", INPUTS), "matrix", when=INPUTS),
    vector("input_norm", "post_per_layer_input_norm.weight", "post_norm.weight", "hidden_size", INPUTS),
    vector("scale", "layer_scalar", "layer_output_scale.weight", "one"),
    *experts.rows("", "router.proj", when=has_experts),
    vector("router_norm", "router.scale", "ffn_gate_inp.scale", "hidden_size", has_experts),
    vector("router_scales", "router.per_expert_scale", "ffn_down_exps.scale", "num_experts", has_experts),
    vector("mlp_norm", "post_feedforward_layernorm_1.weight", "post_ffw_norm_1.weight", "hidden_size",
           has_experts),
    vector("experts_norm1", "pre_feedforward_layernorm_2.weight", "pre_ffw_norm_2.weight", "hidden_size",
           has_experts),
    vector("experts_norm2", "post_feedforward_layernorm_2.weight", "post_ffw_norm_2.weight", "hidden_size",
           has_experts),
)  # fmt: skip
UNREAD = idle_rows()


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


def head(p: Recorder, c: Config, w: Weights, x: Rows) -> None:
    """Logits under a cap."""
    decoder.head(p, c, w, x, cap=c.final_logit_softcapping)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass. Where no layer keeps keys and values any more, only rows of outputs go on."""
    x = ops.scale(p, ops.embed(p, w.matrix("embed")), sqrt(c.hidden_size))
    inputs = layer_inputs(p, c, w, x) if c.hidden_size_per_layer_input else None
    for i, shape in enumerate(c.cache_layers()):
        p.yield_point()
        if i == c.keeping:
            x, *rest = ops.outputs(p, x, *((inputs,) if inputs else ()))
            inputs = rest[0] if rest else None
        x = layer(p, c, w, i, x, ropes, p.cache(shape), inputs)
    p.yield_point()
    head(p, c, w, x)

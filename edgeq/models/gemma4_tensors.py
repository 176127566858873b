"""Gemma 4's table of tensors, and what its checkpoints have for nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeq.models import experts, tensors
from edgeq.models.families.gemma2 import post_norms
from edgeq.models.gemma4 import Config
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, Part, Tensor, sources

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

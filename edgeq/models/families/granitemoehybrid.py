"""Granite 4 H: layers of Mamba-2 or of attention with Granite's factors, behind each an MLP, and perhaps
experts beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.cache import CacheLayer, LayerShape, StateLayer, StateShape
from edgeq.models import decoder, experts, mamba, tensors
from edgeq.models.families import granite, granitemoe
from edgeq.models.gguf import Gguf, Words, attending, of_one
from edgeq.models.hybrid import LAYER_TYPES, LINEAR, attends, recurs
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, Part, Tensor, norm
from edgeq.models.words import FULL, Choice, Whole, word

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights

    State = CacheLayer | tuple[StateLayer, ...]

KINDS = {"mamba": LINEAR, "attention": FULL}  # as published checkpoints call them
NOPE, ROPE = "nope", "rope"


@dataclass(frozen=True)
class Config(granite.Config, mamba.Config, experts.Config):
    num_experts: int = word(Whole(0, 4096))  # 0: there is an MLP alone
    num_experts_per_tok: int = word(Whole(0, 64))
    layer_types: tuple[str, ...] = word(LAYER_TYPES)
    shared_intermediate_size: int = word(Whole(1, 1 << 19))  # of the MLP
    position_embedding_type: str = word(Choice((NOPE, ROPE)))  # of attention

    NAMES: ClassVar[Mapping[str, str]] = {"layers_block_type": "layer_types"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in granite.Config.REQUIRE.items() if key not in experts.WORDS},
        **mamba.REQUIRE,
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "granitemoehybrid": {
            **granite.Config.DEFAULTS["granite"], **mamba.DEFAULTS, "num_local_experts": 8,
            "num_experts_per_tok": 2, "shared_intermediate_size": 1024, "layer_types": None,
            "position_embedding_type": None,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        cls._settle_mamba(given)
        given["num_experts"] = given["num_local_experts"]
        given["moe_intermediate_size"] = given["intermediate_size"]
        given["norm_topk_prob"] = True
        if given["position_embedding_type"] is None:
            given["position_embedding_type"] = NOPE
        kinds, count = given["layer_types"], given["num_hidden_layers"]
        if kinds is None and type(count) is int:
            given["layer_types"] = [LINEAR] * count
        elif isinstance(kinds, list):
            given["layer_types"] = [
                KINDS.get(kind, kind) if isinstance(kind, str) else kind for kind in kinds
            ]

    def cache_layers(self) -> Iterator[LayerShape | StateShape]:
        """A layer keeps keys and values, or the state of its Mamba-2."""
        for kind in self.layer_types:
            yield LayerShape(self.num_key_value_heads, self.head_dim) if kind == FULL else self.state


def is_sparse(c: Config, i: int) -> bool:
    return c.num_experts > 0


def gguf_settle(raw: Words, keys: Mapping[str, Any]) -> None:
    """Files without experts have the MLP's width as other models have it."""
    granite.scales(raw, keys)
    of_one(raw, "mamba_d_head", "mamba_n_heads")
    attending(raw, LINEAR)
    if raw["num_local_experts"] == 0:
        raw["shared_intermediate_size"] = raw["intermediate_size"]
    raw["position_embedding_type"] = ROPE if keys.get("rope.scaling.finetuned", True) else NOPE


HUGGINGFACE = (("granitemoehybrid", "GraniteMoeHybridForCausalLM"),)
GGUF = (
    Gguf(
        "granitehybrid",
        "granitemoehybrid",
        words={
            **granitemoe.GGUF[0].words,
            **mamba.GGUF_WORDS,
            "expert_shared_feed_forward_length": "shared_intermediate_size",
        },
        absent={
            **granite.GGUF[0].absent,
            **mamba.GGUF_NONE,
            "mamba_expand": None,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": None,
        },
        there=mamba.GGUF_THERE,
        listed=("attention.head_count_kv",),
        settle=gguf_settle,
    ),
)


def _mlp() -> tuple[Tensor, ...]:
    """The MLP, whose name in GGUF files says whether there are experts beside it."""
    wide, hf = ("shared_intermediate_size", "hidden_size"), f"{HF}shared_mlp."

    def row(name: str, source: From, shape: tuple[str, ...]) -> Tensor:
        gguf = (f"{BLK}ffn_{name}_shexp.weight", f"{BLK}ffn_{name}.weight")
        return Tensor(f"blocks.{{i}}.{name}", source, gguf, shape, "matrix")

    return (
        *(row(name, From(f"{hf}input_linear.weight", (Part(n, wide[:1] * 2),)), wide)
          for n, name in enumerate(("gate", "up"))),
        row("down", From(f"{hf}output_linear.weight"), wide[::-1]),
    )  # fmt: skip


TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *(replace(row, when=attends) for row in tensors.attention(gguf_interleaved=True)),
    *mamba.rows(when=recurs, normed=recurs),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *_mlp(),
    *(replace(row, when=is_sparse) for row in granitemoe.expert_rows()),
)
embed, head = granite.embed, granite.head


@dataclass(frozen=True, kw_only=True)
class Attention(decoder.Attention):
    norm1: Vector  # [hidden]


@dataclass(frozen=True, kw_only=True)
class Mamba(mamba.Mamba):
    norm1: Vector  # [hidden]


@dataclass(frozen=True, kw_only=True)
class Sparse(experts.Experts, decoder.Mlp):
    pass


def mix(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: State) -> Rows:
    """attention(norm(x)), of which nothing may turn, or Mamba-2(norm(x))."""
    if not isinstance(cache, CacheLayer):
        b = w.block(i, Mamba)
        return mamba.mix(p, c, b, ops.norm(p, x, b.norm1, b.readers, epsilon=c.rms_norm_eps), cache)
    a = w.block(i, Attention)
    q, k, v = decoder.project(p, a, ops.norm(p, x, a.norm1, a.qkv, epsilon=c.rms_norm_eps))
    if c.position_embedding_type == ROPE:
        q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    return decoder.output(p, a, ops.attend(p, q, k, v, cache, scale=c.attention_multiplier))


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: State) -> Rows:
    """x + r (attention or Mamba-2), then x + r (mixture(h) + mlp(h)), h the norm of x."""
    r = c.residual_multiplier
    x = ops.add(p, x, mix(p, c, w, i, x, ropes, cache), r)
    b = w.block(i, Sparse if c.num_experts else decoder.Mlp)
    readers = (*(b.readers if isinstance(b, Sparse) else ()), b.gate, b.up)
    h = ops.norm(p, x, b.norm2, readers, epsilon=c.rms_norm_eps)
    if isinstance(b, Sparse):
        x = experts.mixture(p, c, b, x, h, factor=r)
    return ops.add(p, x, decoder.feed_forward(p, b, h), r)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head, embed)

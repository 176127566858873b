"""gpt-oss (20B, 120B): a window on every other layer, a score for nothing in each head's softmax, experts in
place of each MLP, and biases everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, experts, tensors
from edgeq.models.base import window_of
from edgeq.models.families.qwen3_moe import Sparse
from edgeq.models.gguf import PATTERN, Gguf, Words, windows
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, OfHeads, Tensor, norm
from edgeq.models.words import FULL, LAYER_TYPES, SLIDING, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights


@dataclass(frozen=True)
class Config(experts.Config):
    layer_types: tuple[str, ...] = word(LAYER_TYPES)

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **experts.REQUIRE_EXPERTS,
        "attention_bias": (True,),
        "swiglu_alpha": (1.702,),
        "swiglu_limit": (7, 7.0),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gpt_oss": {
            "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 36,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "sliding_window": 128,
            "layer_types": None, "num_local_experts": 128, "num_experts_per_tok": 4, "rope_theta": 150000.0,
            "rope_parameters": {
                "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                "original_max_position_embeddings": 4096,
            },
        }
    }  # fmt: skip

    biased: ClassVar[bool] = True  # its last product of attention, too

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["num_experts"] = given["num_local_experts"]
        given["moe_intermediate_size"] = given["intermediate_size"]
        given["norm_topk_prob"] = True  # a softmax of the chosen ones' scores
        if given["layer_types"] is None and type(given["num_hidden_layers"]) is int:
            given["layer_types"] = [(SLIDING, FULL)[i % 2] for i in range(given["num_hidden_layers"])]


def _words(raw: Words, keys: Mapping[str, Any]) -> None:
    """Bounds of YaRN are as in the family's configs, for which files have no key; no scaling is none."""
    windows(raw, every=2)
    scaling = raw["rope_scaling"] or {"rope_type": "default"}
    raw["rope_scaling"] = {**scaling, "truncate": False} if scaling["rope_type"] == "yarn" else scaling


HUGGINGFACE = (("gpt_oss", "GptOssForCausalLM"),)
GGUF = (
    Gguf(
        "gpt-oss",
        "gpt_oss",
        words={**PATTERN, "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        absent={"num_local_experts": None, "num_experts_per_tok": None, "sliding_window": None},
        unread=("expert_feed_forward_length",),  # feed_forward_length is the same
        settle=_words,
    ),
)


def _experts() -> tuple[Tensor, ...]:
    """The router and the experts with their biases. Checkpoints have gates and what they are gates of in one
    tensor, row by row in turn, of MXFP4, or of floats and then transposed.
    """
    router, gate, up, down = experts.rows(router="router")
    first, second = (OfHeads(number, 2, "experts_width") for number in range(2))

    def matrix(row: Tensor, name: str, *moves: OfHeads) -> Tensor:
        packed = From(f"{HF}mlp.experts.{name}_blocks", moves, stacked="num_experts")
        return replace(
            row, hf=(packed, From(f"{HF}mlp.experts.{name}", moves, transposed=True, stacked="num_experts"))
        )

    def bias(row: Tensor, name: str, *moves: OfHeads) -> Tensor:
        stored = From(f"{HF}mlp.experts.{name}_bias", moves, stacked="num_experts")
        return Tensor(f"{row.name}_bias", stored, tensors.biases(row.gguf), row.shape[:1], "vector")

    return (
        router,
        Tensor("blocks.{i}.router_bias", f"{HF}mlp.router.bias", f"{BLK}ffn_gate_inp.bias", ("num_experts",),
               "vector"),
        matrix(gate, "gate_up_proj", first),
        bias(gate, "gate_up_proj", first),
        matrix(up, "gate_up_proj", second),
        bias(up, "gate_up_proj", second),
        matrix(down, "down_proj"),
        bias(down, "down_proj"),
    )  # fmt: skip


TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(),
    *tensors.attention_biases(o="biased"),
    Tensor("blocks.{i}.sinks", f"{HF}self_attn.sinks", f"{BLK}attn_sinks.weight", ("num_attention_heads",),
           "vector"),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}post_attention_norm.weight"),
    *_experts(),
)  # fmt: skip
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Block(Sparse):
    sinks: Vector  # [heads]


def gate(p: Recorder, gate: Rows, up: Rows, readers: tuple[Matrix], each: int) -> Input:
    """(u + 1) g sigmoid(1.702 g), with g and u under bounds."""
    return ops.gated(p, gate, up, readers, "clamped", each=each)


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + attention(norm(x)), then x + mixture(norm(x))."""
    b, epsilon = w.block(i, Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache, sinks=b.sinks), add_to=x)
    return experts.mixture(p, c, b, x, ops.norm(p, x, b.norm2, b.readers, epsilon=epsilon), gate=gate)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

"""Qwen2 mixtures (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B): Qwen2's attention, and experts beside one that all
tokens share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, experts, tensors
from edgeq.models.families.qwen3_moe import is_dense, is_sparse, sparse_layers
from edgeq.models.gguf import Gguf
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import Each, Truth, Whole, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(experts.Config):
    sparse: tuple[bool, ...] = word(Each(Truth()))  # whether a layer has experts
    shared_expert_intermediate_size: int = word(Whole(1, 1 << 19))

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **experts.REQUIRE_EXPERTS,
        "qkv_bias": (True,),
        "use_sliding_window": (False,),  # it would be on every other layer
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qwen2_moe": {
            "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
            "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": None,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "num_experts": 60,
            "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "norm_topk_prob": False,
            "shared_expert_intermediate_size": 5632, "decoder_sparse_step": 1, "mlp_only_layers": [],
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["sparse"] = sparse_layers(given)


HUGGINGFACE = (("qwen2_moe", "Qwen2MoeForCausalLM"),)
GGUF = (
    Gguf(
        "qwen2moe",
        "qwen2_moe",
        words={**experts.GGUF_EXPERTS, **experts.GGUF_SHARED},
        absent={**experts.GGUF_NONE, "norm_topk_prob": False},
        accepted={"attention.sliding_window": (0,)},
        without={"mlp_only_layers": "ffn_gate_inp.weight"},
        settle=experts.gguf_widths,
    ),
)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(),
    *tensors.attention_biases(),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *(replace(row, when=is_dense) for row in tensors.mlp()),
    *experts.rows(when=is_sparse),
    *experts.shared_rows(when=is_sparse),
)
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Block, experts.Shared):
    pass


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Qwen2's attention, then x + mixture(h) + sigmoid(gate h) shared(h), h the norm of x; or an MLP."""
    if not c.sparse[i]:
        return decoder.layer(p, c, w, i, x, ropes, cache)
    b, epsilon, rope = w.block(i, Block), c.rms_norm_eps, ropes["rope"]
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, rope)
    a = ops.attend(p, q, k, v, cache, centre=decoder.key_centre(c, b, rope))
    x = decoder.output(p, b, a, add_to=x)
    return experts.shared_mixture(p, c, b, x, ops.norm(p, x, b.norm2, b.readers, epsilon=epsilon))


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

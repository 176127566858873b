"""Mixtral: Llama's attention, and experts in place of each MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, experts, tensors
from edgeq.models.base import window_of
from edgeq.models.families.qwen3_moe import Sparse
from edgeq.models.gguf import WINDOW, Gguf, no_window
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(experts.Config):
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mixtral": {
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": None,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
            "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["num_experts"] = given["num_local_experts"]
        given["moe_intermediate_size"] = given["intermediate_size"]
        given["norm_topk_prob"] = True


HUGGINGFACE = (("mixtral", "MixtralForCausalLM"),)
GGUF = (
    Gguf(
        "llama",
        "mixtral",
        words={**WINDOW, "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        absent={"num_experts_per_tok": None},
        settle=no_window,
        when=lambda keys: bool(keys.get("expert_count")),
    ),
)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(gguf_interleaved=True),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *experts.rows("block_sparse_moe.", names=("w1", "w3", "w2")),
)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's attention, then x + mixture(norm(x))."""
    b, epsilon = w.block(i, Sparse), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache), add_to=x)
    return experts.mixture(p, c, b, x, ops.norm(p, x, b.norm2, b.readers, epsilon=epsilon))


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

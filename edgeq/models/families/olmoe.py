"""OLMoE: one norm over all heads of queries and of keys, and experts in place of each MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, experts, tensors
from edgeq.models.families.qwen3_moe import Sparse
from edgeq.models.gguf import Gguf
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
        "olmoe": {
            "vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 2048, "num_hidden_layers": 16,
            "num_attention_heads": 16, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "num_experts": 64,
            "num_experts_per_tok": 8, "norm_topk_prob": False,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["moe_intermediate_size"] = given["intermediate_size"]


HUGGINGFACE = (("olmoe", "OlmoeForCausalLM"),)
GGUF = (
    Gguf(
        "olmoe",
        "olmoe",
        words={key: word for key, word in experts.GGUF_EXPERTS.items() if "length" not in key},
        absent={**experts.GGUF_NONE, "norm_topk_prob": False, "rms_norm_eps": 1e-5},
        unread=("expert_feed_forward_length",),  # feed_forward_length says it, too
    ),
)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(),
    norm("blocks.{i}.q_norm", f"{HF}self_attn.q_norm.weight", f"{BLK}attn_q_norm.weight", "q_size"),
    norm("blocks.{i}.k_norm", f"{HF}self_attn.k_norm.weight", f"{BLK}attn_k_norm.weight", "kv_size"),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *experts.rows(),
)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + attention(norm(x)), then x + mixture(norm(x))."""
    b, epsilon = w.block(i, Sparse), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, *decoder.norm_heads(p, c, b, q, k), ropes["rope"])
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache), add_to=x)
    return experts.mixture(p, c, b, x, ops.norm(p, x, b.norm2, b.readers, epsilon=epsilon))


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

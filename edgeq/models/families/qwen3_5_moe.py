"""Qwen3.5 mixtures (35B-A3B and larger): Qwen3.5's layers, with experts beside one that all tokens share in
place of MLPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, delta, experts, tensors
from edgeq.models.families import qwen3_5
from edgeq.models.gguf import Gguf
from edgeq.models.words import Whole, word

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights


@dataclass(frozen=True)
class Config(qwen3_5.Config, experts.Config):
    shared_expert_intermediate_size: int = word(Whole(1, 1 << 19))

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: value for key, value in qwen3_5.Config.REQUIRE.items() if key not in experts.WORDS
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qwen3_5_moe_text": {
            "vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16,
            "num_key_value_heads": 2, "head_dim": 256, "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6, "layer_types": None, "partial_rotary_factor": 0.25,
            "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
            "linear_num_key_heads": 16, "linear_num_value_heads": 32, "num_experts": 256,
            "num_experts_per_tok": 8, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        super()._settle(given)
        given["norm_topk_prob"] = True
        # there is no other MLP
        given["intermediate_size"] = cls._read(given, "shared_expert_intermediate_size")


WIDTHS = dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"))
HUGGINGFACE = (("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"),)
GGUF = (
    Gguf(
        "qwen35moe",
        "qwen3_5_moe_text",
        words={**qwen3_5.GGUF[0].words, **experts.GGUF_EXPERTS, **experts.GGUF_SHARED},
        absent={**qwen3_5.GGUF[0].absent, **experts.GGUF_NONE, **WIDTHS, "intermediate_size": None},
        unread=qwen3_5.GGUF[0].unread,
        settle=qwen3_5.gguf_settle,
    ),
)
TENSORS = (*tensors.ends(plus=1.0), *qwen3_5.mixers(delta.rows()), *experts.rows(), *experts.shared_rows())
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Sparse(experts.Shared):
    norm2: Vector  # [hidden]


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: qwen3_5.State) -> Rows:
    """Attention or delta rule, then x + mixture(h) + sigmoid(gate h) shared(h), h the norm of x."""
    x, b = qwen3_5.mix(p, c, w, i, x, ropes, cache), w.block(i, Sparse)
    h = ops.norm(p, x, b.norm2, b.readers, epsilon=c.rms_norm_eps)
    return experts.shared_mixture(p, c, b, x, h)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

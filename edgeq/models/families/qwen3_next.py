"""Qwen3-Next (80B-A3B): Qwen3.5's layers with projections that are fused, and experts beside one that all
tokens share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.models import decoder, delta, experts, tensors
from edgeq.models.families import qwen3_5, qwen3_5_moe
from edgeq.models.families.qwen3_moe import is_dense, is_sparse, sparse_layers
from edgeq.models.gguf import Gguf
from edgeq.models.words import Each, Truth, word

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(qwen3_5_moe.Config):
    sparse: tuple[bool, ...] = word(Each(Truth()))  # whether a layer has experts

    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qwen3_next": {
            "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 48,
            "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "layer_types": None,
            "partial_rotary_factor": 0.25, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
            "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
            "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512, "norm_topk_prob": True, "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    }  # fmt: skip

    @property
    def linear_alike(self) -> int:
        return self.linear_share

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        super(qwen3_5_moe.Config, cls)._settle(given)
        given["sparse"] = sparse_layers(given)


HUGGINGFACE = (("qwen3_next", "Qwen3NextForCausalLM"),)
GGUF = (
    Gguf(
        "qwen3next",
        "qwen3_next",
        words=qwen3_5_moe.GGUF[0].words,
        absent={**delta.GGUF_NONE, **experts.GGUF_NONE, **qwen3_5_moe.WIDTHS, "norm_topk_prob": True},
        without={"mlp_only_layers": "ffn_gate_inp.weight"},
        settle=qwen3_5.gguf_settle,
    ),
)
TENSORS = (
    *tensors.ends(plus=1.0),
    *qwen3_5.mixers(delta.grouped_rows()),
    *(replace(row, when=is_dense) for row in tensors.mlp()),
    *experts.rows(when=is_sparse),
    *experts.shared_rows(when=is_sparse),
)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: qwen3_5.State) -> Rows:
    """As Qwen3.5's, with experts or without."""
    return (qwen3_5_moe if c.sparse[i] else qwen3_5).layer(p, c, w, i, x, ropes, cache)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

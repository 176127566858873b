"""Qwen3 (dense): Llama's block with an RMS norm over each head's query and key before the rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.models.base import DECODER, REQUIRE_BASE, BaseConfig, Tensor
from edgeq.models.decoder import decode

if TYPE_CHECKING:
    from edgeq.arena import Input, Rows
    from edgeq.program import Program
    from edgeq.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    # `sliding_window` and `max_window_layers` mean nothing while use_sliding_window is false.
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **REQUIRE_BASE,
        "attention_bias": (False,),
        "use_sliding_window": (False,),
    }


TENSORS = (
    *DECODER,
    Tensor("blocks.{i}.q_norm", "model.layers.{i}.self_attn.q_norm.weight", "blk.{i}.attn_q_norm.weight",
           ("head_dim",), "vector"),
    Tensor("blocks.{i}.k_norm", "model.layers.{i}.self_attn.k_norm.weight", "blk.{i}.attn_k_norm.weight",
           ("head_dim",), "vector"),
)  # fmt: skip


def project(p: Program, c: BaseConfig, b: Any, h: Input) -> tuple[Rows, Rows, Rows]:
    """Projections, queries and keys normalized head by head."""
    q, k, v = p.matmul(b.q, h), p.matmul(b.k, h), p.matmul(b.v, h)
    q = p.norm_heads(q, b.q_norm, c.num_attention_heads)
    k = p.norm_heads(k, b.k_norm, c.num_key_value_heads)
    return q, k, v


def forward(p: Program, c: Config, w: Weights) -> None:
    """Record the pass."""
    decode(p, c, w, project)

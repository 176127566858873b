"""Qwen2 and Qwen2.5: Llama's block with biases on queries, keys and values."""

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
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "use_sliding_window": (False,)}


TENSORS = (
    *DECODER,
    Tensor("blocks.{i}.q_bias", "model.layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias",
           ("q_size",), "vector"),
    Tensor("blocks.{i}.k_bias", "model.layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias",
           ("kv_size",), "vector"),
    Tensor("blocks.{i}.v_bias", "model.layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias",
           ("kv_size",), "vector"),
)  # fmt: skip


def project(p: Program, c: BaseConfig, b: Any, h: Input) -> tuple[Rows, Rows, Rows]:
    """Projections with biases."""
    return p.matmul(b.q, h, bias=b.q_bias), p.matmul(b.k, h, bias=b.k_bias), p.matmul(b.v, h, bias=b.v_bias)


def forward(p: Program, c: Config, w: Weights) -> None:
    """Record the pass."""
    decode(p, c, w, project)

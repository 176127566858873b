"""Qwen3 (dense): Llama's block with an RMS norm over each head's query and key before the rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, folds
from edgeq.models.base import DECODER, REQUIRE_BASE, BaseConfig, Tensor, window_of_layers

if TYPE_CHECKING:
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.rotary import Tables
    from edgeq.runtime.weights import Vector, Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "attention_bias": (False,)}
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qwen3": {
            "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "sliding_window": 4096,
            "use_sliding_window": False, "max_window_layers": 28,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of_layers(given)


TENSORS = (
    *DECODER,
    Tensor("blocks.{i}.q_norm", "model.layers.{i}.self_attn.q_norm.weight", "blk.{i}.attn_q_norm.weight",
           ("head_dim",), "vector"),
    Tensor("blocks.{i}.k_norm", "model.layers.{i}.self_attn.k_norm.weight", "blk.{i}.attn_k_norm.weight",
           ("head_dim",), "vector"),
)  # fmt: skip


@dataclass(frozen=True)
class Block(decoder.Block):
    q_norm: Vector  # [head_dim]
    k_norm: Vector  # [head_dim]


def project(p: Recorder, c: BaseConfig, b: Block, h: Input) -> tuple[Rows, Rows, Rows]:
    """Projections, queries and keys normalized head by head."""
    q, k, v = decoder.project(p, c, b, h)
    q = ops.norm_heads(p, q, b.q_norm, heads=c.num_attention_heads, epsilon=c.rms_norm_eps)
    k = ops.norm_heads(p, k, b.k_norm, heads=c.num_key_value_heads, epsilon=c.rms_norm_eps)
    return q, k, v


layer, head = partial(decoder.layer, form=Block, project=project), decoder.head
FOLDS = folds.DECODER


def forward(p: Recorder, c: Config, w: Weights, rope: Tables) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, rope, layer)

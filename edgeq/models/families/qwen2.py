"""Qwen2 and Qwen2.5: Llama's block with biases on queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, folds
from edgeq.models.base import DECODER, BaseConfig, Tensor, window_of_layers

if TYPE_CHECKING:
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.rotary import Tables
    from edgeq.runtime.weights import Vector, Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qwen2": {
            "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": None,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "sliding_window": 4096,
            "use_sliding_window": False, "max_window_layers": 28,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of_layers(given)


TENSORS = (
    *DECODER,
    Tensor("blocks.{i}.q_bias", "model.layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias",
           ("q_size",), "vector"),
    Tensor("blocks.{i}.k_bias", "model.layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias",
           ("kv_size",), "vector"),
    Tensor("blocks.{i}.v_bias", "model.layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias",
           ("kv_size",), "vector"),
)  # fmt: skip


@dataclass(frozen=True)
class Block(decoder.Block):
    q_bias: Vector  # [heads * head_dim]
    k_bias: Vector  # [kv_heads * head_dim]
    v_bias: Vector  # [kv_heads * head_dim]

    @property
    def key_bias(self) -> Vector:
        return self.k_bias


def project(p: Recorder, c: BaseConfig, b: Block, h: Input) -> tuple[Rows, Rows, Rows]:
    """Projections with biases."""
    q = ops.matmul(p, b.q, h, bias=b.q_bias)
    k = ops.matmul(p, b.k, h, bias=b.k_bias)
    return q, k, ops.matmul(p, b.v, h, bias=b.v_bias)


layer, head = partial(decoder.layer, form=Block, project=project), decoder.head
FOLDS = folds.DECODER


def forward(p: Recorder, c: Config, w: Weights, rope: Tables) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, rope, layer)

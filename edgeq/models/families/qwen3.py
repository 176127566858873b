"""Qwen3: Llama's block with a norm on each head of queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.models import tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of_layers
from edgeq.models.decoder import decode, embed, head, layer
from edgeq.models.folds import DECODER as FOLDS
from edgeq.models.gguf import Gguf

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


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


HUGGINGFACE = (("qwen3", "Qwen3ForCausalLM"), ("qwen3", "Qwen3Model"))
GGUF = (Gguf("qwen3", "qwen3", accepted={"attention.sliding_window": (0,)}),)
TENSORS = (*tensors.decoder(), *tensors.head_norms())

__all__ = ["FOLDS", "GGUF", "HUGGINGFACE", "TENSORS", "Config", "embed", "forward", "head", "layer"]


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decode(p, c, w, ropes, layer)

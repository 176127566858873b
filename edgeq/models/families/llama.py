"""Llama 2, 3 and 3.x, TinyLlama, SmolLM2, and Mistral with its sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.models import tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.decoder import decode, embed, head, layer
from edgeq.models.folds import DECODER as FOLDS
from edgeq.models.gguf import WINDOW, Gguf, Words, no_window

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "attention_bias": (False,)}
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "llama": {
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        },
        "mistral": {
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": None,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        },
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given) if given["model_type"] == "mistral" else None  # Llama's class has no window


def _mistral(raw: Words, keys: Mapping[str, Any]) -> None:
    """GGUF writes Mistral as llama."""
    no_window(raw, keys)
    if raw["sliding_window"] is not None:
        raw["model_type"] = "mistral"


HUGGINGFACE = (("llama", "LlamaForCausalLM"), ("mistral", "MistralForCausalLM"))
GGUF = (Gguf("llama", "llama", words=WINDOW, settle=_mistral),)
TENSORS = tensors.decoder(gguf_interleaved=True)

__all__ = ["FOLDS", "GGUF", "HUGGINGFACE", "TENSORS", "Config", "embed", "forward", "head", "layer"]


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass: plain projections."""
    decode(p, c, w, ropes, layer)

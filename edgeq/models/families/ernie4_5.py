"""ERNIE 4.5 (dense): Llama's block, whose checkpoints and GGUF files have pairs that turn side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.models import tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.decoder import decode, embed, head, layer
from edgeq.models.gguf import Gguf
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **REQUIRE_BASE,
        "use_bias": (False,),
        "attention_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "ernie4_5": {
            "vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18,
            "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
            "rope_theta": 500000.0,
        }
    }  # fmt: skip


HUGGINGFACE = (("ernie4_5", "Ernie4_5ForCausalLM"),)
GGUF = (Gguf("ernie4_5", "ernie4_5"),)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(hf_interleaved=True, gguf_interleaved=True, hf_fused="qkv_proj"),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *tensors.mlp("up_gate_proj"),
)

__all__ = ["GGUF", "HUGGINGFACE", "TENSORS", "Config", "embed", "forward", "head", "layer"]


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decode(p, c, w, ropes, layer)

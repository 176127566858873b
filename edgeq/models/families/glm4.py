"""GLM-4 (0414): norms before and after attention and MLP, and a rotation of half of each head, in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.families.gemma2 import Block
from edgeq.models.gguf import BIASED, Gguf, partial
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import Truth, Whole, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    rotary_dim: int = word(Whole(2, 1024))
    attention_bias: bool = word(Truth())

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: value for key, value in REQUIRE_BASE.items() if key != "partial_rotary_factor"
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "glm4": {
            "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
            "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
            "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-07, "attention_bias": True,
            "partial_rotary_factor": 0.5,
        }
    }  # fmt: skip


HUGGINGFACE = (("glm4", "Glm4ForCausalLM"),)
GGUF = (Gguf("glm4", "glm4", there={"attention_bias": BIASED}, settle=partial),)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(hf_interleaved=True, gguf_interleaved=True),
    *tensors.attention_biases("attention_bias", interleaved=True),
    norm("blocks.{i}.post_norm1", f"{HF}post_self_attn_layernorm.weight", f"{BLK}post_attention_norm.weight"),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *tensors.mlp("gate_up_proj", "ffn_up"),
    norm("blocks.{i}.post_norm2", f"{HF}post_mlp_layernorm.weight", f"{BLK}post_ffw_norm.weight"),
)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + norm(attention(norm(x))), then x + norm(mlp(norm(x)))."""
    b, epsilon, rope = w.block(i, Block), c.rms_norm_eps, ropes["rope"]
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, rope)
    a = decoder.output(p, b, ops.attend(p, q, k, v, cache, centre=decoder.key_centre(c, b, rope)))
    x = ops.add_norm(p, x, a, b.post_norm1, epsilon=epsilon)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return ops.add_norm(p, x, decoder.feed_forward(p, b, h), b.post_norm2, epsilon=epsilon)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

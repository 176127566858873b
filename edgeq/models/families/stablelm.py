"""StableLM 2: LayerNorms with biases and a rotation of part of each head; the large ones with attention and
MLP side by side and norms on heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import EPSILON, Gguf, partial
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import Truth, Whole, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    rotary_dim: int = word(Whole(2, 1024))
    use_qkv_bias: bool = word(Truth())

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key != "partial_rotary_factor"},
        "qk_layernorm": (False,),
        "use_parallel_residual": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stablelm": {
            "vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": None,
            "max_position_embeddings": 4096, "layer_norm_eps": 1e-5, "use_qkv_bias": False,
            "partial_rotary_factor": 0.25,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["rms_norm_eps"] = given["layer_norm_eps"]


HUGGINGFACE = (("stablelm", "StableLmForCausalLM"),)
GGUF = (
    Gguf(
        "stablelm",
        "stablelm",
        # written as true where a checkpoint does not say; that there is a second norm says it is not
        accepted={"use_parallel_residual": (False, True)},
        biases="use_qkv_bias",
        epsilon=EPSILON,
        settle=partial,
    ),
)
TENSORS = (
    *tensors.ends(),
    norm("norm_bias", "model.norm.bias", "output_norm.bias"),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    norm("blocks.{i}.norm1_bias", f"{HF}input_layernorm.bias", f"{BLK}attn_norm.bias"),
    *tensors.attention(),
    *tensors.attention_biases("use_qkv_bias"),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    norm("blocks.{i}.norm2_bias", f"{HF}post_attention_layernorm.bias", f"{BLK}ffn_norm.bias"),
    *tensors.mlp(),
)


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Block):
    norm1_bias: Vector  # [hidden]
    norm2_bias: Vector  # [hidden]


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's block with LayerNorms."""
    b, epsilon, rope = w.block(i, Block), c.rms_norm_eps, ropes["rope"]
    q, k, v = decoder.project(p, b, ops.layer_norm(p, x, b.norm1, b.norm1_bias, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, rope)
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache, centre=decoder.key_centre(c, b, rope)), add_to=x)
    h = ops.layer_norm(p, x, b.norm2, b.norm2_bias, (b.gate, b.up), epsilon=epsilon)
    return decoder.feed_forward(p, b, h, add_to=x)


def head(p: Recorder, c: Config, w: Weights, x: Rows) -> None:
    """Logits of a LayerNorm."""
    weight, bias = w.vector("norm"), w.vector("norm_bias")
    decoder.logits(p, w, ops.layer_norm(p, x, weight, bias, (w.head,), epsilon=c.rms_norm_eps, outputs=True))


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head)

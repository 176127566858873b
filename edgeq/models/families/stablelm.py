"""StableLM 2: LayerNorms with biases and a rotation of part of each head; the large ones with attention and
MLP side by side and norms on heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import BIASED, EPSILON, Gguf, Words, partial
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, Tensor, norm
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
    use_parallel_residual: bool = word(Truth())
    qk_layernorm: bool = word(Truth())

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: value for key, value in REQUIRE_BASE.items() if key != "partial_rotary_factor"
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stablelm": {
            "vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": None,
            "max_position_embeddings": 4096, "layer_norm_eps": 1e-5, "use_qkv_bias": False,
            "use_parallel_residual": False, "qk_layernorm": False, "partial_rotary_factor": 0.25,
        }
    }  # fmt: skip

    @property
    def sequential(self) -> bool:
        """Whether the MLP reads what attention was added to."""
        return not self.use_parallel_residual

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["rms_norm_eps"] = cls._epsilon(given, "layer_norm_eps")


def _words(raw: Words, keys: Mapping[str, Any]) -> None:
    """Whether MLPs have norms of their own is told by the tensors: some files have a wrong key."""
    raw["use_parallel_residual"] = not raw.pop("_sequential")
    partial(raw, keys)


HUGGINGFACE = (("stablelm", "StableLmForCausalLM"),)
GGUF = (
    Gguf(
        "stablelm",
        "stablelm",
        accepted={"use_parallel_residual": (False, True)},
        there={
            "use_qkv_bias": BIASED,
            "qk_layernorm": ("attn_q_norm.weight",),
            "_sequential": ("ffn_norm.weight",),
        },
        epsilon=EPSILON,
        settle=_words,
    ),
)


def _head_norm(letter: str, size: str, heads: str) -> Tensor:
    """The weights of the norms of all heads, which checkpoints have one by one."""
    return Tensor(
        f"blocks.{{i}}.{letter}_norm",
        From(f"{HF}self_attn.{letter}_layernorm.norms.{{n}}.weight", each=heads),
        From(f"{BLK}attn_{letter}_norm.weight", of=(heads, "head_dim")),
        (size,),
        "vector",
        when="qk_layernorm",
    )


TENSORS = (
    *tensors.ends(),
    norm("norm_bias", "model.norm.bias", "output_norm.bias"),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    norm("blocks.{i}.norm1_bias", f"{HF}input_layernorm.bias", f"{BLK}attn_norm.bias"),
    *tensors.attention(),
    *tensors.attention_biases("use_qkv_bias"),
    _head_norm("q", "q_size", "num_attention_heads"),
    _head_norm("k", "kv_size", "num_key_value_heads"),
    replace(norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
            when="sequential"),
    replace(norm("blocks.{i}.norm2_bias", f"{HF}post_attention_layernorm.bias", f"{BLK}ffn_norm.bias"),
            when="sequential"),
    *tensors.mlp(),
)  # fmt: skip
embed, head = decoder.embed, decoder.layer_norm_head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Products):
    norm1: Vector  # [hidden]
    norm1_bias: Vector
    norm2: Vector | None = None  # [hidden]
    norm2_bias: Vector | None = None


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's block with LayerNorms, or attention and MLP side by side behind one."""
    b, epsilon, rope = w.block(i, Block), c.rms_norm_eps, ropes["rope"]
    readers = b.qkv if b.norm2 else (*b.qkv, b.gate, b.up)
    h = ops.layer_norm(p, x, b.norm1, b.norm1_bias, readers, epsilon=epsilon)
    q, k, v = decoder.project(p, b, h)
    if b.q_norm is not None and b.k_norm is not None:
        ops.layer_norm_heads(p, q, b.q_norm, heads=c.num_attention_heads, epsilon=epsilon)
        ops.layer_norm_heads(p, k, b.k_norm, heads=c.num_key_value_heads, epsilon=epsilon)
    q, k = decoder.rotate(p, c, q, k, rope)
    a = ops.attend(p, q, k, v, cache, centre=decoder.key_centre(c, b, rope))
    if b.norm2 is None:
        return decoder.output(p, b, a, add_to=decoder.feed_forward(p, b, h, add_to=x))
    x = decoder.output(p, b, a, add_to=x)
    h = ops.layer_norm(p, x, b.norm2, b.norm2_bias, (b.gate, b.up), epsilon=epsilon)
    return decoder.feed_forward(p, b, h, add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head)

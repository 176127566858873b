"""OLMo 2 and 3: norms behind attention and MLP only, and one over all heads of queries and of keys; OLMo 3
with windows and YaRN on the layers that see everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.gguf import PATTERN as GGUF_PATTERN
from edgeq.models.gguf import Gguf, Words, windows
from edgeq.models.rope import Rope
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, Tensor, norm
from edgeq.models.words import FULL, LAYER_TYPES, SLIDING, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights


PATTERN = 4  # of so many layers the last one sees everything
SIZES = {
    "vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
}  # fmt: skip


@dataclass(frozen=True)
class Config(BaseConfig):
    layer_types: tuple[str, ...] = word(LAYER_TYPES)

    TABLES: ClassVar[Mapping[str, str]] = {FULL: "rope", SLIDING: "rope.sliding"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "attention_bias": (False,)}
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "olmo2": {**SIZES, "vocab_size": 50304, "layer_types": None},
        "olmo3": {
            **SIZES,
            "vocab_size": 50304,
            "sliding_window": 4096,
            "layer_types": None,
            "rope_theta": 5e5,
        },
    }

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given) if given["model_type"] == "olmo3" else None

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        if type(given["num_hidden_layers"]) is int:
            layers = range(1, given["num_hidden_layers"] + 1)
            if given["model_type"] == "olmo2":
                given["layer_types"] = [FULL for _ in layers]
            elif given["layer_types"] is None:
                given["layer_types"] = [SLIDING if i % PATTERN else FULL for i in layers]

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        """Scaling is of the layers that see everything; transformers 5 has an object for each kind."""
        kinds = cls.by_layer_type(raw)
        if kinds is not None:
            return {"rope": cls.rope(kinds[FULL]), "rope.sliding": cls.rope(kinds[SLIDING])}
        full = cls.rope(raw)
        return {"rope": full, "rope.sliding": Rope(theta=full.theta)}


def _windows(raw: Words, keys: Mapping[str, Any]) -> None:
    """GGUF writes OLMo 3 as olmo2 with a window."""
    windows(raw, every=PATTERN)
    if raw["sliding_window"] is None:
        return
    raw["model_type"] = "olmo3"
    theta = raw.pop("rope_theta")
    raw["rope_parameters"] = {
        FULL: {"rope_theta": theta, **(raw.pop("rope_scaling") or {})},
        SLIDING: {"rope_theta": raw.pop("sliding_rope_theta", theta)},
    }


HUGGINGFACE = (("olmo2", "Olmo2ForCausalLM"), ("olmo3", "Olmo3ForCausalLM"))
GGUF = (
    Gguf(
        "olmo2",
        "olmo2",
        words={**GGUF_PATTERN, "rope.freq_base_swa": "sliding_rope_theta"},
        settle=_windows,
    ),
)
TENSORS = (
    *tensors.ends(),
    Tensor("rope.sliding.inverse_frequencies", None, None, ("rotary_size",), "vector"),
    *tensors.attention(),
    norm("blocks.{i}.q_norm", f"{HF}self_attn.q_norm.weight", f"{BLK}attn_q_norm.weight", "q_size"),
    norm("blocks.{i}.k_norm", f"{HF}self_attn.k_norm.weight", f"{BLK}attn_k_norm.weight", "kv_size"),
    norm("blocks.{i}.post_norm1", f"{HF}post_attention_layernorm.weight", f"{BLK}post_attention_norm.weight"),
    *tensors.mlp(),
    norm("blocks.{i}.post_norm2", f"{HF}post_feedforward_layernorm.weight", f"{BLK}post_ffw_norm.weight"),
)
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Products):
    post_norm1: Vector  # [hidden]
    post_norm2: Vector  # [hidden]


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + norm(attention(x)), then x + norm(mlp(x))."""
    b, epsilon = w.block(i, Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.quantize(p, x, b.qkv))
    q, k = decoder.rotate(p, c, *decoder.norm_heads(p, c, b, q, k), ropes[c.layer_types[i]])
    a = decoder.output(p, b, ops.attend(p, q, k, v, cache))
    x = ops.add_norm(p, x, a, b.post_norm1, epsilon=epsilon)
    y = decoder.feed_forward(p, b, ops.quantize(p, x, (b.gate, b.up)))
    return ops.add_norm(p, x, y, b.post_norm2, epsilon=epsilon)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

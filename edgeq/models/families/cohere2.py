"""Cohere 2 (Command R7B): attention and MLP side by side behind one LayerNorm; three layers with a window and
a rotation to one with neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.gguf import EPSILON, Gguf, Words, windows
from edgeq.models.gguf import PATTERN as GGUF_PATTERN
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import FULL, LAYER_TYPES, SLIDING, Real, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights


PATTERN = 4  # of so many layers the last one sees everything


@dataclass(frozen=True)
class Config(BaseConfig):
    layer_types: tuple[str, ...] = word(LAYER_TYPES)
    logit_scale: float = word(Real(0, 1e6))

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **REQUIRE_BASE,
        "attention_bias": (False,),
        "rotary_pct": (1, 1.0),
        "use_parallel_block": (True,),
        "use_gated_activation": (True,),
        "use_parallel_embedding": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cohere2": {
            "vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528, "num_hidden_layers": 40,
            "num_attention_heads": 64, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "tie_word_embeddings": True,
            "sliding_window": 4096, "logit_scale": 0.0625, "layer_types": None,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["rms_norm_eps"] = cls._epsilon(given, "layer_norm_eps")
        if given["layer_types"] is None and type(given["num_hidden_layers"]) is int:
            every = cls._every(given, "sliding_window_pattern", PATTERN)
            layers = range(1, given["num_hidden_layers"] + 1)
            given["layer_types"] = [SLIDING if i % every else FULL for i in layers]


def _windows(raw: Words, keys: Mapping[str, Any]) -> None:
    windows(raw, every=PATTERN)


HUGGINGFACE = (("cohere2", "Cohere2ForCausalLM"),)
GGUF = (
    Gguf(
        "cohere2",
        "cohere2",
        words={**GGUF_PATTERN, "logit_scale": "logit_scale"},
        epsilon=EPSILON,
        settle=_windows,
    ),
)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(hf_interleaved=True, gguf_interleaved=True),
    *tensors.mlp(),
)
embed = decoder.embed


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Products):
    norm1: Vector  # [hidden]


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + attention(h) + mlp(h), h the norm of x."""
    b = w.block(i, Block)
    h = ops.layer_norm(p, x, b.norm1, None, (*b.qkv, b.gate, b.up), epsilon=c.rms_norm_eps)
    q, k, v = decoder.project(p, b, h)
    if c.layer_types[i] == SLIDING:
        q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    a = ops.attend(p, q, k, v, cache)
    x = decoder.feed_forward(p, b, h, add_to=x)
    return decoder.output(p, b, a, add_to=x)


def head(p: Recorder, c: Config, w: Weights, x: Rows) -> None:
    """Logits of a LayerNorm, times a factor."""
    h = ops.layer_norm(p, x, w.vector("norm"), None, (w.head,), epsilon=c.rms_norm_eps, outputs=True)
    decoder.logits(p, w, h, scale=c.logit_scale)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head)

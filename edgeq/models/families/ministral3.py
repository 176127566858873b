"""Ministral 3 and Mistral Small 3: Llama's block; queries grow with the logarithm of their position beyond
the original context, and YaRN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.gguf import Gguf, Words
from edgeq.models.words import Real, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    llama_4_scaling_beta: float = word(Real(-1, 1e3))
    original_max_position_embeddings: float = word(Real(0, 1e9))

    TABLES: ClassVar[Mapping[str, str]] = {"rope": "rope", "rope.queries": "rope"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "attention_bias": (False,)}
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "ministral3": {
            "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 34,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 262144, "rms_norm_eps": 1e-5, "sliding_window": None,
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "original_max_position_embeddings": 16384, "mscale": 1.0, "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        }
    }  # fmt: skip

    def growth(self, table: str) -> Callable[[np.ndarray], np.ndarray] | None:
        """1 + beta ln(1 + floor(position / original context)) for queries."""
        if table != "rope.queries":
            return None
        beta, original = (
            np.float32(self.llama_4_scaling_beta),
            np.float32(self.original_max_position_embeddings),
        )
        return lambda positions: 1 + beta * np.log(1 + np.floor(positions / original))

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        words = cls.rope_words(given)
        original = words.get("original_max_position_embeddings") or given["max_position_embeddings"]
        given["original_max_position_embeddings"] = original
        given["llama_4_scaling_beta"] = words.get("llama_4_scaling_beta") or 0.0


def _temperature(raw: Words, keys: Mapping[str, Any]) -> None:
    """A word of the rotation's object; where the file has no original context, it is the whole one."""
    if beta := raw.pop("_temperature_scale", None):
        original = {"original_max_position_embeddings": keys.get("rope.scaling.original_context_length")}
        scaling = raw["rope_scaling"] or {"rope_type": "default", **original}
        raw["rope_scaling"] = {**scaling, "llama_4_scaling_beta": beta}


HUGGINGFACE = (("ministral3", "Ministral3ForCausalLM"),)
GGUF = (
    Gguf(
        "mistral3",
        "ministral3",
        words={
            "attention.temperature_scale": "_temperature_scale",
            "attention.temperature_length": "_length",
        },
        settle=_temperature,
    ),
)
TENSORS = tensors.decoder(gguf_interleaved=True)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's block, with a table of their own for queries."""
    b, epsilon = w.block(i, decoder.Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q = ops.rotate(p, q, ropes["rope.queries"], heads=c.num_attention_heads)
    k = ops.rotate(p, k, ropes["rope"], heads=c.num_key_value_heads)
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache), add_to=x)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return decoder.feed_forward(p, b, h, add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

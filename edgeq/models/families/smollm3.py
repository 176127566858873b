"""SmolLM3: Llama's block, with layers that have no rotation at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Gguf
from edgeq.models.words import Each, Whole, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


EVERY = 4  # so many layers, one has no rotation


@dataclass(frozen=True)
class Config(BaseConfig):
    no_rope_layers: tuple[int, ...] = word(Each(Whole(0, 1)))  # 1: it has a rotation

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **REQUIRE_BASE,
        "attention_bias": (False,),
        "use_sliding_window": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smollm3": {
            "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
            "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": None,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
            "rope_theta": 2e6, "no_rope_layers": None, "no_rope_layer_interval": EVERY,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        if given["no_rope_layers"] is None and type(given["num_hidden_layers"]) is int:
            every = cls._every(given, "no_rope_layer_interval", EVERY)
            given["no_rope_layers"] = [int((i + 1) % every != 0) for i in range(given["num_hidden_layers"])]


HUGGINGFACE = (("smollm3", "SmolLM3ForCausalLM"),)
GGUF = (Gguf("smollm3", "smollm3"),)
TENSORS = tensors.decoder(gguf_interleaved=True)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's block, with a rotation or without."""
    b, epsilon = w.block(i, decoder.Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    if c.no_rope_layers[i]:
        q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache), add_to=x)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return decoder.feed_forward(p, b, h, add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

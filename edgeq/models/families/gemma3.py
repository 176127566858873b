"""Gemma 3: Gemma 2's four norms, norms on the heads of queries and keys, five layers with a window and a
rotation of their own to one without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.families.gemma2 import GELU, Block, embed, post_norms, scale_of_scores
from edgeq.models.gguf import PATTERN as GGUF_PATTERN
from edgeq.models.gguf import Gguf, Words, windows
from edgeq.models.rope import Rope
from edgeq.models.tensors import Tensor
from edgeq.models.words import FULL, LAYER_TYPES, SLIDING, Real, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights

PATTERN = 6  # of so many layers the last one sees everything


@dataclass(frozen=True)
class Config(BaseConfig):
    layer_types: tuple[str, ...] = word(LAYER_TYPES)
    query_pre_attn_scalar: float = word(Real(0, 1e6))

    TABLES: ClassVar[Mapping[str, str]] = {FULL: "rope", SLIDING: "rope.sliding"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **REQUIRE_BASE,
        "hidden_act": GELU,
        "hidden_activation": GELU,
        "attention_bias": (False,),
        "use_bidirectional_attention": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gemma3_text": {
            "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
            "query_pre_attn_scalar": 256, "sliding_window": 4096, "layer_types": None, "rope_theta": 1e6,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        if given["layer_types"] is None and type(given["num_hidden_layers"]) is int:
            every = cls._every(given, "sliding_window_pattern", PATTERN)
            layers = range(1, given["num_hidden_layers"] + 1)
            given["layer_types"] = [SLIDING if i % every else FULL for i in layers]

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        """Scaling is of the layers that see everything; transformers 5 has an object for each kind."""
        local = raw.get("rope_local_base_freq") or 10000.0
        kinds = cls.by_layer_type({**raw, "rope_local_base_freq": local})
        if kinds is None:
            kinds = {FULL: dict(raw), SLIDING: {"model_type": raw["model_type"], "rope_theta": local}}
        return {"rope": cls.rope(kinds[FULL]), "rope.sliding": cls.rope(kinds[SLIDING])}


def _settle(raw: Words, keys: Mapping[str, Any]) -> None:
    scale_of_scores(raw, large=62)
    windows(raw, every=PATTERN)


HUGGINGFACE = (("gemma3_text", "Gemma3ForCausalLM"),)
GGUF = (
    Gguf(
        "gemma3",
        "gemma3_text",
        words={**GGUF_PATTERN, "rope.freq_base_swa": "rope_local_base_freq"},
        accepted={"attn_logit_softcapping": (0.0,), "final_logit_softcapping": (0.0,)},
        settle=_settle,
    ),
)
TENSORS = (
    *tensors.ends(plus=1.0),
    Tensor("rope.sliding.inverse_frequencies", None, None, ("rotary_size",), "vector"),
    *post_norms(),
    *tensors.attention(),
    *tensors.head_norms(plus=1.0),
    *tensors.mlp(),
)
head = decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + norm(attention(norm(x))), then x + norm(mlp(norm(x)))."""
    b, epsilon = w.block(i, Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, *decoder.norm_heads(p, c, b, q, k), ropes[c.layer_types[i]])
    a = decoder.output(p, b, ops.attend(p, q, k, v, cache, scale=c.query_pre_attn_scalar**-0.5))
    x = ops.add_norm(p, x, a, b.post_norm1, epsilon=epsilon)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return ops.add_norm(p, x, decoder.feed_forward(p, b, h, "gelu"), b.post_norm2, epsilon=epsilon)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head, embed)

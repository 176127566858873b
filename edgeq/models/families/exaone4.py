"""EXAONE 4: norms behind attention and MLP only, norms on the heads of queries and keys, and where there are
windows a rotation on the layers that have one alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.families.olmo2 import Block
from edgeq.models.gguf import PATTERN as GGUF_PATTERN
from edgeq.models.gguf import Gguf, Words, windows
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import FULL, LAYER_TYPES, SLIDING, refuse, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


PATTERN = 4  # of so many layers the last one sees everything
WINDOWED = 64  # layers of the one size of models that has windows


@dataclass(frozen=True)
class Config(BaseConfig):
    layer_types: tuple[str, ...] = word(LAYER_TYPES)

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "attention_bias": (False,)}
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "exaone4": {
            "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": None,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "sliding_window": 4096,
            "sliding_window_pattern": PATTERN, "layer_types": None,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        """The pattern is a number, or letters: L for a window, G for none, and none for the last layer."""
        pattern, count = given["sliding_window_pattern"], given["num_hidden_layers"]
        if given["layer_types"] is not None or type(count) is not int:
            return
        if given["sliding_window"] is None or not pattern:
            types = [FULL] * count
        elif isinstance(pattern, str):
            if {*pattern} - {"L", "G"}:
                refuse("sliding_window_pattern", pattern, "the letters L and G, or a number, are needed")
            letters = (pattern[i % len(pattern)] for i in range(count - 1))
            types = [*(SLIDING if letter == "L" else FULL for letter in letters), FULL]
        else:
            every = cls._every(given, "sliding_window_pattern", PATTERN)
            types = [SLIDING if (i + 1) % every else FULL for i in range(count)]
        given["layer_types"] = types


def _windows(raw: Words, keys: Mapping[str, Any]) -> None:
    """Which layers have the window is not in old files, but the number of layers tells."""
    if "sliding_window_pattern" not in raw and raw["num_hidden_layers"] != WINDOWED:
        raw["sliding_window"] = None
    windows(raw, every=PATTERN)


HUGGINGFACE = (("exaone4", "Exaone4ForCausalLM"),)
GGUF = (Gguf("exaone4", "exaone4", words=GGUF_PATTERN, absent={"sliding_window": None}, settle=_windows),)
TENSORS = (
    *tensors.ends(),
    *tensors.attention(),
    *tensors.head_norms(),
    norm("blocks.{i}.post_norm1", f"{HF}post_attention_layernorm.weight", f"{BLK}post_attention_norm.weight"),
    *tensors.mlp(),
    norm("blocks.{i}.post_norm2", f"{HF}post_feedforward_layernorm.weight", f"{BLK}post_ffw_norm.weight"),
)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + norm(attention(x)), then x + norm(mlp(x))."""
    b, epsilon = w.block(i, Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.quantize(p, x, b.qkv))
    q, k = decoder.norm_heads(p, c, b, q, k)
    if c.sliding_window is None or c.layer_types[i] == SLIDING:
        q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    a = decoder.output(p, b, ops.attend(p, q, k, v, cache))
    x = ops.add_norm(p, x, a, b.post_norm1, epsilon=epsilon)
    y = decoder.feed_forward(p, b, ops.quantize(p, x, (b.gate, b.up)))
    return ops.add_norm(p, x, y, b.post_norm2, epsilon=epsilon)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

"""Phi-3, 3.5, 4 and 4-mini: Llama's block, fused matrices, a rotation of part of each head, and LongRoPE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.models import decoder, tensors
from edgeq.models.base import POSITIONS, REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.gguf import WINDOW, Gguf, Words, no_window, partial
from edgeq.models.rope import Rope
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, Tensor, norm
from edgeq.models.words import Whole, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    rotary_dim: int = word(Whole(2, 1024))
    original_max_position_embeddings: int = word(
        Whole(1, POSITIONS)
    )  # longer contexts have frequencies of their own

    TABLES: ClassVar[Mapping[str, str]] = {"rope": "rope", "rope.long": "rope.long"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key != "partial_rotary_factor"},
        "attention_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "phi3": {
            "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "sliding_window": None,
            "original_max_position_embeddings": 4096, "partial_rotary_factor": 1.0,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        if given["rope_kind"] != "longrope":  # one table is as good as the other
            given["original_max_position_embeddings"] = POSITIONS

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        """One for contexts up to the original one, one for longer ones."""
        usual = cls.DEFAULTS["phi3"]["original_max_position_embeddings"]
        original = raw.get("original_max_position_embeddings") or usual
        return cls.by_length({**raw, "original_max_position_embeddings": original})


def _window(raw: Words, keys: Mapping[str, Any]) -> None:
    no_window(raw, keys)
    partial(raw, keys)


HUGGINGFACE = (("phi3", "Phi3ForCausalLM"),)
GGUF = (
    Gguf(
        "phi3",
        "phi3",
        words={**WINDOW, "rope.scaling.original_context_length": "original_max_position_embeddings"},
        settle=_window,
    ),
)
TENSORS = (
    *tensors.ends(),
    Tensor("rope.long.inverse_frequencies", None, None, ("rotary_size",), "vector"),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(hf_fused="qkv_proj"),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *tensors.mlp("gate_up_proj", "ffn_up"),
)
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's block. Which frequencies sequences turn by is chosen once, by how long they may be."""
    return decoder.layer(p, c, w, i, x, {"rope": ropes[c.table(ropes["rope"].positions)]}, cache)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

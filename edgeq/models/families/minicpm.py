"""MiniCPM 1, 2 and 4: Granite's block, whose factors follow from other words, and LongRoPE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq.errors import UnsupportedError
from edgeq.models import decoder, tensors
from edgeq.models.base import POSITIONS, REQUIRE_BASE
from edgeq.models.families import granite
from edgeq.models.gguf import Gguf, Words
from edgeq.models.tensors import Tensor
from edgeq.models.words import Real, Whole, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.models.rope import Rope
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights

SCALES = ("scale_emb", "scale_depth", "dim_model_base")


@dataclass(frozen=True)
class Config(granite.Config):
    original_max_position_embeddings: int = word(
        Whole(1, POSITIONS)
    )  # longer contexts have frequencies of their own

    TABLES: ClassVar[Mapping[str, str]] = {"rope": "rope", "rope.long": "rope.long"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key not in (*granite.SCALES, *SCALES)},
        "attention_bias": (False,),
        "sparse_config": (),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "minicpm": {
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
            "scale_emb": 1, "scale_depth": 1, "dim_model_base": 1,
        }
    }  # fmt: skip

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        return cls.by_length(raw)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        """Granite's words, where a GGUF file has not said them."""
        given["original_max_position_embeddings"] = POSITIONS  # one table is as good as the other
        if given["rope_kind"] == "longrope":
            original = cls.rope_words(given).get("original_max_position_embeddings")
            given["original_max_position_embeddings"] = original or given["max_position_embeddings"]
        layers, head_dim = cls._read(given, "num_hidden_layers"), cls._read(given, "head_dim")
        given["attention_multiplier"] = head_dim**-0.5
        if "residual_multiplier" in given:
            return
        emb, depth, base = (Real(0, 1e6).read(given, name, UnsupportedError) for name in SCALES)
        given["embedding_multiplier"], given["residual_multiplier"] = emb, depth / layers**0.5
        given["logits_scaling"] = given["hidden_size"] / base


def _scales(raw: Words, keys: Mapping[str, Any]) -> None:
    """Old files lack what all models of then had."""
    layers, hidden = raw["num_hidden_layers"], raw["hidden_size"]
    if type(layers) is int and type(hidden) is int and layers > 0:
        usual = {"embedding_multiplier": 12.0, "residual_multiplier": 1.4 / layers**0.5}
        for word, value in (usual | {"logits_scaling": hidden / 256}).items():
            raw.setdefault(word, value)


HUGGINGFACE = (("minicpm", "MiniCPMForCausalLM"),)
GGUF = (
    Gguf(
        "minicpm",
        "minicpm",
        words={
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        settle=_scales,
    ),
)
TENSORS = (
    *tensors.decoder(gguf_interleaved=True),
    Tensor("rope.long.inverse_frequencies", None, None, ("rotary_size",), "vector"),
)
embed, head = granite.embed, granite.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Granite's block. Which frequencies sequences turn by is chosen once, by how long they may be."""
    return granite.layer(p, c, w, i, x, {"rope": ropes[c.table(ropes["rope"].positions)]}, cache)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head, embed)

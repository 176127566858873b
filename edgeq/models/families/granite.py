"""Granite 3 and 4 (dense): Llama's block with factors on the embedding, on what is added to the residual
rows, on scores and on logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Gguf
from edgeq.models.words import Real, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


SCALES = ("embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier")


@dataclass(frozen=True)
class Config(BaseConfig):
    embedding_multiplier: float = word(Real(0, 1e6))
    residual_multiplier: float = word(Real(0, 1e6))
    attention_multiplier: float = word(Real(0, 1e6))  # of products of queries and keys
    logits_scaling: float = word(Real(0, 1e6))  # what logits are divided by

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key not in SCALES},
        "attention_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "granite": {
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0, "attention_multiplier": 1.0, "logits_scaling": 1.0,
        }
    }  # fmt: skip


def scales(raw: dict[str, Any], keys: Mapping[str, Any]) -> None:
    """0 is the usual scale of scores, too."""
    head_dim = raw["head_dim"]
    if raw["attention_multiplier"] == 0 and type(head_dim) is int and head_dim > 0:
        raw["attention_multiplier"] = head_dim**-0.5


# Sizes of what the hybrid models have, which files of dense Granite 4 repeat: their tensors would be refused.
HYBRID = (
    *(f"ssm.{key}" for key in ("conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank")),
    "expert_shared_feed_forward_length",
)

HUGGINGFACE = (("granite", "GraniteForCausalLM"),)
GGUF = (
    Gguf(
        "granite",
        "granite",
        words={
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "attention.scale": "attention_multiplier",
            "logit_scale": "logits_scaling",
        },
        absent={"attention_multiplier": 0.0},
        accepted={"rope.scaling.finetuned": (True,)},  # false would be a model without a rotation
        unread=HYBRID,
        settle=scales,
    ),
)
TENSORS = tensors.decoder(gguf_interleaved=True)


def embed(p: Recorder, c: Config, w: Weights) -> Rows:
    """Rows times a factor."""
    return decoder.embed(p, c, w, scale=c.embedding_multiplier)


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + r attention(norm(x)), then x + r mlp(norm(x))."""
    b, epsilon, r = w.block(i, decoder.Block), c.rms_norm_eps, c.residual_multiplier
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    a = ops.attend(p, q, k, v, cache, scale=c.attention_multiplier)
    x = ops.add(p, x, decoder.output(p, b, a), r)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return ops.add(p, x, decoder.feed_forward(p, b, h), r)


def head(p: Recorder, c: Config, w: Weights, x: Rows) -> None:
    """Logits divided by a factor."""
    decoder.head(p, c, w, x, scale=1 / c.logits_scaling)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head, embed)

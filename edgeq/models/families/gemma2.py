"""Gemma 2: norms before and after attention and MLP, GELU gates, capped scores and logits, and a window on
every other layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig, window_of
from edgeq.models.gguf import PATTERN, Gguf, Words, windows
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import FULL, LAYER_TYPES, SLIDING, Real, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights

GELU: tuple[str | None, ...] = (
    "gelu_pytorch_tanh",
    "gelu",
)  # of which old configs mean the first by the second


@dataclass(frozen=True)
class Config(BaseConfig):
    layer_types: tuple[str, ...] = word(LAYER_TYPES)
    query_pre_attn_scalar: float = word(Real(0, 1e6))
    attn_logit_softcapping: float | None = word(Real(0, 1e6, null=True))
    final_logit_softcapping: float | None = word(Real(0, 1e6, null=True))

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if "softcapping" not in key},
        "hidden_act": GELU,
        "hidden_activation": GELU,
        "attention_bias": (False,),
        "use_bidirectional_attention": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gemma2": {
            "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
            "query_pre_attn_scalar": 256, "sliding_window": 4096, "layer_types": None,
            "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        if given["layer_types"] is None and type(given["num_hidden_layers"]) is int:
            given["layer_types"] = [(SLIDING, FULL)[i % 2] for i in range(given["num_hidden_layers"])]


def post_norms(plus: float = 1.0) -> tuple[tensors.Tensor, ...]:
    """The four norms of a block; checkpoints have weights less one."""
    return (
        norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight", plus=plus),
        norm("blocks.{i}.post_norm1", f"{HF}post_attention_layernorm.weight",
             f"{BLK}post_attention_norm.weight", plus=plus),
        norm("blocks.{i}.norm2", f"{HF}pre_feedforward_layernorm.weight", f"{BLK}ffn_norm.weight", plus=plus),
        norm("blocks.{i}.post_norm2", f"{HF}post_feedforward_layernorm.weight",
             f"{BLK}post_ffw_norm.weight", plus=plus),
    )  # fmt: skip


def scale_of_scores(raw: Words, large: int) -> None:
    """What a GGUF file does not have: the scale of scores is that of the head, or in a model of `large`
    layers, which is the one of 27 B, that of the width.
    """
    hidden, heads = raw["hidden_size"], raw["num_attention_heads"]
    usable = type(hidden) is int and type(heads) is int and heads > 0  # the config refuses others
    width = raw["num_hidden_layers"] == large and usable
    raw["query_pre_attn_scalar"] = hidden / heads if width else raw["head_dim"]


def _settle(raw: Words, keys: Mapping[str, Any]) -> None:
    scale_of_scores(raw, large=46)
    windows(raw, every=2)


HUGGINGFACE = (("gemma2", "Gemma2ForCausalLM"),)
GGUF = (
    Gguf(
        "gemma2",
        "gemma2",
        words={
            **PATTERN,
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        absent={"sliding_window": 4096},
        settle=_settle,
    ),
)
TENSORS = (*tensors.ends(plus=1.0), *post_norms(), *tensors.attention(), *tensors.mlp())


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Block):
    post_norm1: Vector  # [hidden]
    post_norm2: Vector  # [hidden]


def embed(p: Recorder, c: Config, w: Weights) -> Rows:
    """Rows times the root of their width."""
    return decoder.embed(p, c, w, scale=sqrt(c.hidden_size))


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + norm(attention(norm(x))), then x + norm(mlp(norm(x)))."""
    b, epsilon = w.block(i, Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    scale, cap = c.query_pre_attn_scalar**-0.5, c.attn_logit_softcapping
    a = decoder.output(p, b, ops.attend(p, q, k, v, cache, scale=scale, cap=cap))
    x = ops.add_norm(p, x, a, b.post_norm1, epsilon=epsilon)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return ops.add_norm(p, x, decoder.feed_forward(p, b, h, "gelu"), b.post_norm2, epsilon=epsilon)


def head(p: Recorder, c: Config, w: Weights, x: Rows) -> None:
    """Logits under a cap."""
    decoder.head(p, c, w, x, cap=c.final_logit_softcapping)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head, embed)

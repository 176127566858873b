"""Qwen3.5: layers of the gated delta rule, and every fourth one attention with a gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.cache import CacheLayer, LayerShape, StateLayer, StateShape
from edgeq.models import decoder, delta, tensors
from edgeq.models.base import REQUIRE_BASE
from edgeq.models.gguf import Gguf, Words, of_one, partial
from edgeq.models.hybrid import LAYER_TYPES, LINEAR, attends, recurs
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, OfHeads, Tensor, norm
from edgeq.models.words import FULL, Whole, word

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights

    State = CacheLayer | tuple[StateLayer, ...]

PATTERN = 4  # of so many layers the last one is attention


@dataclass(frozen=True)
class Config(delta.Config):
    layer_types: tuple[str, ...] = word(LAYER_TYPES)
    rotary_dim: int = word(Whole(2, 1024))

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key != "partial_rotary_factor"},
        "attention_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qwen3_5_text": {
            "vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32,
            "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "layer_types": None,
            "partial_rotary_factor": 0.25, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
            "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        count = given["num_hidden_layers"]
        if given["layer_types"] is None and type(count) is int:
            every = cls._every(given, "full_attention_interval", PATTERN)
            given["layer_types"] = [LINEAR if i % every else FULL for i in range(1, count + 1)]

    def cache_layers(self) -> Iterator[LayerShape | StateShape]:
        """A layer keeps keys and values, or the state of its delta rule."""
        for kind in self.layer_types:
            yield LayerShape(self.num_key_value_heads, self.head_dim) if kind == FULL else self.state


def mixers(recurrent: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of each layer the norms, and attention or what recurs."""
    names, (_, k, v, o) = (f"{HF}self_attn.q_proj.weight", f"{BLK}attn_q.weight"), tensors.attention()

    def half(number: int, name: str) -> Tensor:
        """Of each head of queries, of which the second half is a gate."""
        hf, gguf = (From(each, (OfHeads(number, 2, "num_attention_heads"),)) for each in names)
        return Tensor(f"blocks.{{i}}.{name}", hf, gguf, ("q_size", "hidden_size"), "matrix")

    attention = (half(0, "q"), k, v, half(1, "q_gate"), o, *tensors.head_norms(plus=1.0))
    return (
        norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight", plus=1.0),
        *(replace(row, when=attends) for row in attention),
        *(replace(row, when=recurs) for row in recurrent),
        norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight",
             f"{BLK}post_attention_norm.weight", plus=1.0),
    )  # fmt: skip


def gguf_settle(raw: Words, keys: Mapping[str, Any]) -> None:
    partial(raw, keys)
    of_one(raw, "linear_value_head_dim", "linear_num_value_heads")


HUGGINGFACE = (("qwen3_5_text", "Qwen3_5ForCausalLM"),)
GGUF = (
    Gguf(
        "qwen35",
        "qwen3_5_text",
        words={**delta.GGUF_WORDS, "full_attention_interval": "full_attention_interval"},
        absent=delta.GGUF_NONE,
        unread=("rope.dimension_sections",),  # of what is no text
        settle=gguf_settle,
    ),
)
TENSORS = (*tensors.ends(plus=1.0), *mixers(delta.rows()), *tensors.mlp())
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Attention(decoder.Attention):
    norm1: Vector  # [hidden]
    q_gate: Matrix  # [heads * head_dim, hidden]


@dataclass(frozen=True, kw_only=True)
class Delta(delta.Delta):
    norm1: Vector  # [hidden]


def mix(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: State) -> Rows:
    """x + W_o . (sigmoid(gate) * attention(norm(x))), or x + delta rule(norm(x))."""
    if not isinstance(cache, CacheLayer):
        b = w.block(i, Delta)
        return delta.mix(p, c, b, ops.norm(p, x, b.norm1, b.readers, epsilon=c.rms_norm_eps), x, cache)
    a = w.block(i, Attention)
    h = ops.norm(p, x, a.norm1, (*a.qkv, a.q_gate), epsilon=c.rms_norm_eps)
    q, k, v = decoder.project(p, a, h)
    q, k = decoder.rotate(p, c, *decoder.norm_heads(p, c, a, q, k), ropes["rope"])
    y = ops.attend(p, q, k, v, cache)
    return ops.matmul(p, a.o, ops.gated(p, ops.matmul(p, a.q_gate, h), y, (a.o,), "sigmoid"), add_to=x)


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: State) -> Rows:
    """Attention or delta rule, then x + mlp(norm(x))."""
    return decoder.mlp(p, c, w, i, mix(p, c, w, i, x, ropes, cache))


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

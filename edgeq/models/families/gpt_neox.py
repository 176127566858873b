"""GPT-NeoX and Pythia: attention and MLP side by side behind LayerNorms of their own, GELU, biases
everywhere, and a rotation of part of each head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import EPSILON, Gguf, partial
from edgeq.models.rope import Rope
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import From, OfHeads, Part, Tensor, norm
from edgeq.models.words import Choice, Truth, Whole, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights


ACTIVATIONS = {"gelu": "gelu_erf", "gelu_new": "gelu", "gelu_fast": "gelu", "gelu_pytorch_tanh": "gelu"}


@dataclass(frozen=True)
class Config(BaseConfig):
    rotary_dim: int = word(Whole(2, 1024))
    hidden_act: str = word(Choice(tuple(ACTIVATIONS)))
    use_parallel_residual: bool = word(Truth())

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{k: v for k, v in REQUIRE_BASE.items() if k not in ("partial_rotary_factor", "hidden_act")},
        "attention_bias": (True,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gpt_neox": {
            "vocab_size": 50432, "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 44,
            "num_attention_heads": 64, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
            "use_parallel_residual": True, "partial_rotary_factor": 0.25,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["rms_norm_eps"] = cls._epsilon(given, "layer_norm_eps")
        given["num_key_value_heads"] = given["num_attention_heads"]

    @classmethod
    def rope(cls, raw: Mapping[str, Any]) -> Rope:
        """With the names of words that the family alone has."""
        other = {"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"}
        return super().rope({**raw, **{right: raw[word] for word, right in other.items() if word in raw}})


NEOX = "gpt_neox.layers.{i}."
HUGGINGFACE = (("gpt_neox", "GPTNeoXForCausalLM"),)
GGUF = (
    Gguf(
        "gptneox",
        "gpt_neox",
        words={"use_parallel_residual": "use_parallel_residual"},
        epsilon=EPSILON,
        settle=partial,
    ),
)


def _both(name: str, hf: str, gguf: str, shape: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """A matrix and its bias."""
    return (
        Tensor(f"blocks.{{i}}.{name}", f"{NEOX}{hf}.weight", f"{BLK}{gguf}.weight", shape, "matrix"),
        Tensor(f"blocks.{{i}}.{name}_bias", f"{NEOX}{hf}.bias", f"{BLK}{gguf}.bias", shape[:1], "vector"),
    )


def _qkv() -> Iterator[Tensor]:
    """Queries, keys and values, which checkpoints have head by head, and GGUF files one after another."""
    for number, letter in enumerate("qkv"):
        rows = tensors.QKV[number]
        for kind, suffix, shape, role in (
            ("weight", "", (rows, "hidden_size"), "matrix"),
            ("bias", "_bias", (rows,), "vector"),
        ):
            yield Tensor(
                f"blocks.{{i}}.{letter}{suffix}",
                From(f"{NEOX}attention.query_key_value.{kind}", (OfHeads(number, 3, "num_attention_heads"),)),
                From(f"{BLK}attn_qkv.{kind}", (Part(number, tensors.QKV),)),
                shape,
                role,
            )


TENSORS = (
    Tensor("embed", "gpt_neox.embed_in.weight", "token_embd.weight", ("vocab_size", "hidden_size"), "embed"),
    Tensor("output", "embed_out.weight", "output.weight", ("vocab_size", "hidden_size"), "output",
           shares="embed"),
    norm("norm", "gpt_neox.final_layer_norm.weight", "output_norm.weight"),
    norm("norm_bias", "gpt_neox.final_layer_norm.bias", "output_norm.bias"),
    Tensor("rope.inverse_frequencies", None, None, ("rotary_size",), "vector"),
    norm("blocks.{i}.norm1", f"{NEOX}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    norm("blocks.{i}.norm1_bias", f"{NEOX}input_layernorm.bias", f"{BLK}attn_norm.bias"),
    *_qkv(),
    *_both("o", "attention.dense", "attn_output", ("hidden_size", "q_size")),
    norm("blocks.{i}.norm2", f"{NEOX}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    norm("blocks.{i}.norm2_bias", f"{NEOX}post_attention_layernorm.bias", f"{BLK}ffn_norm.bias"),
    *_both("up", "mlp.dense_h_to_4h", "ffn_up", ("intermediate_size", "hidden_size")),
    *_both("down", "mlp.dense_4h_to_h", "ffn_down", ("hidden_size", "intermediate_size")),
)  # fmt: skip
embed, head = decoder.embed, decoder.layer_norm_head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Attention):
    norm1: Vector  # [hidden]
    norm1_bias: Vector
    norm2: Vector
    norm2_bias: Vector
    up: Matrix  # [intermediate, hidden]
    up_bias: Vector
    down: Matrix  # [hidden, intermediate]
    down_bias: Vector


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + attention(norm(x)) + mlp(norm(x)), or one after the other."""
    b, epsilon, rope = w.block(i, Block), c.rms_norm_eps, ropes["rope"]
    q, k, v = decoder.project(p, b, ops.layer_norm(p, x, b.norm1, b.norm1_bias, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, rope)
    a = ops.attend(p, q, k, v, cache, centre=decoder.key_centre(c, b, rope))
    if not c.use_parallel_residual:
        x = decoder.output(p, b, a, add_to=x)
    h = ops.layer_norm(p, x, b.norm2, b.norm2_bias, (b.up,), epsilon=epsilon)
    up = ops.matmul(p, b.up, h, bias=b.up_bias)
    y = ops.activate(p, up, (b.down,), ACTIVATIONS[c.hidden_act])
    x = ops.matmul(p, b.down, y, bias=b.down_bias, add_to=x)
    return decoder.output(p, b, a, add_to=x) if c.use_parallel_residual else x


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head)

"""BERT (bge, MiniLM, e5 and other encoders): learned positions, LayerNorms behind attention and MLP, biases
everywhere, and attention to all of a text. It leaves rows, of which a vector is made; no token follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.cache import CacheLayer, LayerShape
from edgeq.models import decoder
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import EPSILON, Gguf
from edgeq.models.rope import Rope
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import QKV, From, Part, Tensor
from edgeq.models.words import Choice, Whole, word

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights


ACTIVATIONS = {"gelu": "gelu_erf", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu"}


@dataclass(frozen=True)
class Config(BaseConfig):
    hidden_act: str = word(Choice(tuple(ACTIVATIONS)))
    type_vocab_size: int = word(Whole(1, 1 << 10))

    WHOLE: ClassVar[bool] = True
    TABLES: ClassVar[Mapping[str, str]] = {}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{k: v for k, v in REQUIRE_BASE.items() if k != "hidden_act"},
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "bert": {
            "vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 512, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
            "type_vocab_size": 2,
        }
    }  # fmt: skip

    @property
    def positions_size(self) -> int:
        """Numbers of all positions."""
        return self.max_position_embeddings * self.hidden_size

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["rms_norm_eps"] = cls._epsilon(given, "layer_norm_eps")
        given["num_key_value_heads"] = given["num_attention_heads"]

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        return {}


HUGGINGFACE = (("bert", "BertModel"),)
GGUF = (
    Gguf("bert", "bert", bare={"tokenizer.ggml.token_type_count": "type_vocab_size"},
         accepted={"attention.causal": (False,)}, epsilon=EPSILON),
)  # fmt: skip


def _names(name: str, of: tuple[str, ...] = ()) -> tuple[From, ...]:
    """Checkpoints of models with a head on top have one word more."""
    return From(name, of=of), From(f"bert.{name}", of=of)


def _both(
    name: str, hf: str, gguf: str, shape: tuple[str, ...], part: int | None = None
) -> tuple[Tensor, Tensor]:
    """A matrix, or the weight of a norm, and its bias; `part` of three whose rows a GGUF file may join."""
    found = []
    role = "matrix" if len(shape) == 2 else "vector"
    for kind, suffix, own, own_role in (
        ("weight", "", shape, role),
        ("bias", "_bias", shape[:1], "vector"),
    ):
        joined = () if part is None else (From(f"{BLK}attn_qkv.{kind}", (Part(part, QKV),)),)
        names = (From(f"{gguf}.{kind}"), *joined)
        found.append(Tensor(f"{name}{suffix}", _names(f"{hf}.{kind}"), names, own, own_role))
    return found[0], found[1]


HF, HIDDEN = "encoder.layer.{i}.", ("hidden_size",)
POSITIONS = ("max_position_embeddings", "hidden_size")
TENSORS = (
    Tensor("embed", _names("embeddings.word_embeddings.weight"), "token_embd.weight",
           ("vocab_size", "hidden_size"), "embed"),
    Tensor("positions", _names("embeddings.position_embeddings.weight", of=POSITIONS),
           From("position_embd.weight", of=POSITIONS), ("positions_size",), "vector"),
    Tensor("types", _names("embeddings.token_type_embeddings.weight"), "token_types.weight",
           ("type_vocab_size", "hidden_size"), "table"),
    *_both("norm", "embeddings.LayerNorm", "token_embd_norm", HIDDEN),
    *_both("blocks.{i}.q", f"{HF}attention.self.query", f"{BLK}attn_q", ("q_size", "hidden_size"), 0),
    *_both("blocks.{i}.k", f"{HF}attention.self.key", f"{BLK}attn_k", ("kv_size", "hidden_size"), 1),
    *_both("blocks.{i}.v", f"{HF}attention.self.value", f"{BLK}attn_v", ("kv_size", "hidden_size"), 2),
    *_both("blocks.{i}.o", f"{HF}attention.output.dense", f"{BLK}attn_output", ("hidden_size", "q_size")),
    *_both("blocks.{i}.norm1", f"{HF}attention.output.LayerNorm", f"{BLK}attn_output_norm", HIDDEN),
    *_both("blocks.{i}.up", f"{HF}intermediate.dense", f"{BLK}ffn_up", ("intermediate_size", "hidden_size")),
    *_both("blocks.{i}.down", f"{HF}output.dense", f"{BLK}ffn_down", ("hidden_size", "intermediate_size")),
    *_both("blocks.{i}.norm2", f"{HF}output.LayerNorm", f"{BLK}layer_output_norm", HIDDEN),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Attention):
    norm1: Vector  # [hidden]
    norm1_bias: Vector
    up: Matrix  # [intermediate, hidden]
    up_bias: Vector
    down: Matrix  # [hidden, intermediate]
    down_bias: Vector
    norm2: Vector
    norm2_bias: Vector


def norm(p: Recorder, c: Config, x: Rows, weight: Vector, bias: Vector) -> Rows:
    """Its rows are read as they are by what is added to them, and by products."""
    h = ops.layer_norm(p, x, weight, bias, (), epsilon=c.rms_norm_eps)
    assert h.floats is not None
    return h.floats


def before(w: Weights, i: int) -> tuple[Vector, Vector]:
    """The norm that block i begins with, which ends the one before it, or the embedding."""
    if i == 0:
        return w.vector("norm"), w.vector("norm_bias")
    b = w.block(i - 1, Block)
    return b.norm2, b.norm2_bias


def embed(p: Recorder, c: Config, w: Weights) -> Rows:
    """A token's row, that of its type, and that of its position."""
    x = ops.embed(p, w.matrix("embed"))
    x = ops.add(p, x, ops.embed(p, w.matrix("types"), p.zeros))  # all tokens are of the first type
    return ops.add_positions(p, x, w.vector("positions"), positions=c.max_position_embeddings)


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x = norm(x); x = norm(x + attention(x)); x + mlp(x), whose norm is the next one's."""
    b = w.block(i, Block)
    x = norm(p, c, x, *before(w, i))
    q, k, v = decoder.project(p, b, ops.quantize(p, x, b.qkv))
    a = ops.attend(p, q, k, v, cache, centre=decoder.key_centre(c, b, None), whole=True)
    x = norm(p, c, decoder.output(p, b, a, add_to=x), b.norm1, b.norm1_bias)
    up = ops.matmul(p, b.up, ops.quantize(p, x, (b.up,)), bias=b.up_bias)
    y = ops.activate(p, up, (b.down,), ACTIVATIONS[c.hidden_act])
    return ops.matmul(p, b.down, y, bias=b.down_bias, add_to=x)


def head(p: Recorder, c: Config, w: Weights, x: Rows) -> None:
    """The rows that are left."""
    weight, bias = before(w, c.num_hidden_layers)
    ops.layer_norm(p, x, weight, bias, (), epsilon=c.rms_norm_eps, outputs=True)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    x = embed(p, c, w)
    for i in range(c.num_hidden_layers):
        p.yield_point()
        x = layer(p, c, w, i, x, ropes, p.cache(LayerShape(c.num_key_value_heads, c.head_dim)))
    p.yield_point()
    head(p, c, w, x)

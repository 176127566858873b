"""GPT-2: learned positions, LayerNorms, GELU without a gate, and biases everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.families.gpt_neox import Block
from edgeq.models.gguf import EPSILON, Gguf, Words
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import From, Part, Tensor
from edgeq.models.words import Choice, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.models.rope import Rope
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    hidden_act: str = word(Choice(("gelu_new", "gelu_pytorch_tanh")))

    NAMES: ClassVar[Mapping[str, str]] = {
        "n_embd": "hidden_size", "n_positions": "max_position_embeddings", "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers", "n_inner": "intermediate_size", "activation_function": "hidden_act",
    }  # fmt: skip
    TABLES: ClassVar[Mapping[str, str]] = {}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key != "hidden_act"},
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gpt2": {
            "vocab_size": 50257, "hidden_size": 768, "intermediate_size": None, "num_hidden_layers": 12,
            "num_attention_heads": 12, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 1024, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
            "hidden_act": "gelu_new",
        }
    }  # fmt: skip

    @property
    def positions_size(self) -> int:
        """Numbers of all positions."""
        return self.max_position_embeddings * self.hidden_size

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        return {}

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["rms_norm_eps"] = cls._epsilon(given, "layer_norm_epsilon")
        given["num_key_value_heads"] = given["num_attention_heads"]
        if given["intermediate_size"] is None:
            given["intermediate_size"] = 4 * given["hidden_size"]


def _epsilon(raw: Words, keys: Mapping[str, Any]) -> None:
    raw["layer_norm_epsilon"] = raw.pop("layer_norm_eps")


def _hf(name: str, **given: Any) -> tuple[From, From]:
    """A checkpoint's name with the model's own before it, and without."""
    return From(f"transformer.{name}", **given), From(name, **given)


def _both(name: str, hf: str, gguf: str, shape: tuple[str, ...]) -> Iterator[Tensor]:
    """A matrix, which checkpoints have transposed, and its bias."""
    yield Tensor(f"blocks.{{i}}.{name}", _hf(f"h.{{i}}.{hf}.weight", transposed=True),
                 f"{BLK}{gguf}.weight", shape, "matrix")  # fmt: skip
    yield Tensor(f"blocks.{{i}}.{name}_bias", _hf(f"h.{{i}}.{hf}.bias"), f"{BLK}{gguf}.bias", shape[:1],
                 "vector")  # fmt: skip


def _norm(name: str, hf: str, gguf: str) -> Iterator[Tensor]:
    """A norm's weight and bias."""
    for last, kind in (("", "weight"), ("_bias", "bias")):
        yield Tensor(f"{name}{last}", _hf(f"{hf}.{kind}"), f"{gguf}.{kind}", ("hidden_size",), "vector")


def _qkv() -> Iterator[Tensor]:
    """Queries, keys and values, which stand one after another."""
    for number, letter in enumerate("qkv"):
        part, rows = (Part(number, tensors.QKV),), tensors.QKV[number]
        yield Tensor(
            f"blocks.{{i}}.{letter}",
            _hf("h.{i}.attn.c_attn.weight", moves=part, transposed=True),
            From(f"{BLK}attn_qkv.weight", part),
            (rows, "hidden_size"),
            "matrix",
        )
        yield Tensor(f"blocks.{{i}}.{letter}_bias", _hf("h.{i}.attn.c_attn.bias", moves=part),
                     From(f"{BLK}attn_qkv.bias", part), (rows,), "vector")  # fmt: skip


HUGGINGFACE = (("gpt2", "GPT2LMHeadModel"),)
GGUF = (Gguf("gpt2", "gpt2", epsilon=EPSILON, settle=_epsilon),)
POSITIONS = ("max_position_embeddings", "hidden_size")
TENSORS = (
    Tensor("embed", _hf("wte.weight"), "token_embd.weight", ("vocab_size", "hidden_size"), "embed"),
    Tensor("output", "lm_head.weight", "output.weight", ("vocab_size", "hidden_size"), "output",
           shares="embed"),
    Tensor("positions", _hf("wpe.weight", of=POSITIONS), From("position_embd.weight", of=POSITIONS),
           ("positions_size",), "vector"),
    *_norm("norm", "ln_f", "output_norm"),
    *_norm("blocks.{i}.norm1", "h.{i}.ln_1", f"{BLK}attn_norm"),
    *_qkv(),
    *_both("o", "attn.c_proj", "attn_output", ("hidden_size", "q_size")),
    *_norm("blocks.{i}.norm2", "h.{i}.ln_2", f"{BLK}ffn_norm"),
    *_both("up", "mlp.c_fc", "ffn_up", ("intermediate_size", "hidden_size")),
    *_both("down", "mlp.c_proj", "ffn_down", ("hidden_size", "intermediate_size")),
)  # fmt: skip
head = decoder.layer_norm_head


def embed(p: Recorder, c: Config, w: Weights) -> Rows:
    """With what the file has for each position."""
    return decoder.embed(p, c, w, positions=w.vector("positions"))


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + attention(norm(x)), then x + W_down . gelu(W_up . norm(x))."""
    b, epsilon = w.block(i, Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.layer_norm(p, x, b.norm1, b.norm1_bias, b.qkv, epsilon=epsilon))
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache, centre=decoder.key_centre(c, b, None)), add_to=x)
    h = ops.layer_norm(p, x, b.norm2, b.norm2_bias, (b.up,), epsilon=epsilon)
    y = ops.activate(p, ops.matmul(p, b.up, h, bias=b.up_bias), (b.down,), "gelu")
    return ops.matmul(p, b.down, y, bias=b.down_bias, add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head, embed)

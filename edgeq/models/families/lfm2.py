"""LFM2 and LFM2.5: short convolutions with gates, and on some layers attention with norms on the heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.cache import CacheLayer, LayerShape, StateLayer, StateShape
from edgeq.errors import UnsupportedError
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Gguf, Words, attending
from edgeq.models.hybrid import attends
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, Tensor, norm
from edgeq.models.words import FULL, Choice, Each, Real, Truth, Whole, refuse, word
from edgeq.ops.recurrent import history

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights

    State = CacheLayer | tuple[StateLayer, ...]

CONV = "conv"


@dataclass(frozen=True)
class Config(BaseConfig):
    layer_types: tuple[str, ...] = word(Each(Choice((CONV, FULL))))
    conv_L_cache: int = word(Whole(1, 64))  # tokens that a convolution sees

    NAMES: ClassVar[Mapping[str, str]] = {"norm_eps": "rms_norm_eps"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {**REQUIRE_BASE, "conv_bias": (False,)}
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "lfm2": {
            "vocab_size": 65536, "hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_theta": 1e6, "conv_L_cache": 3,
            "layer_types": None, "block_auto_adjust_ff_dim": True,
            "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256,
        }
    }  # fmt: skip

    one: ClassVar[int] = 1  # a dimension of convolutions

    @property
    def thirds(self) -> int:
        """Rows of what a convolution and its gates are made from."""
        return 3 * self.hidden_size

    @property
    def taps(self) -> int:
        """Numbers of a convolution."""
        return self.hidden_size * self.conv_L_cache

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        settle_layers(given)
        given["intermediate_size"] = adjusted(given)

    def cache_layers(self) -> Iterator[LayerShape | StateShape]:
        """A layer keeps keys and values, or the last tokens of its convolution."""
        kept = StateShape((history(self.hidden_size, self.conv_L_cache),))
        for kind in self.layer_types:
            yield LayerShape(self.num_key_value_heads, self.head_dim) if kind == FULL else kept


def settle_layers(given: dict[str, Any]) -> None:
    """Name each layer's kind, and say whether the embedding is the head, in older words, too."""
    count, those = given["num_hidden_layers"], given.get("full_attn_idxs")
    if given["layer_types"] is None and type(count) is int:
        if not isinstance(those, list | None):
            refuse("full_attn_idxs", those, "a list of the layers with attention is needed")
        given["layer_types"] = [FULL if those is None or i in those else CONV for i in range(count)]
    given["tie_word_embeddings"] = given.get("tie_embedding", given["tie_word_embeddings"])


def adjusted(given: Mapping[str, Any]) -> Any:
    """The width of an MLP: as it is said, or two thirds of that, times a factor, in whole multiples."""
    key = "block_ff_dim" if "block_ff_dim" in given else "intermediate_size"
    if not Truth().read(given, "block_auto_adjust_ff_dim", UnsupportedError):
        return given[key]
    width = 2 * Whole(1, 1 << 19).read(given, key, UnsupportedError) // 3
    if given["block_ffn_dim_multiplier"] is None:
        return width
    factor = Real(0, 1e3).read(given, "block_ffn_dim_multiplier", UnsupportedError)
    multiple = Whole(1, 1 << 16).read(given, "block_multiple_of", UnsupportedError)
    return -(-int(factor * width) // multiple) * multiple


def gguf_layers(raw: Words, keys: Mapping[str, Any]) -> None:
    """Layers without heads of keys are convolutions; of old files none is told. The width is the true one."""
    attending(raw, CONV)
    raw["block_auto_adjust_ff_dim"] = False


def convolves(c: Config, i: int) -> bool:
    return c.layer_types[i] == CONV


def mixers() -> tuple[Tensor, ...]:
    """Of each layer the norm, and attention or convolution; the norm of what comes behind."""
    attention = (
        *tensors.attention(o="out_proj"),
        *tensors.head_norms(("q_layernorm", "k_layernorm")),
    )
    conv, gguf = f"{HF}conv.", f"{BLK}shortconv."
    return (
        norm("blocks.{i}.norm1", f"{HF}operator_norm.weight", f"{BLK}attn_norm.weight"),
        *(replace(row, when=attends) for row in attention),
        Tensor("blocks.{i}.conv_in", f"{conv}in_proj.weight", f"{gguf}in_proj.weight",
               ("thirds", "hidden_size"), "matrix", when=convolves),
        Tensor("blocks.{i}.conv", From(f"{conv}conv.weight", of=("hidden_size", "one", "conv_L_cache")),
               From(f"{gguf}conv.weight", of=("hidden_size", "conv_L_cache")), ("taps",), "vector",
               when=convolves),
        Tensor("blocks.{i}.conv_out", f"{conv}out_proj.weight", f"{gguf}out_proj.weight",
               ("hidden_size", "hidden_size"), "matrix", when=convolves),
        norm("blocks.{i}.norm2", f"{HF}ffn_norm.weight", f"{BLK}ffn_norm.weight"),
    )  # fmt: skip


def mlp() -> tuple[Tensor, ...]:
    """The matrices of an MLP by their names here."""
    names = zip(tensors.mlp(), ("w1", "w3", "w2"), strict=True)
    return tuple(replace(row, hf=f"{HF}feed_forward.{name}.weight") for row, name in names)


def ends() -> tuple[Tensor, ...]:
    """With the last norm, which is called the embedding's."""
    embed, output, last, frequencies = tensors.ends("model.embedding_norm.weight")
    return embed, output, replace(last, gguf=("token_embd_norm.weight", "output_norm.weight")), frequencies


HUGGINGFACE = (("lfm2", "Lfm2ForCausalLM"),)
GGUF = (
    Gguf(
        "lfm2",
        "lfm2",
        words={"shortconv.l_cache": "conv_L_cache"},
        absent={"conv_L_cache": None},
        listed=("attention.head_count_kv",),
        settle=gguf_layers,
    ),
)
TENSORS = (*ends(), *mixers(), *mlp())
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Attention(decoder.Attention):
    norm1: Vector  # [hidden]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Between two matrices, of which the first makes a gate, another gate, and what is convolved."""

    norm1: Vector  # [hidden]
    conv_in: Matrix  # [3 * hidden, hidden]
    conv: Vector  # [hidden * reach]
    conv_out: Matrix  # [hidden, hidden]


def mix(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: State) -> Rows:
    """x + attention(norm(x)), or x + W_out . (g' * conv(g * u)) with g, g' and u of norm(x)."""
    epsilon = c.rms_norm_eps
    if isinstance(cache, CacheLayer):
        a = w.block(i, Attention)
        q, k, v = decoder.project(p, a, ops.norm(p, x, a.norm1, a.qkv, epsilon=epsilon))
        q, k = decoder.rotate(p, c, *decoder.norm_heads(p, c, a, q, k), ropes["rope"])
        return decoder.output(p, a, ops.attend(p, q, k, v, cache), add_to=x)
    b = w.block(i, Convolution)
    h = ops.norm(p, x, b.norm1, (b.conv_in,), epsilon=epsilon)
    y = ops.short_conv(p, ops.matmul(p, b.conv_in, h), b.conv, *cache)
    return ops.matmul(p, b.conv_out, ops.quantize(p, y, (b.conv_out,)), add_to=x)


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: State) -> Rows:
    """Attention or convolution, then x + mlp(norm(x))."""
    return decoder.mlp(p, c, w, i, mix(p, c, w, i, x, ropes, cache))


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

"""Apertus: norms on the heads of queries and keys, and an MLP without a gate whose activation has numbers
that were trained for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Gguf, Words
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import Each, Real, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector, Weights

# Words that config.json does not have: tensors of a checkpoint, keys of a GGUF file.
NUMBERS = {
    f"xielu_{name}": f"{HF}mlp.act_fn.{name}" for name in ("alpha_p", "alpha_n", "beta", "eps")
}  # fmt: skip
ACTIVATION = Each(Real(-1e6, 1e6))


@dataclass(frozen=True)
class Config(BaseConfig):
    xielu_alpha_p: tuple[float, ...] = word(ACTIVATION)  # before the softplus that both alphas have
    xielu_alpha_n: tuple[float, ...] = word(ACTIVATION)
    xielu_beta: tuple[float, ...] = word(ACTIVATION)
    xielu_eps: tuple[float, ...] = word(ACTIVATION)

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **REQUIRE_BASE,
        "hidden_act": ("xielu",),
        "attention_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "apertus": {
            "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 65536, "rms_norm_eps": 1e-5, "rope_theta": 12000000.0,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            },
        }
    }  # fmt: skip


def _each(raw: Words, keys: Mapping[str, Any]) -> None:
    """One number is that of all layers."""
    for name in NUMBERS:
        if name in raw and not isinstance(raw[name], list) and type(raw["num_hidden_layers"]) is int:
            raw[name] = [raw[name]] * min(raw["num_hidden_layers"], 1024)


HUGGINGFACE = (("apertus", "ApertusForCausalLM"),)
GGUF = (Gguf("apertus", "apertus", bare={word.replace("_", ".", 1): word for word in NUMBERS}, settle=_each),)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}attention_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(),
    *tensors.head_norms(),
    norm("blocks.{i}.norm2", f"{HF}feedforward_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *tensors.mlp()[1:],
)
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Attention):
    norm1: Vector  # [hidden]
    norm2: Vector  # [hidden]
    up: Matrix  # [intermediate, hidden]
    down: Matrix  # [hidden, intermediate]


def softplus(x: float) -> float:
    """ln(1 + e^x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + attention(norm(x)), then x + W_down . xielu(W_up . norm(x))."""
    b, epsilon, beta = w.block(i, Block), c.rms_norm_eps, c.xielu_beta[i]
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, *decoder.norm_heads(p, c, b, q, k), ropes["rope"])
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache), add_to=x)
    up = ops.matmul(p, b.up, ops.norm(p, x, b.norm2, (b.up,), epsilon=epsilon))
    positive, negative = softplus(c.xielu_alpha_p[i]), beta + softplus(c.xielu_alpha_n[i])
    y = ops.xielu(p, up, positive=positive, negative=negative, slope=beta, highest=c.xielu_eps[i])
    return ops.matmul(p, b.down, ops.quantize(p, y, (b.down,)), add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

"""BitNet b1.58: Llama's block with norms before the last product of attention and of the MLP, and squares of
what is above 0 as gates; its matrices are -1, 0 and 1 times a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Gguf
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import Choice, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    hidden_act: str = word(Choice(("relu2", "silu")))

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key != "hidden_act"},
        "attention_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "bitnet": {
            "vocab_size": 128256, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 30,
            "num_attention_heads": 20, "num_key_value_heads": 5, "head_dim": None,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "relu2",
            "rope_theta": 500000.0,
        }
    }  # fmt: skip


HUGGINGFACE = (("bitnet", "BitNetForCausalLM"),)
GGUF = (Gguf("bitnet", "bitnet", words={"hidden_act": "hidden_act"}, absent={"hidden_act": "silu"}),)
TENSORS = (
    *tensors.decoder(),
    norm("blocks.{i}.sub_norm1", f"{HF}self_attn.attn_sub_norm.weight", f"{BLK}attn_sub_norm.weight",
         "q_size"),
    norm("blocks.{i}.sub_norm2", f"{HF}mlp.ffn_sub_norm.weight", f"{BLK}ffn_sub_norm.weight",
         "intermediate_size"),
)  # fmt: skip
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Block):
    sub_norm1: Vector  # [heads * head_dim]
    sub_norm2: Vector  # [intermediate]


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + W_o . norm(attention(norm(x))), then x + W_down . norm(relu(W_gate . h)^2 * (W_up . h))."""
    b, epsilon = w.block(i, Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    a = ops.norm(p, ops.attend(p, q, k, v, cache), b.sub_norm1, (b.o,), epsilon=epsilon)
    x = ops.matmul(p, b.o, a, add_to=x)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    y = ops.gated_rows(p, ops.matmul(p, b.gate, h), ops.matmul(p, b.up, h), c.hidden_act)
    return ops.matmul(p, b.down, ops.norm(p, y, b.sub_norm2, (b.down,), epsilon=epsilon), add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

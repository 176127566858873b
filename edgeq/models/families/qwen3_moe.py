"""Qwen3 mixtures (30B-A3B, 235B-A22B): Qwen3's attention, and experts in place of most MLPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.errors import UnsupportedError
from edgeq.models import decoder, experts, tensors
from edgeq.models.base import window_of
from edgeq.models.gguf import Gguf
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, norm
from edgeq.models.words import Each, Truth, refuse, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights


@dataclass(frozen=True)
class Config(experts.Config):
    sparse: tuple[bool, ...] = word(Each(Truth()))  # whether a layer has experts

    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qwen3_moe": {
            "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
            "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": None,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "sliding_window": 4096,
            "use_sliding_window": False, "num_experts": 128,
            "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": False,
            "decoder_sparse_step": 1, "mlp_only_layers": [],
        }
    }  # fmt: skip

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        switch = Truth().read(given, "use_sliding_window", UnsupportedError)
        return window_of(given) if switch else None

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["num_experts"] = given.get("num_local_experts") or given["num_experts"]
        given["sparse"] = sparse_layers(given)


def sparse_layers(given: Mapping[str, Any]) -> list[bool]:
    """Every so many-th layer has experts, but for those that are named."""
    step, dense = given["decoder_sparse_step"], given["mlp_only_layers"] or []
    if type(step) is not int or step < 1 or not isinstance(dense, list):
        refuse("decoder_sparse_step", step, "a whole number from 1 on is needed")
    count = given["num_hidden_layers"]
    return [(i + 1) % step == 0 and i not in dense for i in range(count if type(count) is int else 0)]


def is_sparse(c: Config, i: int) -> bool:
    return c.sparse[i]


def is_dense(c: Config, i: int) -> bool:
    return not c.sparse[i]


HUGGINGFACE = (("qwen3_moe", "Qwen3MoeForCausalLM"),)
GGUF = (
    Gguf(
        "qwen3moe",
        "qwen3_moe",
        words=experts.GGUF_EXPERTS,
        absent={**experts.GGUF_NONE, "norm_topk_prob": True},
        accepted={"attention.sliding_window": (0,)},
        without={"mlp_only_layers": "ffn_gate_inp.weight"},
        settle=experts.gguf_widths,
    ),
)
TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(),
    *tensors.head_norms(),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *(replace(row, when=is_dense) for row in tensors.mlp()),
    *experts.rows(when=is_sparse),
)
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Attention):
    norm1: Vector  # [hidden]
    norm2: Vector  # [hidden]


@dataclass(frozen=True, kw_only=True)
class Sparse(Block, experts.Experts):
    pass


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Qwen3's attention, then x + mixture(norm(x)), or an MLP."""
    if not c.sparse[i]:
        return decoder.layer(p, c, w, i, x, ropes, cache)
    b, epsilon = w.block(i, Sparse), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, *decoder.norm_heads(p, c, b, q, k), ropes["rope"])
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache), add_to=x)
    return experts.mixture(p, c, b, x, ops.norm(p, x, b.norm2, b.readers, epsilon=epsilon))


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

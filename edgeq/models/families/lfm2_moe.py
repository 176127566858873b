"""LFM2 mixtures (8B-A1B): LFM2's layers, and behind the first ones experts in place of MLPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, experts
from edgeq.models.families import lfm2
from edgeq.models.gguf import Gguf
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, Tensor
from edgeq.models.words import Real, Truth, Whole, word

if TYPE_CHECKING:
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector, Weights


@dataclass(frozen=True)
class Config(lfm2.Config, experts.Config):
    num_dense_layers: int = word(Whole(0, 1024))  # the first ones, which have no experts
    use_expert_bias: bool = word(Truth())
    routed_scaling_factor: float = word(Real(0, 1e6))

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: value for key, value in lfm2.Config.REQUIRE.items() if key not in experts.WORDS
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "lfm2_moe": {
            "vocab_size": 65536, "hidden_size": 2048, "intermediate_size": 7168, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_theta": 1e6, "conv_L_cache": 3,
            "layer_types": None, "num_dense_layers": 2,
            "num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 1792,
            "norm_topk_prob": True, "use_expert_bias": True, "routed_scaling_factor": 1.0,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        lfm2.settle_layers(given)


def is_sparse(c: Config, i: int) -> bool:
    return i >= c.num_dense_layers


def is_dense(c: Config, i: int) -> bool:
    return not is_sparse(c, i)


def is_biased(c: Config, i: int) -> bool:
    return c.use_expert_bias and is_sparse(c, i)


HUGGINGFACE = (("lfm2_moe", "Lfm2MoeForCausalLM"),)
GGUF = (
    Gguf(
        "lfm2moe",
        "lfm2_moe",
        words={
            **lfm2.GGUF[0].words,
            **experts.GGUF_EXPERTS,
            "leading_dense_block_count": "num_dense_layers",
            "expert_weights_scale": "routed_scaling_factor",
        },
        absent={**lfm2.GGUF[0].absent, **experts.GGUF_NONE, "num_dense_layers": 0, "norm_topk_prob": True},
        accepted={"expert_gating_func": (2,)},
        there={"use_expert_bias": ("exp_probs_b.bias",)},
        listed=lfm2.GGUF[0].listed,
        settle=lfm2.gguf_layers,
    ),
)
TENSORS = (
    *lfm2.ends(),
    *lfm2.mixers(),
    *(replace(row, when=is_dense) for row in lfm2.mlp()),
    *experts.rows("feed_forward.", names=("w1", "w3", "w2"), when=is_sparse),
    Tensor("blocks.{i}.expert_bias", f"{HF}feed_forward.expert_bias", f"{BLK}exp_probs_b.bias",
           ("num_experts",), "vector", when=is_biased),
)  # fmt: skip
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Sparse(experts.Experts):
    norm2: Vector  # [hidden]
    expert_bias: Vector | None = None  # [experts], for the choice alone


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: lfm2.State) -> Rows:
    """Attention or convolution, then x + mixture(norm(x)), or an MLP."""
    if is_dense(c, i):
        return lfm2.layer(p, c, w, i, x, ropes, cache)
    x, b = lfm2.mix(p, c, w, i, x, ropes, cache), w.block(i, Sparse)
    h = ops.norm(p, x, b.norm2, b.readers, epsilon=c.rms_norm_eps)
    return experts.mixture(
        p, c, b, x, h, scoring="sigmoid", factor=c.routed_scaling_factor, bias=b.expert_bias
    )


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

"""Granite 3 mixtures (1B-A400M, 3B-A800M): Granite's block with experts in place of each MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, experts, tensors
from edgeq.models.families import granite
from edgeq.models.families.qwen3_moe import Sparse
from edgeq.models.gguf import Gguf
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, From, OfHeads, Tensor, norm

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(granite.Config, experts.Config):
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: value for key, value in granite.Config.REQUIRE.items() if key not in experts.WORDS
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "granitemoe": {
            **granite.Config.DEFAULTS["granite"], "num_local_experts": 8, "num_experts_per_tok": 2,
        }
    }  # fmt: skip

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["num_experts"] = given["num_local_experts"]
        given["moe_intermediate_size"] = given["intermediate_size"]
        given["norm_topk_prob"] = True


HUGGINGFACE = (("granitemoe", "GraniteMoeForCausalLM"),)
GGUF = (
    Gguf(
        "granitemoe",
        "granitemoe",
        words={
            **granite.GGUF[0].words,
            "expert_count": "num_local_experts",
            "expert_used_count": "num_experts_per_tok",
        },
        absent={**granite.GGUF[0].absent, "num_local_experts": None, "num_experts_per_tok": None},
        accepted=granite.GGUF[0].accepted,
        settle=granite.GGUF[0].settle,
    ),
)


def expert_rows() -> tuple[Tensor, ...]:
    """What mixtures have, with gates and what they are gates of in one tensor of a checkpoint."""
    router, gate, up, down = experts.rows("block_sparse_moe.", "router.layer")

    def of(row: Tensor, name: str, *moves: OfHeads) -> Tensor:
        return replace(row, hf=From(f"{HF}block_sparse_moe.{name}.weight", moves, stacked="num_experts"))

    first, second = (OfHeads(number, 2, "num_experts") for number in range(2))
    return router, of(gate, "input_linear", first), of(up, "input_linear", second), of(down, "output_linear")


TENSORS = (
    *tensors.ends(),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(gguf_interleaved=True),
    norm("blocks.{i}.norm2", f"{HF}post_attention_layernorm.weight", f"{BLK}ffn_norm.weight"),
    *expert_rows(),
)
embed, head = granite.embed, granite.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """x + r attention(norm(x)), then x + r mixture(norm(x))."""
    b, epsilon, r = w.block(i, Sparse), c.rms_norm_eps, c.residual_multiplier
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    a = ops.attend(p, q, k, v, cache, scale=c.attention_multiplier)
    x = ops.add(p, x, decoder.output(p, b, a), r)
    h = ops.norm(p, x, b.norm2, b.readers, epsilon=epsilon)
    return experts.mixture(p, c, b, x, h, factor=r)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer, head, embed)

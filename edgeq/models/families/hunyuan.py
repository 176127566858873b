"""HunYuan (dense): Llama's block with norms on the heads of queries and keys behind the rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.models import decoder, tensors
from edgeq.models.base import REQUIRE_BASE, BaseConfig
from edgeq.models.gguf import Gguf
from edgeq.models.rope import Rope
from edgeq.models.words import refuse

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights


@dataclass(frozen=True)
class Config(BaseConfig):
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **REQUIRE_BASE,
        "use_qk_norm": (True,),
        "num_experts": (0, 1),  # one is the MLP itself
        "attention_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "hunyuan_v1_dense": {
            "vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
        }
    }  # fmt: skip

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        """The type "dynamic" means a base times alpha to the d / (d - 2), whatever the length."""
        for key in ("rope_parameters", "rope_scaling"):
            words = raw.get(key)
            kind = isinstance(words, Mapping) and (words.get("rope_type") or words.get("type"))
            if not isinstance(words, Mapping) or kind != "dynamic":
                continue
            alpha, d = words.get("alpha"), cls._read(cls._with_defaults(raw), "head_dim")
            if d <= 2:
                refuse("head_dim", d, f"more than 2 are needed beside {key}.alpha")
            if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < 1e9:
                refuse(f"{key}.alpha", alpha, "a number above 0 is needed")
            plain = cls.rope(
                {**raw, key: {"rope_theta": words["rope_theta"]} if "rope_theta" in words else None}
            )
            return {"rope": Rope(theta=plain.theta * alpha ** (d / (d - 2)))}
        return super().ropes(raw)


HUGGINGFACE = (("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),)
GGUF = (Gguf("hunyuan-dense", "hunyuan_v1_dense", accepted={"expert_count": (0, 1)}),)
TENSORS = (*tensors.decoder(), *tensors.head_norms(("query_layernorm", "key_layernorm")))
embed, head = decoder.embed, decoder.head


def layer(p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: CacheLayer) -> Rows:
    """Llama's block; heads turn before they are normalized."""
    b, epsilon = w.block(i, decoder.Block), c.rms_norm_eps
    q, k, v = decoder.project(p, b, ops.norm(p, x, b.norm1, b.qkv, epsilon=epsilon))
    q, k = decoder.norm_heads(p, c, b, *decoder.rotate(p, c, q, k, ropes["rope"]))
    x = decoder.output(p, b, ops.attend(p, q, k, v, cache), add_to=x)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return decoder.feed_forward(p, b, h, add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

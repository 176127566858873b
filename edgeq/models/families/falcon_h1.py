"""Falcon-H1: in each layer attention and beside it Mamba-2. What a checkpoint's words multiply by is in the
weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeq import ops
from edgeq.cache import BothShape, LayerShape
from edgeq.errors import UnsupportedError
from edgeq.models import decoder, mamba, tensors
from edgeq.models.base import REQUIRE_BASE
from edgeq.models.gguf import Gguf, Words, of_one
from edgeq.models.tensors import GGUF as BLK
from edgeq.models.tensors import HF, Factors, Tensor, norm
from edgeq.models.words import Real, Truth, Whole, refuse, word

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer, States
    from edgeq.models.decoder import Ropes
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Weights

MULTIPLIERS = (
    "embedding_multiplier", "lm_head_multiplier", "key_multiplier", "attention_in_multiplier",
    "attention_out_multiplier", "ssm_in_multiplier", "ssm_out_multiplier",
)  # fmt: skip
LISTS = {"mlp_multipliers": 2, "ssm_multipliers": 5}  # of gate and down; of z, x, what writes, reads, steps


@dataclass(frozen=True)
class Config(mamba.Config):
    mamba_rms_norm: bool = word(Truth())  # of groups, behind the gate

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in REQUIRE_BASE.items() if key not in MULTIPLIERS},
        **mamba.REQUIRE,
        "attention_bias": (False,),
        "projectors_bias": (False,),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "falcon_h1": {
            "vocab_size": 128000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": None,
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, **mamba.DEFAULTS, "mamba_d_ssm": 1024,
            "mamba_rms_norm": False, "mamba_norm_before_gate": True,
            **dict.fromkeys(MULTIPLIERS, 1.0), **{key: [1.0] * count for key, count in LISTS.items()},
        }
    }  # fmt: skip

    @property
    def mamba_bc(self) -> int:
        """Rows of what writes, and of what reads."""
        return self.mamba_n_groups * self.mamba_d_state

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        inner = given["mamba_d_ssm"]
        if inner is not None:
            inner = Whole(1, 1 << 20).read(given, "mamba_d_ssm", UnsupportedError)
        cls._settle_mamba(given, inner)
        if given["mamba_rms_norm"] is True and given["mamba_norm_before_gate"] is not False:
            right = "this family is written for False beside a mamba_rms_norm"
            refuse("mamba_norm_before_gate", given["mamba_norm_before_gate"], right)
        multipliers(given)

    def cache_layers(self) -> Iterator[BothShape]:
        """A layer keeps keys and values, and the state of its Mamba-2."""
        for _ in range(self.num_hidden_layers):
            yield BothShape(LayerShape(self.num_key_value_heads, self.head_dim), self.state)


def multipliers(words: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a checkpoint's words, numbers and lists of them."""
    given = {**Config.DEFAULTS["falcon_h1"], **words}
    found = {key: Real(0, 1e6).read(given, key, UnsupportedError) for key in MULTIPLIERS}
    for key, count in LISTS.items():
        numbers = [1.0] * count if given[key] is None else given[key]
        if not isinstance(numbers, list) or len(numbers) != count or not all(map(Real(0, 1e6).fits, numbers)):
            refuse(key, numbers, f"a list of {count} numbers above 0 is needed")
        found[key] = numbers
    return found


def factors(words: Mapping[str, Any]) -> dict[str, Factors]:
    """What the tensors of a checkpoint are multiplied by; those of GGUF files are already."""
    m = multipliers(words)
    gate, down = m["mlp_multipliers"]
    z, x, write, read, step = m["ssm_multipliers"]
    attention, ssm = m["attention_in_multiplier"], m["ssm_in_multiplier"]
    block: dict[str, Factors] = {
        "q": (attention,), "k": (m["key_multiplier"], attention), "v": (attention,),
        "o": (m["attention_out_multiplier"],), "z": (ssm, z), "step": (ssm, step),
        "xbc": (ssm, (("mamba_inner", x), ("mamba_bc", write), ("mamba_bc", read))),
        "out": (m["ssm_out_multiplier"],), "gate": (gate,), "down": (down,),
    }  # fmt: skip
    ends: dict[str, Factors] = {"embed": (m["embedding_multiplier"],), "output": (m["lm_head_multiplier"],)}
    return {**ends, **{f"blocks.{{i}}.{name}": each for name, each in block.items()}}


def gguf_settle(raw: Words, keys: Mapping[str, Any]) -> None:
    of_one(raw, "mamba_d_head", "mamba_n_heads")


HUGGINGFACE = (("falcon_h1", "FalconH1ForCausalLM"),)
GGUF = (
    Gguf(
        "falcon-h1",
        "falcon_h1",
        words=mamba.GGUF_WORDS,
        absent={
            **mamba.GGUF_NONE,
            "mamba_expand": None,
            "mamba_d_ssm": None,
            "mamba_norm_before_gate": False,
        },
        there={**mamba.GGUF_THERE, "mamba_rms_norm": ("ssm_norm.weight",)},
        settle=gguf_settle,
    ),
)


def always(c: Config, i: int) -> bool:
    return True


def is_normed(c: Config, i: int) -> bool:
    return c.mamba_rms_norm


TENSORS = (
    *tensors.ends("model.final_layernorm.weight"),
    norm("blocks.{i}.norm1", f"{HF}input_layernorm.weight", f"{BLK}attn_norm.weight"),
    *tensors.attention(),
    *mamba.rows(when=always, normed=is_normed),
    Tensor("blocks.{i}.norm2", f"{HF}pre_ff_layernorm.weight", (f"{BLK}ffn_norm", f"{BLK}ffn_norm.weight"),
           ("hidden_size",), "vector"),
    *tensors.mlp(hf="feed_forward."),
)  # fmt: skip
embed, head = decoder.embed, decoder.head


@dataclass(frozen=True, kw_only=True)
class Block(decoder.Block, mamba.Mamba):
    pass


def layer(
    p: Recorder, c: Config, w: Weights, i: int, x: Rows, ropes: Ropes, cache: tuple[CacheLayer, States]
) -> Rows:
    """x + Mamba-2(h) + attention(h), h the norm of x, then x + mlp(norm(x))."""
    b, epsilon, (keys, state) = w.block(i, Block), c.rms_norm_eps, cache
    h = ops.norm(p, x, b.norm1, (*b.qkv, *b.readers), epsilon=epsilon)
    q, k, v = decoder.project(p, b, h)
    q, k = decoder.rotate(p, c, q, k, ropes["rope"])
    x = mamba.mix(p, c, b, h, state, add_to=x)
    x = decoder.output(p, b, ops.attend(p, q, k, v, keys), add_to=x)
    h = ops.norm(p, x, b.norm2, (b.gate, b.up), epsilon=epsilon)
    return decoder.feed_forward(p, b, h, add_to=x)


def forward(p: Recorder, c: Config, w: Weights, ropes: Ropes) -> None:
    """Record the pass."""
    decoder.decode(p, c, w, ropes, layer)

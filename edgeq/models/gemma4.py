"""Gemma 4's words: which layers are of which kind and which keep keys and values, in checkpoints and in GGUF
files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgeq.cache import LayerShape
from edgeq.errors import EdgeqError, UnsupportedError
from edgeq.models import experts
from edgeq.models.base import window_of
from edgeq.models.gguf import PATTERN as GGUF_PATTERN
from edgeq.models.gguf import Gguf, Words, windows
from edgeq.models.rope import Rope
from edgeq.models.words import FULL, LAYER_TYPES, SLIDING, Real, Truth, Whole, refuse, word

PATTERN = 6  # of so many layers the last one sees everything
MIXTURE = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
DEFAULTS: dict[str, Any] = {
    "vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True, "layer_types": None, "final_logit_softcapping": None,
    "global_head_dim": 512, "num_global_key_value_heads": None, "attention_k_eq_v": False,
    "num_kv_shared_layers": 0, "use_double_wide_mlp": False,
    "rope_parameters": {
        FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
        SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    },
}  # fmt: skip
NO_MIXTURE: dict[str, Any] = {"enable_moe_block": False, **dict.fromkeys(MIXTURE)}
NO_INPUTS: dict[str, Any] = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": None}


@dataclass(frozen=True)
class Config(experts.Config):
    """Layers that see everything ("global") have heads of their own size and number. The last
    `num_kv_shared_layers` keep no keys and values: each reads those of the last layer of its kind that does.
    """

    num_experts: int = word(Whole(0, 4096))  # 0: each layer has an MLP and no experts beside it
    num_experts_per_tok: int = word(Whole(0, 64))
    moe_intermediate_size: int = word(Whole(0, 1 << 16))
    layer_types: tuple[str, ...] = word(LAYER_TYPES)
    global_head_dim: int = word(Whole(2, 1024))
    num_global_key_value_heads: int = word(Whole(1, 1024))
    attention_k_eq_v: bool = word(Truth())  # values of global layers are their keys before norm and rotation
    num_kv_shared_layers: int = word(Whole(0, 1023))
    use_double_wide_mlp: bool = word(Truth())  # in layers that keep nothing
    hidden_size_per_layer_input: int = word(Whole(0, 1 << 16))  # 0: layers have no inputs of their own
    vocab_size_per_layer_input: int = word(Whole(1, 1 << 22))
    final_logit_softcapping: float | None = word(Real(0, 1e6, null=True))

    TABLES: ClassVar[Mapping[str, str]] = {FULL: "rope", SLIDING: "rope.sliding"}
    NAMES: ClassVar[Mapping[str, str]] = {"top_k_experts": "num_experts_per_tok"}
    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **{key: value for key, value in experts.REQUIRE_EXPERTS.items() if key != "final_logit_softcapping"},
        "hidden_act": ("gelu_pytorch_tanh",),
        "hidden_activation": ("gelu_pytorch_tanh",),
        "attention_bias": (False,),
        "use_bidirectional_attention": ("vision",),
    }
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "gemma4_text": DEFAULTS | NO_MIXTURE | {
            "max_position_embeddings": 131072, "sliding_window": 512, "hidden_size_per_layer_input": 256,
            "vocab_size_per_layer_input": 262144,
        },
        "gemma4_unified_text": DEFAULTS | {"max_position_embeddings": 262144, "sliding_window": 1024},
    }  # fmt: skip

    # ---- layers ----
    def is_global(self, i: int) -> bool:
        return self.layer_types[i] == FULL

    @property
    def keeping(self) -> int:
        """How many layers keep keys and values, which are the first ones."""
        return self.num_hidden_layers - self.num_kv_shared_layers

    def kv_heads(self, i: int) -> int:
        return self.num_global_key_value_heads if self.is_global(i) else self.num_key_value_heads

    def head_size(self, i: int) -> int:
        return self.global_head_dim if self.is_global(i) else self.head_dim

    def cache_layers(self) -> Iterator[LayerShape]:
        types, keeping = self.layer_types, self.keeping
        last = {kind: i for i, kind in enumerate(types[:keeping])}
        for i, kind in enumerate(types):
            owner = None if i < keeping else last[kind]
            yield LayerShape(self.kv_heads(i), self.head_size(i), self.window(i), owner)

    @property
    def apart(self) -> bool:
        return not (self.num_kv_shared_layers or self.hidden_size_per_layer_input)

    # ---- dimensions ----
    @property
    def global_q_size(self) -> int:
        return self.num_attention_heads * self.global_head_dim

    @property
    def global_kv_size(self) -> int:
        return self.num_global_key_value_heads * self.global_head_dim

    @property
    def double_size(self) -> int:
        """Of the MLP where it is twice as wide."""
        return 2 * self.intermediate_size

    @property
    def inputs_size(self) -> int:
        """Of the inputs of all layers."""
        return self.num_hidden_layers * self.hidden_size_per_layer_input

    @property
    def rotary_size(self) -> int:
        return self.global_head_dim // 2

    @property
    def sliding_rotary_size(self) -> int:
        return self.head_dim // 2

    def head_of(self, table: str) -> int:
        return self.global_head_dim if table == "rope" else self.head_dim

    # ---- words ----
    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        return window_of(given)

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        given["norm_topk_prob"] = True
        given |= {key: value for key, value in (NO_MIXTURE | NO_INPUTS).items() if key not in given}
        if not Truth().read(given, "enable_moe_block", UnsupportedError):
            given |= dict.fromkeys(MIXTURE, 0)
        elif none := next((name for name in MIXTURE if given[name] == 0), None):
            refuse({"num_experts_per_tok": "top_k_experts"}.get(none, none), 0, "at least 1 is needed")
        if given["vocab_size_per_layer_input"] is None:
            given["vocab_size_per_layer_input"] = given["vocab_size"]
        types, layers = given["layer_types"], given["num_hidden_layers"]
        if types is None:
            types = [SLIDING if i % PATTERN else FULL for i in range(1, layers + 1)]
        given["layer_types"] = [*types[:-1], FULL] if isinstance(types, list) and types else types
        _settle_heads(given)

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        """Of each kind of layers; the reference reads no base beside these."""
        beside = ("rope_theta", "rope_local_base_freq")
        given = {key: value for key, value in cls._with_rope(raw).items() if key not in beside}
        kinds = cls.by_layer_type(given)
        if kinds is None:
            right = "an object for each kind of layers is needed"
            refuse("rope_parameters", raw.get("rope_parameters"), right)
        found = {"rope": cls.rope(kinds[FULL]), "rope.sliding": cls.rope(kinds[SLIDING])}
        for rope in found.values():
            if rope.kind == "longrope":
                refuse("rope_parameters", rope.kind, "this family has one table of frequencies for each kind")
        return found

    @classmethod
    def _words(cls, raw: Mapping[str, Any], error: type[EdgeqError]) -> dict[str, Any]:
        words = super()._words(raw, error)
        heads, kv_heads = words["num_attention_heads"], words["num_global_key_value_heads"]
        if heads % kv_heads:
            right = f"it must divide num_attention_heads {heads}"
            refuse("num_global_key_value_heads", kv_heads, right, error)
        if words["global_head_dim"] % 2:
            refuse("global_head_dim", words["global_head_dim"], "an even number is needed", error)
        types, shared = words["layer_types"], words["num_kv_shared_layers"]
        if not {*types} <= {*types[: max(0, len(types) - shared)]}:
            right = "of each kind in layer_types there must be one before those that keep no keys and values"
            refuse("num_kv_shared_layers", shared, right, error)
        vocab = words["vocab_size_per_layer_input"]
        if words["hidden_size_per_layer_input"] and vocab < words["vocab_size"]:
            right = f"at least vocab_size {words['vocab_size']} is needed"
            refuse("vocab_size_per_layer_input", vocab, right, error)
        return words


def _settle_heads(given: dict[str, Any]) -> None:
    """Heads of global layers, which newer configs have layer by layer."""
    each = given.get("per_layer_config")
    if each is None:
        alike = given["num_global_key_value_heads"] is None or given["attention_k_eq_v"] is False
        if alike:
            given["num_global_key_value_heads"] = given["num_key_value_heads"]
        return
    right = f"heads that all layers have which are {FULL!r} in layer_types, and no others, are needed"
    if not isinstance(each, Mapping) or not all(re.fullmatch(r"[0-9]{1,4}", str(key)) for key in each):
        refuse("per_layer_config", each, right)
    numbered = {int(key): value for key, value in each.items()}  # "05" is 5
    kinds: dict[bool, Any] = {}
    types = given["layer_types"]
    for i, kind in enumerate(types if isinstance(types, list) else []):
        own = numbered.get(i, {})
        known = isinstance(own, Mapping) and not own.keys() - {"head_dim", "num_key_value_heads"}
        if not known or kinds.setdefault(kind == FULL, own) != own or (own and kind != FULL):
            refuse("per_layer_config", each, right)
    own = kinds.get(True, {})
    given["global_head_dim"] = own.get("head_dim", given["head_dim"])
    given["num_global_key_value_heads"] = own.get("num_key_value_heads", given["num_key_value_heads"])


# ---- GGUF ----
def _one(values: Any, types: list[Any], kind: str, key: str) -> Any:
    """The number that all layers of a kind have in a list, or the one for all."""
    if not isinstance(values, list):
        return values
    own = [value for value, its in zip(values, types, strict=False) if its == kind]
    if len(values) != len(types) or any(value != own[0] for value in own):
        refuse(key, values, f"a number for each layer is needed, the same for each {kind!r}")
    return own[0] if own else values[0]


def _gguf_words(raw: Words, keys: Mapping[str, Any]) -> None:
    windows(raw, every=PATTERN)
    types, count = raw["layer_types"], raw["num_hidden_layers"]
    types = types if isinstance(types, list) else []
    key = "attention.head_count_kv"
    kv_heads = raw["num_key_value_heads"]
    raw["num_key_value_heads"] = _one(kv_heads, types, SLIDING, key)
    raw["num_global_key_value_heads"] = _one(kv_heads, types, FULL, key)
    raw["global_head_dim"], head_dim = raw["head_dim"], raw.pop("sliding_head_dim", raw["head_dim"])
    raw["head_dim"] = head_dim
    for key in ("attention.value_length_swa", "rope.dimension_count_swa"):
        if keys.get(key, head_dim) != head_dim:
            refuse(key, keys[key], f"only {head_dim} is supported")
    shared = raw["num_kv_shared_layers"]
    keeping = count - shared if type(count) is type(shared) is int else 0  # which the config refuses
    bare = {*raw.pop("no_values")} - {*raw.pop("no_keys")}  # where all three are one, there are neither
    raw["attention_k_eq_v"] = any(i < keeping and types[i : i + 1] == [FULL] for i in bare)
    widths = raw["intermediate_size"]
    if isinstance(widths, list):
        narrow = widths[0] if widths else None
        raw["intermediate_size"] = narrow
        raw["use_double_wide_mlp"] = widths != [narrow] * len(widths)
        factors = [1 + (i >= keeping and raw["use_double_wide_mlp"]) for i in range(len(widths))]
        if type(narrow) is not int or len(widths) != count or widths != [narrow * f for f in factors]:
            right = "one for all, or twice that in layers that keep no keys and values, is needed"
            refuse("feed_forward_length", widths, right)
    raw["final_logit_softcapping"] = raw["final_logit_softcapping"] or None
    raw["enable_moe_block"] = bool(raw["num_experts"])
    bases = {FULL: raw["rope_theta"], SLIDING: keys.get("rope.freq_base_swa", 1e4)}
    raw["rope_parameters"] = {kind: {"rope_theta": theta} for kind, theta in bases.items()}


GGUF = (
    Gguf(
        "gemma4",
        "gemma4_text",
        words={
            **GGUF_PATTERN,
            **experts.GGUF_EXPERTS,
            "attention.key_length_swa": "sliding_head_dim",
            "attention.shared_kv_layers": "num_kv_shared_layers",
            "embedding_length_per_layer_input": "hidden_size_per_layer_input",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        absent={
            **experts.GGUF_NONE,
            "num_kv_shared_layers": 0,
            **NO_INPUTS,
            "final_logit_softcapping": 30.0,
        },
        listed=("feed_forward_length", "attention.head_count_kv"),
        unread=("attention.value_length_swa", "rope.dimension_count_swa", "rope.freq_base_swa"),
        without={"no_values": "attn_v.weight", "no_keys": "attn_k.weight"},
        settle=_gguf_words,
    ),
)

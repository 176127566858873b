"""What the families share: rows of a tensor table, config words with limits, refusal of what is not honoured.

Knows nothing of files, kernels or tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, NoReturn, Self

from edgeq.cache import LayerShape
from edgeq.errors import EdgeqError, FormatError, Troubles, UnsupportedError
from edgeq.models.rope import Rope


@dataclass(frozen=True)
class Tensor:
    """One row of a family's table; `{i}` in a name stands for the block, 0 … num_hidden_layers-1."""

    name: str  # in the .edgeq file
    hf_name: str | None  # in a Hugging Face checkpoint; None: made at conversion
    gguf_name: str | None  # in a GGUF file
    shape: tuple[str, ...]  # names of the config's dimensions
    role: str  # "embed", "output", "matrix" or "vector"
    shares: str | None = None  # name of the row whose tensor this one may be (tied); never in a block


@dataclass(frozen=True)
class Expected:
    """A row of the table for one config: block and dimensions filled in."""

    name: str
    hf_name: str | None
    gguf_name: str | None
    shape: tuple[int, ...]
    role: str
    row: Tensor


# The rows that every decoder of the Llama line has.
DECODER = (
    Tensor("embed", "model.embed_tokens.weight", "token_embd.weight", ("vocab_size", "hidden_size"), "embed"),
    Tensor("output", "lm_head.weight", "output.weight", ("vocab_size", "hidden_size"), "output",
           shares="embed"),
    Tensor("norm", "model.norm.weight", "output_norm.weight", ("hidden_size",), "vector"),
    Tensor("rope.inverse_frequencies", None, None, ("rotary_size",), "vector"),
    Tensor("blocks.{i}.norm1", "model.layers.{i}.input_layernorm.weight", "blk.{i}.attn_norm.weight",
           ("hidden_size",), "vector"),
    Tensor("blocks.{i}.q", "model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight",
           ("q_size", "hidden_size"), "matrix"),
    Tensor("blocks.{i}.k", "model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight",
           ("kv_size", "hidden_size"), "matrix"),
    Tensor("blocks.{i}.v", "model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight",
           ("kv_size", "hidden_size"), "matrix"),
    Tensor("blocks.{i}.o", "model.layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight",
           ("hidden_size", "q_size"), "matrix"),
    Tensor("blocks.{i}.norm2", "model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.ffn_norm.weight",
           ("hidden_size",), "vector"),
    Tensor("blocks.{i}.gate", "model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight",
           ("intermediate_size", "hidden_size"), "matrix"),
    Tensor("blocks.{i}.up", "model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight",
           ("intermediate_size", "hidden_size"), "matrix"),
    Tensor("blocks.{i}.down", "model.layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight",
           ("hidden_size", "intermediate_size"), "matrix"),
)  # fmt: skip

# Smallest and largest value of each whole-number word: wide enough for every known model of these families,
# and narrow enough that no product of them surprises anyone.
LIMITS = {
    "vocab_size": (1, 1 << 22),
    "hidden_size": (1, 1 << 16),
    "intermediate_size": (1, 1 << 19),
    "num_hidden_layers": (1, 1024),
    "num_attention_heads": (1, 1024),
    "num_key_value_heads": (1, 1024),
    "head_dim": (2, 1024),
    "max_position_embeddings": (1, 1 << 27),
}

# Keys whose presence changes the computation, with the values under which it is the one written here; null
# and absence are accepted, as those values are what the reference takes for an absent key.
REQUIRE_BASE: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1, 1.0),
    "quantization_config": (),
    "num_experts": (0,),
    "num_local_experts": (0,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "clip_qkv": (),
    "use_qk_norm": (False,),
    "use_mrope": (False,),
    "rope_interleaved": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
}

# the way out, for those of them that have one
INSTEAD = {"quantization_config": ": get the checkpoint before it was quantized, or a GGUF file of it"}


def refuse(key: str, value: object, right: str, error: type[EdgeqError] = UnsupportedError) -> NoReturn:
    """Raise the one sentence that names a config's key, its value and what would be right."""
    shown = repr(value)
    raise error(f"config: {key} is {shown if len(shown) <= 80 else shown[:77] + '...'}, but {right}")


def same(value: object, accepted: object) -> bool:
    """Whether two values of a config are equal; unlike Python, 1 is not true and 0 is not false."""
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)


def whole(raw: Mapping[str, Any], key: str, error: type[EdgeqError]) -> int:
    """raw[key] as an int inside LIMITS; absent or null is refused."""
    value = raw.get(key)
    low, high = LIMITS[key]
    if value is None:
        what = "null" if key in raw else "missing"
        raise error(f"config: {key} is {what}; a whole number from {low} to {high} is needed")
    if type(value) is not int or not low <= value <= high:
        refuse(key, value, f"a whole number from {low} to {high} is needed", error)
    return value


def truth(raw: Mapping[str, Any], key: str, error: type[EdgeqError]) -> bool:
    """raw[key] as a bool; absent or null is refused."""
    value = raw.get(key)
    if value is None:
        raise error(f"config: {key} is missing; true or false is needed")
    if not isinstance(value, bool):
        refuse(key, value, "true or false is needed", error)
    return value


@dataclass(frozen=True)
class BaseConfig:
    """The words of a Hugging Face config that settle shapes and arithmetic."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    tie_word_embeddings: bool
    sliding_window: int | None

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = REQUIRE_BASE
    # By model_type: what the config class of transformers (5.24) takes for a word that config.json lacks.
    # None is a value like others: as many key heads as heads, a head of hidden_size / heads, no window.
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @property
    def q_size(self) -> int:
        """Rows of the query projection."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Rows of the key and of the value projection."""
        return self.num_key_value_heads * self.head_dim

    @property
    def rotary_size(self) -> int:
        """Number of rotation frequencies: one for each pair of a head's dimensions."""
        return self.head_dim // 2

    def cache_layers(self) -> Iterator[LayerShape]:
        """What each layer keeps of a token."""
        for _ in range(self.num_hidden_layers):
            yield LayerShape(self.num_key_value_heads, self.head_dim, self.sliding_window or 0)

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """The config of a checkpoint's config.json, whose model_type settles what an absent word means.

        UnsupportedError names every key not honoured. A word that is null is not an absent one: it is
        refused where the reference has no null.
        """
        troubles = Troubles()
        for key, accepted in cls.REQUIRE.items():
            value = raw.get(key)
            if value is not None and not any(same(value, a) for a in accepted):
                right = " or ".join(repr(a) for a in dict.fromkeys(accepted)) or "its absence"
                with troubles.noted():
                    refuse(key, value, f"this family is written for {right}{INSTEAD.get(key, '')}")
        with troubles.noted():
            words = cls._settled(raw)
        with troubles.noted():
            Rope.from_hf(raw)
        troubles.tell()
        return cls(**words)

    @classmethod
    def _settled(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The words of a checkpoint, with those that it lacks."""
        given = cls._with_defaults(raw)
        words = cls._words(given, UnsupportedError)
        window = words["sliding_window"] = cls._window(given)
        layers, count = raw.get("layer_types"), words["num_hidden_layers"]
        attention = "full_attention" if window is None else "sliding_attention"
        if layers is not None and layers != [attention] * count:
            refuse("layer_types", layers, f"each of the {count} layers must be {attention!r}")
        return words

    @classmethod
    def from_header(cls, raw: Mapping[str, Any]) -> Self:
        """The config of an .edgeq header; FormatError names the word that is missing or out of range."""
        if not isinstance(raw, Mapping):
            raise FormatError("the header's config is not an object")
        words = cls._words(raw, FormatError)
        words["sliding_window"] = window_of(raw, FormatError)
        return cls(**words)

    def to_header(self) -> dict[str, Any]:
        """The words as they are stored in a header; from_header is its inverse."""
        return asdict(self)

    @classmethod
    def _with_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The words of a checkpoint, and for those it lacks the reference's."""
        defaults = cls.DEFAULTS[raw["model_type"]]
        given = {**defaults, **raw}
        heads = whole(given, "num_attention_heads", UnsupportedError)
        hidden = whole(given, "hidden_size", UnsupportedError)
        if given["num_key_value_heads"] is None:
            given["num_key_value_heads"] = heads
        if given["head_dim"] is None and defaults["head_dim"] is None:
            if hidden % heads:
                refuse("num_attention_heads", heads, f"it must divide hidden_size {hidden}")
            given["head_dim"] = hidden // heads
        if given.get("tie_word_embeddings") is None:
            given["tie_word_embeddings"] = False  # what the tensors are settles it
        return given

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        """The sliding window that this checkpoint was trained with, in tokens; None: full attention."""
        return None

    @classmethod
    def _words(cls, raw: Mapping[str, Any], error: type[EdgeqError]) -> dict[str, Any]:
        """Every word but sliding_window; nothing has a default here."""
        words: dict[str, Any] = {f.name: None for f in fields(cls)}
        for key in LIMITS:
            words[key] = whole(raw, key, error)
        heads, kv_heads = words["num_attention_heads"], words["num_key_value_heads"]
        if words["head_dim"] % 2:
            refuse("head_dim", words["head_dim"], "an even number is needed", error)
        if heads % kv_heads:
            refuse("num_key_value_heads", kv_heads, f"it must divide num_attention_heads {heads}", error)
        words["rms_norm_eps"] = _epsilon(raw, error)
        words["tie_word_embeddings"] = truth(raw, "tie_word_embeddings", error)
        return words


def _epsilon(raw: Mapping[str, Any], error: type[EdgeqError]) -> float:
    value = raw.get("rms_norm_eps")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        refuse("rms_norm_eps", value, "a number above 0 and at most 1 is needed", error)
    return float(value)


def window_of(raw: Mapping[str, Any], error: type[EdgeqError] = UnsupportedError) -> int | None:
    """raw["sliding_window"] as a number of tokens, or None for full attention."""
    value = raw.get("sliding_window")
    high = LIMITS["max_position_embeddings"][1]
    if value is not None and (type(value) is not int or not 1 <= value <= high):
        refuse("sliding_window", value, f"null or a whole number from 1 to {high} is needed", error)
    return value


def window_of_layers(given: Mapping[str, Any]) -> int | None:
    """Qwen's window: while use_sliding_window is true, the layers have it that layer_types names, or else
    those from max_window_layers on. All layers or none; a mixture is refused.
    """
    if not truth(given, "use_sliding_window", UnsupportedError):
        return None
    window, layers = window_of(given), given.get("layer_types")
    if isinstance(layers, list):
        return window if "sliding_attention" in layers else None
    first, count = given.get("max_window_layers"), given["num_hidden_layers"]
    if type(first) is not int or first < 0 or 0 < first < count and window is not None:
        right = f"0 (every layer has the window) or at least {count} (none has) is needed"
        refuse("max_window_layers", first, right)
    return window if first == 0 else None


def expand(table: tuple[Tensor, ...], config: BaseConfig) -> Iterator[Expected]:
    """The tensors that a config needs, in file order, with `{i}` filled in, without those that are tied."""
    once = [row for row in table if "{i}" not in row.name]
    each = [row for row in table if "{i}" in row.name]
    for row in once:
        if not (row.shares and config.tie_word_embeddings):
            yield _fill(row, config, 0)
    for i in range(config.num_hidden_layers):
        for row in each:
            yield _fill(row, config, i)


def _fill(row: Tensor, config: BaseConfig, i: int) -> Expected:
    def put(name: str) -> str:
        return name.replace("{i}", str(i))

    return Expected(
        put(row.name),
        put(row.hf_name) if row.hf_name else None,
        put(row.gguf_name) if row.gguf_name else None,
        tuple(getattr(config, dimension) for dimension in row.shape),
        row.role,
        row,
    )

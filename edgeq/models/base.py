"""What configs of all families share: words with limits, and refusal of what is not honoured.

Knows nothing of files, kernels or tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from edgeq.cache import LayerShape, Shape
from edgeq.errors import EdgeqError, FormatError, Troubles, UnsupportedError
from edgeq.models.rope import Rope, divisors
from edgeq.models.words import FULL, SLIDING, Factors, Real, Truth, Whole, Word, refuse, same, word

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
    "embedding_multiplier": (1, 1.0),
    "residual_multiplier": (1, 1.0),
    "logits_scaling": (1, 1.0),
    "attention_multiplier": (),
    "scale_emb": (1,),
    "rope_interleaved": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
}

# the way out, for those of them that have one
INSTEAD = {"quantization_config": ": get the checkpoint before it was quantized, or a GGUF file of it"}


POSITIONS = 1 << 27  # at the most


@dataclass(frozen=True)
class BaseConfig:
    """The words of a Hugging Face config that settle shapes and arithmetic."""

    # Limits are wide enough for every known model of these families, and narrow enough that no product of
    # them surprises anyone.
    vocab_size: int = word(Whole(1, 1 << 22))
    hidden_size: int = word(Whole(1, 1 << 16))
    intermediate_size: int = word(Whole(1, 1 << 19))
    num_hidden_layers: int = word(Whole(1, 1024))
    num_attention_heads: int = word(Whole(1, 1024))
    num_key_value_heads: int = word(Whole(1, 1024))
    head_dim: int = word(Whole(2, 1024))
    max_position_embeddings: int = word(Whole(1, POSITIONS))
    rms_norm_eps: float = word(Real(0, 1))  # of whatever norms the family has
    tie_word_embeddings: bool = word(Truth())
    sliding_window: int | None = word(Whole(1, POSITIONS, null=True))
    rope_factors: Mapping[str, float] = word(Factors())  # that cosines and sines are multiplied by, by table

    REQUIRE: ClassVar[Mapping[str, tuple[Any, ...]]] = REQUIRE_BASE
    # By model_type: what the config class of transformers (5.24) takes for a word that config.json lacks.
    # None is a value like others: as many key heads as heads, a head of hidden_size / heads, no window.
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    # Words that the family's config.json calls otherwise.
    NAMES: ClassVar[Mapping[str, str]] = {}
    # Tables of cosines and sines that a pass is given, and the names of the frequencies that each is made of.
    TABLES: ClassVar[Mapping[str, str]] = {"rope": "rope"}

    # Whether a text is read whole, in one pass, each token seeing all: such a model leaves rows, of which
    # vectors are made, and predicts no token.
    WHOLE: ClassVar[bool] = False

    def growth(self, table: str) -> Callable[[np.ndarray], np.ndarray] | None:
        """What the cosines and sines of each position in a table are multiplied by, if by anything: float32
        [n] of float32 positions [n].
        """
        return None

    def table(self, context: int) -> str:
        """The name of the table that sequences turn by which may have so many positions, where there are
        several for that (LongRoPE).
        """
        original: int = getattr(self, "original_max_position_embeddings", context)
        return "rope.long" if "rope.long" in self.TABLES and context > original else "rope"

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
        """Number of rotation frequencies: one for each pair of a head's dimensions that turns."""
        turned: int = getattr(self, "rotary_dim", self.head_dim)
        return turned // 2

    def head_of(self, table: str) -> int:
        """Dimensions of the heads that a table of frequencies is for."""
        return self.head_dim

    def window(self, i: int) -> int:
        """Positions that queries of layer i see, their own included; 0 for all."""
        types: tuple[str, ...] | None = getattr(self, "layer_types", None)
        return (self.sliding_window or 0) if types is None or types[i] == SLIDING else 0

    @property
    def apart(self) -> bool:
        """Whether each layer can be run by itself, of rows that the one before it left and nothing else."""
        return True

    def cache_layers(self) -> Iterator[Shape]:
        """What each layer keeps of a token, of all of them, or both."""
        for i in range(self.num_hidden_layers):
            yield LayerShape(self.num_key_value_heads, self.head_dim, self.window(i))

    @classmethod
    def ropes(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        """How positions turn, by the names of the tables of frequencies; a family with several says so."""
        found = cls.rope(raw)
        if found.kind == "longrope":
            refuse("rope_scaling.rope_type", found.kind, "this family has one table of frequencies")
        return {"rope": found}

    @classmethod
    def rope(cls, raw: Mapping[str, Any]) -> Rope:
        """The rotation that these words mean, with the family's defaults."""
        defaults, raw = cls.DEFAULTS[raw["model_type"]], cls._with_rope(raw)
        part = defaults.get("partial_rotary_factor") if "rotary_dim" in cls.words() else None
        return Rope.from_hf(raw, theta=defaults.get("rope_theta", 1e4), part=part)

    @classmethod
    def _with_rope(cls, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the class's own object where there is none; an empty one is one."""
        usual = cls.DEFAULTS[raw["model_type"]].get("rope_parameters")
        said = raw.get("rope_parameters") is not None or raw.get("rope_scaling")
        return raw if said or usual is None else {**raw, "rope_parameters": usual}

    @classmethod
    def by_length(cls, raw: Mapping[str, Any]) -> Mapping[str, Rope]:
        """LongRoPE's two tables: one for contexts up to the original one, one for longer ones."""
        key = next((key for key in ("rope_scaling", "rope_parameters") if raw.get(key)), "rope_scaling")
        short = cls.rope(raw)
        long = replace(short, divisors=divisors(key, raw[key], "long_factor")) if short.divisors else short
        return {"rope": short, "rope.long": long}

    @classmethod
    def by_layer_type(cls, raw: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
        """Of a config whose `rope_parameters` have an object for each kind of layers, its words with the one
        object, by kind; None for another.
        """
        objects = raw.get("rope_parameters")
        if not isinstance(objects, Mapping) or not {FULL, SLIDING} & objects.keys():
            return None
        if raw.get("rope_scaling"):
            refuse(
                "rope_scaling", raw["rope_scaling"], "rope_parameters has an object for each kind of layers"
            )
        others = {key: value for key, value in raw.items() if key != "rope_theta"}
        found = {}
        for kind, theta in ((FULL, raw.get("rope_theta")), (SLIDING, raw.get("rope_local_base_freq"))):
            words = objects.get(kind) or {}
            if isinstance(words, Mapping) and theta is not None:
                words = {"rope_theta": theta, **words}
            found[kind] = {**others, "rope_parameters": words}
        return found

    @classmethod
    def words(cls) -> dict[str, Word]:
        """The kinds of all words."""
        return {f.name: f.metadata["word"] for f in fields(cls)}

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """The config of a checkpoint's config.json, whose model_type settles what an absent word means.

        UnsupportedError names every key not honoured. A word that is null is not an absent one: it is
        refused where the reference has no null.
        """
        troubles, raw = Troubles(), cls._named(raw)
        for key, accepted in cls.REQUIRE.items():
            value = raw.get(key)
            if value is not None and not any(same(value, a) for a in accepted):
                right = " or ".join(repr(a) for a in dict.fromkeys(accepted)) or "its absence"
                with troubles.noted():
                    refuse(key, value, f"this family is written for {right}{INSTEAD.get(key, '')}")
        ropes: Mapping[str, Rope] = {}
        with troubles.noted():
            ropes = cls.ropes(raw)
        with troubles.noted():
            words = cls._settled(raw, ropes)
        troubles.tell()
        return cls(**words)

    @classmethod
    def _named(cls, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """The words under the names that they have here."""
        found = dict(raw)
        for own, name in cls.NAMES.items():
            if own in found and found.setdefault(name, found[own]) != found[own]:
                refuse(own, found[own], f"{name} is {found[name]!r:.40}; the two must agree")
        return found

    @classmethod
    def _settled(cls, raw: Mapping[str, Any], ropes: Mapping[str, Rope]) -> dict[str, Any]:
        """The words of a checkpoint, with those that it lacks."""
        given = cls._with_defaults(raw)
        window = given["sliding_window"] = cls._window(given)
        factors = {name: rope.attention_factor for name, rope in ropes.items()}
        given["rope_factors"] = {name: factor for name, factor in factors.items() if factor != 1}
        if "rotary_dim" in cls.words() and ropes:
            given["rotary_dim"] = int(cls._read(given, "head_dim") * next(iter(ropes.values())).part)
        given["rope_kind"] = next((rope.kind for rope in ropes.values()), "default")
        cls._settle(given)
        words = cls._words(given, UnsupportedError)
        layers, count = raw.get("layer_types"), words["num_hidden_layers"]
        attention = FULL if window is None else SLIDING
        if "layer_types" not in words and layers is not None and layers != [attention] * count:
            refuse("layer_types", layers, f"each of the {count} layers must be {attention!r}")
        return words

    @classmethod
    def _settle(cls, given: dict[str, Any]) -> None:
        """Change words of a checkpoint, its defaults among them, into those of the family's config."""

    @classmethod
    def from_header(cls, raw: Mapping[str, Any]) -> Self:
        """The config of an .edgeq header; FormatError names the word that is missing or out of range."""
        if not isinstance(raw, Mapping):
            raise FormatError("the header's config is not an object")
        return cls(**cls._words({"sliding_window": None, **raw}, FormatError))

    def to_header(self) -> dict[str, Any]:
        """The words as they are stored in a header; from_header is its inverse."""
        found = asdict(self)
        if not self.rope_factors:
            del found["rope_factors"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @classmethod
    def _with_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The words of a checkpoint, and for those it lacks the reference's."""
        defaults = cls.DEFAULTS[raw["model_type"]]
        given = {**defaults, "rope_parameters": None, **cls._with_rope(raw)}
        heads, hidden = cls._read(given, "num_attention_heads"), cls._read(given, "hidden_size")
        cls._read(given, "num_hidden_layers")  # lists are made by it
        if given.get("num_key_value_heads") is None:
            given["num_key_value_heads"] = heads
        if given.get("head_dim") is None and defaults.get("head_dim") is None:
            if hidden % heads:
                refuse("num_attention_heads", heads, f"it must divide hidden_size {hidden}")
            given["head_dim"] = hidden // heads
        if given.get("tie_word_embeddings") is None:
            given["tie_word_embeddings"] = False  # what the tensors are settles it
        return given

    @classmethod
    def _read(cls, given: Mapping[str, Any], name: str, layers: int = 0) -> Any:
        """A word of a checkpoint; refused, by the name that the family's config.json has for it, where it is
        none.
        """
        own = {ours: own for own, ours in cls.NAMES.items()}.get(name, name)
        found = {own: given[name]} if name in given else {}
        return cls.words()[name].read(found, own, UnsupportedError, layers)

    @classmethod
    def _epsilon(cls, given: Mapping[str, Any], key: str) -> float:
        """That of norms, under a key of the family's."""
        found: float = cls.words()["rms_norm_eps"].read(given, key, UnsupportedError)
        return found

    @staticmethod
    def _every(given: Mapping[str, Any], key: str, usual: int) -> int:
        """Of how many layers the last one is another."""
        if given.get(key) is None:
            return usual
        found: int = Whole(1, 1024).read(given, key, UnsupportedError)
        return found

    @staticmethod
    def rope_words(given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The words of the rotation; none where they are none, which `Rope.from_hf` refuses."""
        found = given.get("rope_parameters") or given.get("rope_scaling")
        return found if isinstance(found, Mapping) else {}

    @classmethod
    def _window(cls, given: Mapping[str, Any]) -> int | None:
        """The sliding window that this checkpoint was trained with, in tokens; None: full attention."""
        return None

    @classmethod
    def _words(cls, raw: Mapping[str, Any], error: type[EdgeqError]) -> dict[str, Any]:
        """Every word; nothing has a default here."""
        words: dict[str, Any] = {}
        for name, kind in cls.words().items():
            layers = words.get("num_hidden_layers", 0)
            if error is UnsupportedError:
                words[name] = cls._read(raw, name, layers)
            else:
                words[name] = kind.read(raw, name, error, layers)
        heads, kv_heads = words["num_attention_heads"], words["num_key_value_heads"]
        for name in ("head_dim", "rotary_dim"):
            if words.get(name, 0) % 2:
                refuse(name, words[name], "an even number is needed", error)
        if words.get("rotary_dim", 0) > words["head_dim"]:
            refuse(
                "rotary_dim", words["rotary_dim"], f"at most head_dim {words['head_dim']} is needed", error
            )
        if heads % kv_heads:
            refuse("num_key_value_heads", kv_heads, f"it must divide num_attention_heads {heads}", error)
        return words


def window_of(raw: Mapping[str, Any]) -> int | None:
    """raw["sliding_window"] as a number of tokens, or None for full attention."""
    given = {"sliding_window": raw.get("sliding_window")}
    window: int | None = Whole(1, POSITIONS, null=True).read(given, "sliding_window", UnsupportedError)
    return window


def window_of_layers(given: Mapping[str, Any]) -> int | None:
    """Qwen's window: while use_sliding_window is true, the layers have it that layer_types names, or else
    those from max_window_layers on. All layers or none; a mixture is refused.
    """
    if not Truth().read(given, "use_sliding_window", UnsupportedError):
        return None
    window, layers = window_of(given), given.get("layer_types")
    if isinstance(layers, list):
        return window if SLIDING in layers else None
    first, count = given.get("max_window_layers"), given["num_hidden_layers"]
    if type(first) is not int or first < 0 or 0 < first < count and window is not None:
        right = f"0 (every layer has the window) or at least {count} (none has) is needed"
        refuse("max_window_layers", first, right)
    return window if first == 0 else None

"""How GGUF files spell a family's config: keys of an architecture beside the words of a Hugging Face config.

What all architectures share is in `edgeq.converters.gguf`; what several do is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeq.models.words import FULL, SLIDING, refuse

Words = dict[str, Any]
Settle = Callable[[Words, Mapping[str, Any]], None]
RMS_EPSILON = "attention.layer_norm_rms_epsilon"
EPSILON = "attention.layer_norm_epsilon"  # of a LayerNorm


@dataclass(frozen=True)
class Gguf:
    """An architecture of GGUF files. Keys are without its name in front.

    words: more keys, and the word that each gives; bare: those that no architecture's name stands before;
    listed: keys that all architectures have, of which there may be one for each layer here.
    absent: what words are where the file has no such key. accepted: keys that change nothing while they have
    one of these values; unread: that never do. there: words that are true where the file has a tensor whose
    name ends in one of these ways; without: that list the layers which have no tensor of this name. epsilon:
    the one of the two keys that the family's norms have, and every file. settle(raw, keys): changes of the
    words, which are those of a config.json then; keys has what the file says. when(keys): whether a file is
    of this family, where another one has the architecture, too.
    """

    architecture: str
    model_type: str
    words: Mapping[str, str] = field(default_factory=dict)
    bare: Mapping[str, str] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    absent: Mapping[str, Any] = field(default_factory=dict)
    accepted: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    there: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    epsilon: str = RMS_EPSILON
    settle: Settle | None = None
    when: Callable[[Mapping[str, Any]], bool] | None = None


# Words of windows; PATTERN's are for `windows`, which is for `settle` to call.
WINDOW = {"attention.sliding_window": "sliding_window"}
PATTERN = {**WINDOW, "attention.sliding_window_pattern": "sliding_window_pattern"}
BIASED = ("attn_q.bias", "attn_qkv.bias")  # tensors of a family whose queries may have biases


def windows(raw: Words, every: int) -> None:
    """Name each layer's kind. A file's pattern is a list with true for each layer that has the window, or a
    number: of so many layers the last one sees everything, of 0 none. `every` is that number where the file
    has no pattern. A window of 0, too, is none.
    """
    count, pattern = raw["num_hidden_layers"], raw.pop("sliding_window_pattern", every)
    raw["sliding_window"] = raw.get("sliding_window") or None
    if type(count) is not int or not 0 < count <= 1024:
        return  # which the config refuses
    if raw["sliding_window"] is None:
        raw["layer_types"] = [FULL] * count
    elif isinstance(pattern, list):
        raw["layer_types"] = [SLIDING if sliding else FULL for sliding in pattern]
    elif type(pattern) is int:
        raw["layer_types"] = [SLIDING if not pattern or i % pattern else FULL for i in range(1, count + 1)]
    else:
        raw["layer_types"] = pattern  # refused, too


def no_window(raw: Words, keys: Mapping[str, Any]) -> None:
    """A window of 0 is none."""
    raw["sliding_window"] = raw.get("sliding_window") or None


def partial(raw: Words, keys: Mapping[str, Any]) -> None:
    """How much of each head turns: all of it where the file does not say."""
    turned, head_dim = keys.get("rope.dimension_count"), raw["head_dim"]
    whole = type(turned) is int and type(head_dim) is int and head_dim > 0
    raw["partial_rotary_factor"] = turned / head_dim if whole else 1.0


def of_one(raw: Words, width: str, heads: str) -> None:
    """A head's width, where files have that of all."""
    whole, count = raw[width], raw[heads]
    if type(whole) is int and type(count) is int and count > 0 and whole % count == 0:
        raw[width] = whole // count


def attending(raw: Words, other: str) -> None:
    """Where there is a list of the heads of keys, layers without any are of another kind than attention."""
    heads = raw["num_key_value_heads"]
    if isinstance(heads, list):
        kinds = {n for n in heads if n != 0}
        if len(kinds) > 1:
            refuse("num_key_value_heads", heads, "the same of all layers with attention is needed")
        raw["layer_types"] = [FULL if n else other for n in heads]
        raw["num_key_value_heads"] = kinds.pop() if kinds else raw["num_attention_heads"]

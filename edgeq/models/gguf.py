"""How GGUF files spell a family's config: keys of an architecture beside the words of a Hugging Face config.

What all architectures share is in `edgeq.converters.gguf`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Words = dict[str, Any]
Settle = Callable[[Words, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Gguf:
    """An architecture of GGUF files. Keys are without its name in front.

    words: more keys, and the word that each gives; bare: those that no architecture's name stands before.
    absent: what words are where the file has no such key. accepted: keys that change nothing while they have
    one of these values. biases: a word that is true where the file has attn_q.bias; there: words that are
    where it has another tensor whose name ends so. settle(raw, keys): changes of the words, which are those
    of a config.json then; keys has what the file says.
    """

    architecture: str
    model_type: str
    words: Mapping[str, str] = field(default_factory=dict)
    bare: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    accepted: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    biases: str = ""
    there: Mapping[str, str] = field(default_factory=dict)
    settle: Settle | None = None


# Words of windows; which layers have it is for `settle` to say.
WINDOW = {"attention.sliding_window": "sliding_window"}
EPSILON = "attention.layer_norm_epsilon"  # of a LayerNorm

"""The pass of a llama-like model in plain NumPy, float32, over a whole window, with any attention in it.

It reads the checkpoint itself and knows nothing of the engine, its kernels or its caches: what it says is
another witness of what the engine computes, and what a cache would add that the engine does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgeq import tokenizer
from edgeq.converters.pipeline import open_source
from edgeq.errors import UnsupportedError
from edgeq.evaluate.windows import Windows, cut
from edgeq.generate import LanguageModel
from edgeq.kernels import meaning
from edgeq.runtime.rotary import cosine_sine

Array = np.ndarray[Any, Any]
# (queries [positions, heads, head_dim], keys and values [positions, kv_heads, head_dim], turned by their
# positions) -> [positions, heads, head_dim], each query over the positions up to its own
Attend = Callable[[Array, Array, Array], Array]


class Forward:
    """A model of the llama family. UnsupportedError for a checkpoint of another, or with a sliding window."""

    def __init__(self, path: Path):
        source = open_source(path)
        self.config = c = source.config
        if source.family != "llama" or c.sliding_window:
            raise UnsupportedError(
                f"{path.name} is of the family {source.family} with a window of {c.sliding_window or 0}, but "
                "NumPy's pass knows plain llama without one"
            )
        self.weights = {name: tensor.floats() for name, tensor in source.tensors.items()}
        self.frequencies = source.made["rope.inverse_frequencies"]
        found = source.tokenizer()
        self.tokenizer: Any = found and tokenizer.load(*found, c.vocab_size)
        self.vocab_size, self.context = c.vocab_size, c.max_position_embeddings

    def windows(self, text: str, context: int) -> Windows:
        """llama.cpp's windows of a text. UsageError."""
        return cut(cast(LanguageModel, self), text, context)  # which asks for tokenizer and context alone

    def logits(self, ids: Array, attend: Attend, first: int = 0) -> Array:
        """float32 [len(ids) - first, vocabulary], what is said at the positions from `first` on."""
        c = self.config
        angle = np.arange(len(ids), dtype=np.float32)[:, None] * self.frequencies
        tables = cosine_sine(angle)
        x = self.weights["embed"][ids]
        for i in range(c.num_hidden_layers):
            h = self.norm(x, f"blocks.{i}.norm1")
            q, k, v = (self.product(h, f"blocks.{i}.{name}") for name in "qkv")
            q, k, v = (part.reshape(len(ids), -1, c.head_dim) for part in (q, k, v))
            a = attend(meaning.rotate(q, *tables), meaning.rotate(k, *tables), v)
            x = x + self.product(a.reshape(len(ids), -1), f"blocks.{i}.o")
            h = self.norm(x, f"blocks.{i}.norm2")
            gated = silu(self.product(h, f"blocks.{i}.gate")) * self.product(h, f"blocks.{i}.up")
            x = x + self.product(gated, f"blocks.{i}.down")
        head = "output" if "output" in self.weights else "embed"
        return self.product(self.norm(x[first:], "norm"), head)

    def product(self, x: Array, name: str) -> Array:
        return x @ self.weights[name].T

    def norm(self, x: Array, name: str) -> Array:
        mean = np.square(x).mean(-1, keepdims=True)
        return x / np.sqrt(mean + np.float32(self.config.rms_norm_eps)) * self.weights[name].reshape(-1)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(np.minimum(-x, np.float32(87))))

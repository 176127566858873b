"""What each model family computes, in plain NumPy, straight from a Hugging Face directory.

This file is a meaning, not an engine: one sequence, no cache, no quantization, float64 unless told
otherwise. Goldens and engine are compared with it. It imports nothing of edgeq, so the two cannot share a
mistake.

usage: python reference.py CHECKPOINT ID [ID ...] [-n TOKENS]      prints the ids that follow greedily
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Checkpoint:
    """Weights by Hugging Face name (float32, C order) and the config of one model directory."""

    config: dict[str, Any]
    weights: dict[str, Array]

    def __call__(self, name: str) -> Array:
        return self.weights[name]


def read_safetensors(path: Path) -> dict[str, Array]:
    """All tensors of one safetensors file as float32: 8 bytes of header length, JSON, data."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        data = raw[8 + length + begin : 8 + length + end]
        if entry["dtype"] == "BF16":  # bfloat16 is the upper half of float32
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            dtype = {"F32": "<f4", "F16": "<f2", "U8": "|u1"}[entry["dtype"]]
            values = np.frombuffer(data, dtype).astype(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def load(directory: str | Path) -> Checkpoint:
    """Read config.json and every *.safetensors of a directory."""
    directory = Path(directory)
    weights: dict[str, Array] = {}
    for path in sorted(directory.glob("*.safetensors")):
        weights |= read_safetensors(path)
    return Checkpoint(json.loads((directory / "config.json").read_text()), weights)


def head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def window(config: dict[str, Any]) -> int | None:
    """Positions that a token sees, itself included; None is all. Qwen has a switch, off by default."""
    if config["model_type"] in ("qwen2", "qwen3") and not config.get("use_sliding_window"):
        return None
    return config.get("sliding_window")


def rope(config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """(base, scaling) in either spelling: `rope_theta` and `rope_scaling`, or `rope_parameters`."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return float(scaling.get("rope_theta") or config.get("rope_theta") or 10000.0), scaling


def inverse_frequencies(config: dict[str, Any]) -> Array:
    """float32 [head_dim/2]: RoPE's angle per position."""
    (theta, scaling), dims = rope(config), head_dim(config)
    frequencies = 1.0 / theta ** (np.arange(0, dims, 2, dtype=np.float64) / dims)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if "rope_factors" in config:  # GGUF's way to say any scaling
        frequencies = frequencies / config["rope_factors"]
    elif kind == "linear":
        frequencies = frequencies / scaling["factor"]
    elif kind == "llama3":
        frequencies = _llama3(frequencies, scaling)
    elif kind != "default":
        raise ValueError(f"rope_type {kind!r} has no meaning here")
    return frequencies.astype(np.float32)


def _llama3(frequencies: Array, scaling: dict[str, Any]) -> Array:
    """Llama 3.1's rule: long waves are slowed by `factor`, short ones kept, those between blended."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original = scaling["original_max_position_embeddings"]
    turns = original * frequencies / (2 * math.pi)  # full turns within the original context
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return keep * frequencies + (1 - keep) * frequencies / scaling["factor"]


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(eps)) * weight


def rotate(x: Array, frequencies: Array) -> Array:
    """RoPE, half-split form: x [heads, tokens, head_dim]; dimension i turns with dimension i + head_dim/2."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[-2], dtype=np.float32)[:, None] * frequencies  # float32 in every family
    cos, sin = np.cos(angle.astype(x.dtype)), np.sin(angle.astype(x.dtype))
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def attention(model: Checkpoint, prefix: str, x: Array, frequencies: Array) -> Array:
    """Causal grouped-query attention of x [tokens, hidden]; biases and QK-norm where there are any."""
    config, dims, tokens = model.config, head_dim(model.config), len(x)

    def heads(letter: str) -> Array:
        y = x @ model(f"{prefix}.{letter}_proj.weight").T.astype(x.dtype)
        if f"{prefix}.{letter}_proj.bias" in model.weights:
            y = y + model(f"{prefix}.{letter}_proj.bias")
        y = y.reshape(tokens, -1, dims).transpose(1, 0, 2)  # [heads, tokens, head_dim]
        if f"{prefix}.{letter}_norm.weight" in model.weights:
            y = rms_norm(y, model(f"{prefix}.{letter}_norm.weight"), config["rms_norm_eps"])
        return y

    q, k, v = rotate(heads("q"), frequencies), rotate(heads("k"), frequencies), heads("v")
    group = len(q) // len(k)  # query heads that share one key head
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    back = np.arange(tokens)[:, None] - np.arange(tokens)  # how far back the key is
    seen = back >= 0
    if (size := window(config)) is not None:
        seen &= back < size
    scores = np.where(seen, q @ k.transpose(0, 2, 1) / x.dtype.type(math.sqrt(dims)), -np.inf)
    mixed = (softmax(scores) @ v).transpose(1, 0, 2).reshape(tokens, -1)
    return mixed @ model(f"{prefix}.o_proj.weight").T.astype(x.dtype)


def mlp(model: Checkpoint, prefix: str, x: Array) -> Array:
    """SwiGLU."""
    names = (f"{prefix}.{part}_proj.weight" for part in ("gate", "up", "down"))
    gate, up, down = (model(name).T.astype(x.dtype) for name in names)
    return (silu(x @ gate) * (x @ up)) @ down


def logits(model: Checkpoint, ids: Sequence[int], dtype: DTypeLike = np.float64) -> Array:
    """Logits [len(ids), vocab] of one sequence that starts at position 0."""
    config = model.config
    eps, frequencies = config["rms_norm_eps"], inverse_frequencies(config)
    x = model("model.embed_tokens.weight")[list(ids)].astype(dtype)
    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}"
        norm1 = model(f"{block}.input_layernorm.weight")
        norm2 = model(f"{block}.post_attention_layernorm.weight")
        x = x + attention(model, f"{block}.self_attn", rms_norm(x, norm1, eps), frequencies)
        x = x + mlp(model, f"{block}.mlp", rms_norm(x, norm2, eps))
    x = rms_norm(x, model("model.norm.weight"), eps)
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"
    return x @ model(head).T.astype(dtype)


def greedy(model: Checkpoint, ids: Sequence[int], count: int) -> list[int]:
    """The `count` ids that follow `ids` when the largest logit always wins."""
    out = list(ids)
    for _ in range(count):
        out.append(int(logits(model, out)[-1].argmax()))
    return out[len(ids) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("ids", type=int, nargs="+")
    parser.add_argument("-n", type=int, default=24)
    arguments = parser.parse_args()
    print(*greedy(load(arguments.checkpoint), arguments.ids, arguments.n))


if __name__ == "__main__":
    main()

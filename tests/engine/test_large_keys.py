"""The INT8 cache where some dimensions of keys are far larger than the rest, as Qwen2's biases make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import engine
from edgeq.converters import convert
from tests.converters import checkpoints

Array = np.ndarray[Any, Any]
HEADS, KV_HEADS = 4, 2
IDS = [1, *np.random.default_rng(0).integers(3, 700, 127).tolist()]
SCORED = 64  # the last tokens


def model(folder: Path, kind: str, head: int, spikes: dict[int, float]) -> Path:
    """A random model whose keys have, in these dimensions of every head, about these values (biases of qwen2)
    or so many times their size (norms of qwen3).
    """
    words = checkpoints.config(
        kind, hidden_size=HEADS * head, intermediate_size=256, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, head_dim=head, vocab_size=700, max_position_embeddings=512,
        rope_theta=1e6,
    )  # fmt: skip
    random = np.random.default_rng(1)
    tensors = {}
    for name, values in checkpoints.weights(words, 1).items():
        tensors[name] = 1 + 0.1 * values if "norm" in name else 0.06 * values
        if name.endswith("k_proj.bias"):
            bias = 2 * random.standard_normal((KV_HEADS, head))
            bias[:, list(spikes)] = list(spikes.values())
            tensors[name] = bias.reshape(-1).astype(np.float32)
        if name.endswith("k_norm.weight"):
            tensors[name][list(spikes)] *= list(spikes.values())
    checkpoints.write_directory(folder / "checkpoint", words, tensors)
    convert(folder / "checkpoint", folder / "model.edgeq", scheme="f32")
    return folder / "model.edgeq"


def logits(path: Path, kv: str) -> Array:
    """Of the last tokens, computed in float32 but for the cache."""
    with engine.load(path, kv=kv, act="f32", threads=1) as loaded:
        return loaded.logits(IDS)[-SCORED:].astype(np.float64)


def divergence(path: Path, kv: str) -> float:
    """Mean Kullback-Leibler divergence from the model with a float32 cache, in nats."""

    def log_softmax(x: Array) -> Array:
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    exact, ours = log_softmax(logits(path, "f32")), log_softmax(logits(path, kv))
    return float((np.exp(exact) * (exact - ours)).sum(-1).mean())


def slow(head: int, size: float) -> dict[int, float]:
    """Dimensions that rotary embedding hardly turns."""
    return dict.fromkeys((head - 1, head // 2 - 1, head - 2), size)


def fast(head: int, size: float) -> dict[int, float]:
    """Dimensions that it turns most."""
    return dict.fromkeys((0, 1, head // 2), size)


# llama.cpp's q8_0 cache, which turns keys and values by a Hadamard matrix, on models made like these with
# other seeds: heads of 64 0.000104 (30), 0.00056 (100), 0.0042 (300), of 128 0.0029 (100), 0.0174 (300). On
# these very models, from its own float32 cache (llama-cpp-python 0.3.36 on what `bench.floats.write` makes of
# the checkpoint, flash attention off for float32), for biases of 0, 30, 100, 300: heads of 64 0.000165,
# 0.00066, 0.0038, 0.028; of 96 0.00055, 0.0075, 0.070, 0.40; of 128 0.00102, 0.0022, 0.011, 0.069. Biases
# cost edgeq nothing, so it is held to what llama.cpp loses without them.
LLAMA_CPP = {64: 0.000165, 96: 0.00055, 128: 0.00102}


@pytest.mark.parametrize(
    ("head", "size", "most"),
    [*((head, size, most) for head, most in LLAMA_CPP.items() for size in (0.0, 100.0, 300.0)),
     (64, 30.0, 0.000104), (96, 30.0, LLAMA_CPP[96]), (128, 30.0, LLAMA_CPP[128]),
     (80, 100.0, 0.00025), (32, 100.0, 0.00004), (16, 100.0, 0.000002)],
)  # fmt: skip
def test_biases_that_turn_slowly_cost_nothing(head: int, size: float, most: float, tmp_path: Path) -> None:
    """They are in every key alike, and taken from it before it is rounded."""
    assert divergence(model(tmp_path, "qwen2", head, slow(head, size)), "q8") < most


@pytest.mark.parametrize(("head", "most"), [(64, 0.011), (80, 0.009), (128, 0.018)])
def test_biases_that_turn_fast_are_spread(head: int, most: float, tmp_path: Path) -> None:
    """With keys that are rounded as they are it is four to nine times more: 0.066, 0.053, 0.059."""
    assert divergence(model(tmp_path, "qwen2", head, fast(head, 100.0)), "q8") < most


@pytest.mark.parametrize(("head", "most"), [(16, 0.0002), (64, 0.001), (80, 0.0012), (128, 0.0013)])
def test_large_norms_are_spread(head: int, most: float, tmp_path: Path) -> None:
    """With keys that are rounded as they are: 0.0011, 0.0046, 0.0080, 0.0062."""
    spikes = dict.fromkeys((1, head // 2, head - 3), 30.0)
    assert divergence(model(tmp_path, "qwen3", head, spikes), "q8") < most


def test_float16_gains_too(tmp_path: Path) -> None:
    """Between 256 and 512 float16 has steps of a quarter: 0.00018 with the biases in the keys."""
    assert divergence(model(tmp_path, "qwen2", 64, slow(64, 300.0)), "f16") < 0.00001


@pytest.mark.parametrize("kv", ["q8", "f16", "f32"])
@pytest.mark.parametrize("word", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001])
def test_biases_that_are_no_numbers_show_in_every_logit(word: int, kv: str, tmp_path: Path) -> None:
    """Infinities and both kinds of NaN in a damaged file; the mean of the turned biases warns of none."""
    path = model(tmp_path, "qwen2", 32, {3: 12345.0})
    data, sound = path.read_bytes(), np.float32(12345).tobytes()
    assert data.count(sound) == 2 * KV_HEADS  # in each layer
    path.write_bytes(data.replace(sound, np.uint32(word).tobytes()))
    with engine.load(path, kv=kv, threads=1) as loaded:
        assert not np.isfinite(loaded.logits(IDS[:5])).all(-1).any()

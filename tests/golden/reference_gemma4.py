"""What Gemma 4 computes, in plain NumPy, from a Hugging Face directory; beside `reference`, of its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .reference import Array, Checkpoint, rms_norm, rotate, softmax

SLIDING, FULL = "sliding_attention", "full_attention"


def gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def frequencies(scaling: dict[str, Any], dims: int) -> Array:
    """float32 [dims / 2]; of a proportional rotation only the first pairs turn, as the whole would."""
    found = 1.0 / scaling["rope_theta"] ** (np.arange(0, dims, 2, dtype=np.float64) / dims)
    if scaling["rope_type"] == "proportional":
        found[int(scaling.get("partial_rotary_factor", 1.0) * dims // 2) :] = 0
    return found.astype(np.float32)


class Pass:
    """One sequence through the layers; keys and values of each kind of layer, as the last one left them that
    has its own.
    """

    def __init__(self, model: Checkpoint, dtype: DTypeLike):
        self.model, self.c, self.dtype = model, model.config, np.dtype(dtype)
        self.kept: dict[str, tuple[Array, Array]] = {}

    def matrix(self, name: str) -> Array:
        """Transposed, for rows from the left."""
        return self.model(name).T.astype(self.dtype)

    def norm(self, x: Array, name: str | None, eps: float | None = None) -> Array:
        weight = np.ones(1, self.dtype) if name is None else self.model(f"{name}.weight")
        return rms_norm(x, weight, self.c["rms_norm_eps"] if eps is None else eps)

    def attention(self, i: int, x: Array) -> Array:
        c, kind, prefix = self.c, self.c["layer_types"][i], f"model.layers.{i}.self_attn"
        own = c.get("per_layer_config", {}).get(str(i), {})
        dims = own.get("head_dim", c["head_dim"])
        if kind == FULL and "global_head_dim" in c:
            dims = c["global_head_dim"]
        turn = frequencies(c["rope_parameters"][kind], dims)

        def heads(letter: str) -> Array:
            y = x @ self.matrix(f"{prefix}.{letter}_proj.weight")
            return y.reshape(len(x), -1, dims).transpose(1, 0, 2)

        q = rotate(self.norm(heads("q"), f"{prefix}.q_norm"), turn)
        if i < c["num_hidden_layers"] - c["num_kv_shared_layers"]:
            k = heads("k")
            v = k if c["attention_k_eq_v"] and kind == FULL else heads("v")
            self.kept[kind] = rotate(self.norm(k, f"{prefix}.k_norm"), turn), self.norm(v, None)
        k, v = (np.repeat(part, len(q) // len(part), axis=0) for part in self.kept[kind])
        back = np.arange(len(x))[:, None] - np.arange(len(x))
        seen = (back >= 0) & ((back < c["sliding_window"]) | (kind == FULL))
        mixed = softmax(np.where(seen, q @ k.transpose(0, 2, 1), -np.inf)) @ v
        return mixed.transpose(1, 0, 2).reshape(len(x), -1) @ self.matrix(f"{prefix}.o_proj.weight")

    def mlp(self, prefix: str, x: Array) -> Array:
        gate, up, down = (self.matrix(f"{prefix}.mlp.{part}_proj.weight") for part in ("gate", "up", "down"))
        return (gelu(x @ gate) * (x @ up)) @ down

    def mixture(self, prefix: str, x: Array, routed: Array) -> Array:
        """Of normalized rows x, by the rows themselves."""
        scale = self.model(f"{prefix}.router.scale") * self.c["hidden_size"] ** -0.5
        p = softmax((self.norm(routed, None) * scale) @ self.matrix(f"{prefix}.router.proj.weight"))
        y = np.zeros_like(x)
        for n, row in enumerate(x):
            chosen = np.argsort(-p[n], kind="stable")[: self.c["top_k_experts"]]
            shares = (
                p[n, chosen] / p[n, chosen].sum() * self.model(f"{prefix}.router.per_expert_scale")[chosen]
            )
            for share, expert in zip(shares, chosen, strict=True):
                both = self.model(f"{prefix}.experts.gate_up_proj")[expert].astype(x.dtype) @ row
                gate, up = np.split(both, 2)
                down = self.model(f"{prefix}.experts.down_proj")[expert].astype(x.dtype)
                y[n] += share * (down @ (gelu(gate) * up))
        return y

    def inputs(self, ids: list[int], x: Array) -> Array:
        """[tokens, layers, input]."""
        size, hidden = self.c["hidden_size_per_layer_input"], self.c["hidden_size"]
        told = x @ self.matrix("model.per_layer_model_projection.weight") / math.sqrt(hidden)
        told = self.norm(told.reshape(len(x), -1, size), "model.per_layer_projection_norm")
        own = self.model("model.embed_tokens_per_layer.weight")[ids].astype(self.dtype) * math.sqrt(size)
        return (told + own.reshape(told.shape)) / math.sqrt(2)

    def layer(self, i: int, x: Array, inputs: Array | None) -> Array:
        b = f"model.layers.{i}"
        y = self.attention(i, self.norm(x, f"{b}.input_layernorm"))
        x = x + self.norm(y, f"{b}.post_attention_layernorm")
        y = self.mlp(b, self.norm(x, f"{b}.pre_feedforward_layernorm"))
        if self.c.get("enable_moe_block"):
            other = self.mixture(b, self.norm(x, f"{b}.pre_feedforward_layernorm_2"), x)
            y = self.norm(y, f"{b}.post_feedforward_layernorm_1")
            y = y + self.norm(other, f"{b}.post_feedforward_layernorm_2")
        x = x + self.norm(y, f"{b}.post_feedforward_layernorm")
        if inputs is not None:
            y = gelu(x @ self.matrix(f"{b}.per_layer_input_gate.weight")) * inputs[:, i]
            y = y @ self.matrix(f"{b}.per_layer_projection.weight")
            x = x + self.norm(y, f"{b}.post_per_layer_input_norm")
        return x * self.model(f"{b}.layer_scalar").astype(self.dtype)


def logits(model: Checkpoint, ids: Sequence[int], dtype: DTypeLike = np.float64) -> Array:
    """Logits [len(ids), vocab] of one sequence that starts at position 0."""
    c, told = model.config, Pass(model, dtype)
    x = model("model.embed_tokens.weight")[list(ids)].astype(dtype) * math.sqrt(c["hidden_size"])
    inputs = told.inputs(list(ids), x) if c.get("hidden_size_per_layer_input") else None
    for i in range(c["num_hidden_layers"]):
        x = told.layer(i, x, inputs)
    y = told.norm(x, "model.norm") @ told.matrix("model.embed_tokens.weight")
    cap = c["final_logit_softcapping"]
    return y if cap is None else cap * np.tanh(y / cap)

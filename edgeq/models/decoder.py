"""The blocks that decoders of the Llama line are made of, written against a program recorder.

`p` is an edgeq.runtime.program.Program, rows are its float32 buffers [tokens, columns], weights come from
edgeq.runtime.weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.models.base import BaseConfig
from edgeq.runtime import rotary

if TYPE_CHECKING:
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.program import Program
    from edgeq.runtime.weights import Weights

    Project = Callable[[Program, BaseConfig, Any, Input], tuple[Rows, Rows, Rows]]


CENTRED = 4096  # positions whose keys a block's centre is meant for: where most sequences end


def project(p: Program, c: BaseConfig, b: Any, h: Input) -> tuple[Rows, Rows, Rows]:
    """Queries, keys and values of a block without biases or norms."""
    return p.matmul(b.q, h), p.matmul(b.k, h), p.matmul(b.v, h)


def key_centre(c: BaseConfig, w: Weights, b: Any) -> np.ndarray | None:
    """Where the keys of a block lie about, float32 [kv_heads, head_dim], if they have a bias."""
    if not hasattr(b, "k_bias"):
        return None
    bias = b.k_bias.values[: c.num_key_value_heads * c.head_dim].reshape(-1, c.head_dim)
    frequencies = w.vector("rope.inverse_frequencies").values[: c.head_dim // 2]
    return rotary.mean(bias, frequencies, min(c.max_position_embeddings, CENTRED))


def attention(p: Program, c: BaseConfig, w: Weights, i: int, x: Rows, project: Project) -> Rows:
    """x + W_o . attention(RoPE(q), RoPE(k), v), with grouped queries."""
    b = w.block(i)
    h = p.norm(x, b.norm1, (b.q, b.k, b.v))
    q, k, v = project(p, c, b, h)
    q, k = p.rotate(q, c.num_attention_heads), p.rotate(k, c.num_key_value_heads)
    a = p.attend(i, q, k, v, centre=key_centre(c, w, b))
    return p.matmul(b.o, p.input(a, (b.o,)), add_to=x)


def mlp(p: Program, b: Any, x: Rows) -> Rows:
    """x + W_down . (silu(W_gate . h) * (W_up . h)), h the norm of x."""
    h = p.norm(x, b.norm2, (b.gate, b.up))
    return p.matmul(b.down, p.swiglu(p.matmul(b.gate, h), p.matmul(b.up, h), (b.down,)), add_to=x)


def decode(p: Program, c: BaseConfig, w: Weights, project: Project = project) -> None:
    """The whole pass, from ids to logits."""
    x = p.embed(w.matrix("embed"))
    for i in range(c.num_hidden_layers):
        p.mark()
        x = attention(p, c, w, i, x, project)
        x = mlp(p, w.block(i), x)
    p.mark()
    p.argmax(p.matmul(w.head, p.norm(x, w.vector("norm"), (w.head,), outputs=True), outputs=True))

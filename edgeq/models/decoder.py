"""The blocks that decoders of the Llama line are made of, written against a program recorder.

`p` is an edgeq.program.Program, rows are its float32 buffers [tokens, columns], weights come from
edgeq.weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgeq.models.base import BaseConfig

if TYPE_CHECKING:
    from edgeq.arena import Input, Rows
    from edgeq.program import Program
    from edgeq.weights import Weights

    Project = Callable[[Program, BaseConfig, Any, Input], tuple[Rows, Rows, Rows]]


def project(p: Program, c: BaseConfig, b: Any, h: Input) -> tuple[Rows, Rows, Rows]:
    """Queries, keys and values of a block without biases or norms."""
    return p.matmul(b.q, h), p.matmul(b.k, h), p.matmul(b.v, h)


def attention(p: Program, c: BaseConfig, b: Any, i: int, x: Rows, project: Project) -> Rows:
    """x + W_o . attention(RoPE(q), RoPE(k), v), with grouped queries."""
    h = p.norm(x, b.norm1, (b.q, b.k, b.v))
    q, k, v = project(p, c, b, h)
    q, k = p.rotate(q, c.num_attention_heads), p.rotate(k, c.num_key_value_heads)
    a = p.attend(i, q, k, v)
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
        b = w.block(i)
        x = attention(p, c, b, i, x, project)
        x = mlp(p, b, x)
    p.mark()
    p.argmax(p.matmul(w.head, p.norm(x, w.vector("norm"), (w.head,), outputs=True), outputs=True))

"""RMSNorm and LayerNorm of rows and of their heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeq.kernels.catalog import Batch

from .forms import emit_forms

if TYPE_CHECKING:
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector


def norm(
    p: Recorder, x: Rows, weight: Vector, readers: Sequence[Matrix], *, epsilon: float, outputs: bool = False
) -> Input:
    """[tokens, hidden]: x / sqrt(mean(x^2) + epsilon) * weight, [hidden], of each row of x, for the matrices
    that read it; with `outputs`, [outputs, hidden].
    """
    count = Batch.OUTPUTS if outputs else Batch.COUNT
    return emit_forms(
        p,
        "norm",
        x.columns,
        readers,
        outputs=outputs,
        a=x,
        weight=weight,
        epsilon=epsilon,
        count_at=count,
    )


def norm_heads(
    p: Recorder, x: Rows, weight: Vector | None, *, epsilon: float, head_dim: int | None = None
) -> Rows:
    """The same of each part of x that is as wide as the weight, in place: heads [tokens, heads * head_dim]
    one by one, or all as one. With head_dim it is of parts of so many columns, each with its own of the
    weight, or with none, as with one of ones. Gives x.
    """
    size = head_dim or (weight.columns if weight is not None else x.columns)
    p.emit(
        "norm_heads",
        x=x,
        weight=weight,
        heads=x.columns // size,
        kinds=1 if weight is None else weight.columns // size,
        head_dim=size,
        epsilon=epsilon,
    )
    return x


def add_norm(p: Recorder, x: Rows, y: Rows, weight: Vector, *, epsilon: float, factor: float = 1.0) -> Rows:
    """[tokens, hidden]: x + factor * the norm of y, both of that shape, in x, which it gives."""
    p.emit("norm_add", a=y, x=x, weight=weight, epsilon=epsilon, factor=factor)
    return x


def layer_norm(
    p: Recorder,
    x: Rows,
    weight: Vector,
    bias: Vector | None,
    readers: Sequence[Matrix],
    *,
    epsilon: float,
    outputs: bool = False,
) -> Input:
    """[tokens, hidden]: (x - mean(x)) / sqrt(variance(x) + epsilon) * weight (+ bias), both [hidden], of each
    row of x, for the matrices that read it; with `outputs`, [outputs, hidden].
    """
    count = Batch.OUTPUTS if outputs else Batch.COUNT
    return emit_forms(
        p,
        "layer_norm",
        x.columns,
        readers,
        outputs=outputs,
        a=x,
        weight=weight,
        bias=bias,
        epsilon=epsilon,
        count_at=count,
    )


def layer_norm_heads(p: Recorder, x: Rows, weight: Vector, *, heads: int, epsilon: float) -> Rows:
    """The same of each head of x, [tokens, heads * head_dim], in place, without bias; the weight has as many
    columns as x. Gives x.
    """
    p.emit("layer_norm_heads", x=x, weight=weight, heads=heads, head_dim=x.columns // heads, epsilon=epsilon)
    return x

"""RMSNorm of rows and of their heads."""

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
    return emit_forms(p, "norm", x.columns, readers, a=x, weight=weight, epsilon=epsilon, count_at=count)


def norm_heads(p: Recorder, x: Rows, weight: Vector, *, heads: int, epsilon: float) -> Rows:
    """The same of each head of x, [tokens, heads * head_dim], in place; the weight is [head_dim]. Gives x."""
    p.emit("norm_heads", x=x, weight=weight, heads=heads, head_dim=x.columns // heads, epsilon=epsilon)
    return x

"""Activations, alone and as gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeq.errors import UsageError
from edgeq.kernels.table import ALONE, GATES, NORMED_GATES

from .forms import emit_forms

if TYPE_CHECKING:
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix


def gated(
    p: Recorder,
    gate: Rows,
    up: Rows,
    readers: Sequence[Matrix],
    activation: str = "silu",
    *,
    each: int = 1,
) -> Input:
    """[tokens, intermediate]: activation(gate) * up, both of that shape, for the matrices that read it; with
    `each`, so many rows for a token.
    """
    name = f"gated_{_known(activation, GATES)}"
    return emit_forms(p, name, gate.columns, readers, rows=each, gate=gate, up=up, each=each)


def gated_rows(p: Recorder, gate: Rows, up: Rows, activation: str) -> Rows:
    """The same as float32 rows, for what is no product."""
    y = p.rows(gate.columns)
    p.emit(f"gated_{_known(activation, (*GATES, *NORMED_GATES))}", gate=gate, up=up, y=y, each=1)
    return y


def activate(p: Recorder, a: Rows, readers: Sequence[Matrix], activation: str) -> Input:
    """[tokens, intermediate]: activation(a), of that shape, for the matrices that read it."""
    return emit_forms(p, _known(activation, ALONE), a.columns, readers, a=a)


def xielu(p: Recorder, x: Rows, *, positive: float, negative: float, slope: float, highest: float) -> Rows:
    """[tokens, intermediate], in place: positive x^2 + slope x above 0, else negative (expm1(min(x, highest))
    - x) + slope x. Gives x.
    """
    p.emit("xielu", x=x, positive=positive, negative=negative, slope=slope, highest=highest)
    return x


def _known(activation: str, known: Sequence[str]) -> str:
    if activation not in known:
        raise UsageError(f"there is no activation {activation} here, but {', '.join(known)}.")
    return activation

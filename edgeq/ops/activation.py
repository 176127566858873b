"""Gated activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .forms import emit_forms

if TYPE_CHECKING:
    from edgeq.runtime.arena import Input, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix


def swiglu(p: Recorder, gate: Rows, up: Rows, readers: Sequence[Matrix]) -> Input:
    """[tokens, intermediate]: silu(gate) * up, both of that shape, for the matrices that read it."""
    return emit_forms(p, "swiglu", gate.columns, readers, gate=gate, up=up)

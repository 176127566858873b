"""From ids to rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix


def embed(p: Recorder, weight: Matrix) -> Rows:
    """[tokens, hidden]: the rows of the weight, [vocabulary, hidden], that the pass's ids name."""
    y = p.rows(weight.columns)
    p.emit("embed" if weight.quantized else "embed_float", ids=p.ids, weights=weight, y=y)
    return y

"""From ids to rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.runtime.arena import Held, Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix


def embed(p: Recorder, weight: Matrix, ids: Held | None = None) -> Rows:
    """[tokens, hidden]: the rows of the weight, [vocabulary, hidden], that the pass's ids name, or what else
    a pass has a number of for each token: `p.positions`, `p.zeros`.
    """
    y = p.rows(weight.columns)
    kernel = "embed" if weight.quantized else "embed_float"
    p.emit(kernel, ids=p.ids if ids is None else ids, weights=weight, y=y)
    return y

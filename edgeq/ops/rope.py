"""Rotary position embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.rotary import Tables


def rotate(p: Recorder, x: Rows, tables: Tables, *, heads: int) -> Rows:
    """Each head of x, [tokens, heads * head_dim], turned by its token's position, in place; the tables are
    [positions, head_dim / 2]. Gives x.
    """
    p.emit("rotate", x=x, tables=tables, heads=heads, head_dim=x.columns // heads)
    return x

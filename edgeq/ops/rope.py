"""Rotary position embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.rotary import Tables


def rotate(p: Recorder, x: Rows, tables: Tables, *, heads: int) -> Rows:
    """Each head of x, [tokens, heads * head_dim], turned by its token's position, in place; the tables are
    [positions, columns / 2] for so many columns of each head, the first ones, and no more than it has. Gives
    x. UsageError where they are of more.
    """
    if tables.columns > x.columns // heads:
        raise UsageError(f"tables for {tables.columns} columns turn heads of {x.columns // heads}.")
    p.emit("rotate", x=x, tables=tables, heads=heads, head_dim=x.columns // heads)
    return x

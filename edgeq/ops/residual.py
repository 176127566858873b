"""What is done to rows between the products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeq.errors import UsageError
from edgeq.kernels.catalog import Batch

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Vector


def scale(
    p: Recorder, x: Rows, factor: float = 1.0, *, cap: float | None = None, outputs: bool = False
) -> Rows:
    """[tokens, columns], in place: factor * x and, with a cap, cap * tanh(that / cap); with `outputs` of the
    first [outputs, columns]. Gives x. UsageError for a cap that is negative or no number.
    """
    if not 0 <= (cap or 0) < math.inf:
        raise UsageError(f"a cap is {cap}, where a number above 0 is needed, or None.")
    count = Batch.OUTPUTS if outputs else Batch.COUNT
    if factor != 1 or cap:
        p.emit("scale", x=x, factor=factor, cap=cap or 0.0, count_at=count)
    return x


def copy(p: Recorder, x: Rows) -> Rows:
    """[tokens, columns]: x once more, where one of the two is changed in place."""
    y = p.rows(x.columns)
    p.emit("copy", a=x, y=y, count_at=Batch.COUNT)
    return y


def outputs(p: Recorder, *rows: Rows) -> list[Rows]:
    """[outputs, columns] of each: from here on the program is about the pass's outputs alone, and tokens are
    these. No other token's row has a say in what comes: what later layers read of others is in caches that
    were written before.
    """
    kept = [p.rows(x.columns) for x in rows]
    for x, y in zip(rows, kept, strict=True):
        p.emit("copy", a=x, y=y, count_at=Batch.OUTPUTS)
    p.only_outputs()
    return kept


def add(p: Recorder, x: Rows, y: Rows, factor: float = 1.0) -> Rows:
    """[tokens, columns]: x + factor * y, both of that shape, in x, which it gives."""
    p.emit("add", a=y, x=x, factor=factor)
    return x


def add_positions(p: Recorder, x: Rows, table: Vector, *, positions: int) -> Rows:
    """[tokens, columns], in place: x + the table's row of each token's position; the table is [positions *
    columns], row after row, for no fewer positions than sequences have. Gives x.
    """
    p.emit("add_positions", x=x, table=table, positions=positions)
    return x

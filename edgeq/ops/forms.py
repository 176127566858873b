"""Rows in the forms that the matrices which read them ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeq.runtime.arena import Input

if TYPE_CHECKING:
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix


def quantized_for(p: Recorder, weight: Matrix) -> bool:
    """Whether the matrix is multiplied with int8 rows, or with float32 ones."""
    return weight.quantized and p.settings.act == "int8"


def emit_forms(
    p: Recorder,
    kernel: str,
    columns: int,
    readers: Sequence[Matrix],
    *,
    rows: int = 1,
    outputs: bool = False,
    **given: Any,
) -> Input:
    """Results of `columns` columns, so many rows for a token, once for each form that a reader asks for: the
    kernel makes float32 rows, the kernel of that name with _quantize int8 ones; without readers float32 rows.
    With `outputs` they are of the pass's outputs alone, and what a program of rows leaves, whoever would read
    them in another.
    """
    if outputs and p.settings.rows:
        left = p.result(columns)
        p.emit(kernel, y=left, **given)
        return Input(columns, None, left)
    int8 = [quantized_for(p, weight) for weight in readers]
    x = p.quantized(columns, each=rows) if any(int8) else None
    if x:
        p.emit(f"{kernel}_quantize", x=x, **given)
    y = p.rows(columns, each=rows) if not int8 or not all(int8) else None
    if y:
        p.emit(kernel, y=y, **given)
    return Input(columns, x, y)

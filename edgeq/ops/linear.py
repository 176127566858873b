"""Products with the model's matrices, and what they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeq.errors import UsageError
from edgeq.kernels.catalog import ROOM, Batch
from edgeq.runtime.arena import Input, padded

from .forms import quantized_for

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector


def quantize(p: Recorder, x: Rows, readers: Sequence[Matrix]) -> Input:
    """x, [tokens, columns], for the matrices that read it: quantized, as it is, or both."""
    int8 = [quantized_for(p, weight) for weight in readers]
    q = p.quantized(x.columns) if any(int8) else None
    if q:
        p.emit("quantize", a=x, x=q)
    return Input(x.columns, q, None if all(int8) else x)


def matmul(
    p: Recorder,
    weight: Matrix,
    x: Input,
    *,
    bias: Vector | None = None,
    add_to: Rows | None = None,
    outputs: bool = False,
) -> Rows:
    """[tokens, rows]: weight . x (+ bias), for x [tokens, columns] and a weight of [rows, columns]; with
    `outputs`, [outputs, rows] of a first x of as many, into the program's logits.

    Where add_to, [tokens, rows], is given, the products are added to it and it is what comes back. UsageError
    where x or add_to does not fit the weight, or x has not the form that it asks for.
    """
    if weight.columns != x.columns:
        raise UsageError(f"{weight.name} of {weight.columns} columns is given rows of {x.columns}.")
    if add_to and add_to.columns != weight.rows:
        raise UsageError(f"{weight.rows} sums a row of {weight.name} are added to rows of {add_to.columns}.")
    y = p.result(weight.rows) if outputs else add_to or p.rows(weight.rows)
    kernel, own = _kernel(p, weight, x)
    p.emit(
        kernel,
        **own,
        weights=weight,
        bias=bias,
        y=y,
        add=int(y is add_to),
        count_at=Batch.OUTPUTS if outputs else Batch.COUNT,
    )
    return y


def _kernel(p: Recorder, weight: Matrix, x: Input) -> tuple[str, dict[str, Any]]:
    """The kernel for the weight, and what it is given that others are not: what it reads of x, and room to
    unpack codes and scales.
    """
    if quantized_for(p, weight):
        if x.int8 is None:
            raise UsageError(f"{weight.name}, {weight.scheme}, is given rows that were not quantized for it.")
        return "matmul", dict(x=x.int8, scratch=p.workspace(ROOM * padded(weight.columns)))
    if x.floats is None:
        raise UsageError(
            f"{weight.name}, {weight.scheme}, is given rows that were not kept as floats for it."
        )
    return "matmul_act" if weight.quantized else "matmul_float", dict(x=x.floats)

"""Mixtures of experts: which ones tokens go to, products with their matrices, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeq.errors import UsageError
from edgeq.kernels.catalog import ROOM, TILE
from edgeq.runtime.arena import Buffer, Input, padded

from .forms import quantized_for

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder
    from edgeq.runtime.weights import Matrix, Vector

SCORING = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Routes:
    """Where the tokens of a pass go: each to `picked` of the experts, with a slot of rows in each."""

    experts: int
    picked: int
    shares: Buffer  # float32 [tokens, picked], of what comes of each
    slots: Buffer  # int32 [tokens, picked]
    members: Buffer  # int32 [slots], the token of each
    ends: Buffer  # int32 [experts], behind which slot each expert's end


def route(
    p: Recorder,
    scores: Rows,
    *,
    picked: int,
    scoring: str = "softmax",
    renormalize: bool = True,
    factor: float = 1.0,
    bias: Vector | None = None,
    scales: Vector | None = None,
) -> Routes:
    """From scores [tokens, experts], which are spoilt: each token's experts are those of the largest scores,
    plus bias, [experts], where there is one; of each one's result it takes the softmax or sigmoid of its
    score, divided by the sum of the chosen ones' where `renormalize`, times factor and the expert's own of
    `scales`, [experts]. UsageError for another `scoring`, and for more experts than there are.
    """
    experts = scores.columns
    if scoring not in SCORING or not 0 < picked <= experts:
        raise UsageError(f"tokens go to {picked} of {experts} experts by {scoring}, which is no way.")
    chosen, shares = p.numbers(picked), p.numbers(picked)
    p.emit(
        "route",
        scores=scores,
        bias=bias,
        scales=scales,
        picked=picked,
        scoring=SCORING.index(scoring),
        renormalize=int(renormalize),
        factor=factor,
        chosen=chosen,
        shares=shares,
    )
    found = Routes(experts, picked, shares, p.numbers(picked), p.numbers(picked), Buffer(experts * 4))
    p.emit(
        "gather_slots",
        chosen=chosen,
        picked=picked,
        experts=experts,
        slots=found.slots,
        members=found.members,
        ends=found.ends,
    )
    return found


def gather(p: Recorder, x: Input, routes: Routes, readers: Sequence[Matrix]) -> Input:
    """[slots, columns]: to each slot the row of its token, in the forms that the readers ask for."""
    given: dict[str, Any] = dict(members=routes.members, picked=routes.picked)
    int8 = [quantized_for(p, weight) for weight in readers]
    q = y = None
    if any(int8):
        q = p.quantized(x.columns, each=routes.picked)
        p.emit("gather_quantized", a=x.int8, x=q, **given)
    if not all(int8):
        y = p.rows(x.columns, each=routes.picked)
        p.emit("gather", a=x.floats, y=y, **given)
    return Input(x.columns, q, y)


def matmul_experts(
    p: Recorder, weight: Matrix, x: Input, routes: Routes, *, bias: Vector | None = None
) -> Rows:
    """[slots, width]: weight_e . x (+ bias_e) for x [slots, columns], e each slot's expert; the weight is
    [experts * width, columns], the bias [experts * width]. UsageError where the experts' rows are no whole
    tiles, or x does not fit.
    """
    width = weight.rows // routes.experts
    if weight.rows % routes.experts or width % TILE:
        raise UsageError(f"{weight.name} has {weight.rows} rows, no {TILE}s for each of {routes.experts}.")
    if weight.columns != x.columns:
        raise UsageError(f"{weight.name} of {weight.columns} columns is given rows of {x.columns}.")
    y = p.rows(width, each=routes.picked)
    given: dict[str, Any] = dict(
        weights=weight, bias=bias, y=y, picked=routes.picked, ends=routes.ends, experts=routes.experts
    )
    if quantized_for(p, weight):
        p.emit("matmul_experts", x=x.int8, scratch=p.workspace(ROOM * padded(weight.columns)), **given)
    else:
        kernel = "matmul_experts_act" if weight.quantized else "matmul_experts_float"
        p.emit(kernel, x=x.floats, **given)
    return y


def add_slots(p: Recorder, x: Rows | None, y: Rows, routes: Routes) -> Rows:
    """[tokens, columns]: x plus the rows of y, [slots, columns], that are each token's, times their shares,
    in x, which it gives; without an x the sum of these.
    """
    to = x or p.rows(y.columns)
    given = dict(slots=routes.slots, shares=routes.shares, picked=routes.picked)
    p.emit("add_slots", a=y, x=to, **given, add=int(to is x))
    return to


def add_gated(p: Recorder, x: Rows, y: Rows, gate: Rows) -> Rows:
    """[tokens, columns]: x + sigmoid(gate) * y, the gate [tokens, 1], in x, which it gives."""
    p.emit("add_gated", a=y, gate=gate, x=x)
    return x

"""Rows of the table: mixtures of experts."""

from __future__ import annotations

from .catalog import GROUP, LINE, TILE
from .roles import (
    FLAT,
    INT8,
    Const,
    Float,
    In,
    InOut,
    Number,
    Out,
    fact,
)
from .row import (
    CODES,
    FLOATS,
    UNPACKED,
    WEIGHTS,
    Kernel,
)

PICKED = Number("picked")  # experts that a token goes to
SLOTS, SLOTS_READ = ("tokens", "picked"), ("read", "picked")
OF_EXPERTS = (
    Const("bias", ("tiles", TILE), optional=True),
    Out("y", "width", LINE, SLOTS),
    fact("tiles", "weights"),
    fact("width", "y", "columns"),
)
WHOSE = (In("ends", "experts", count=(1,), form=FLAT), Number("experts"))
FLOAT_EXPERTS = (
    In("x", "columns", count=SLOTS_READ),
    PICKED,
    WEIGHTS,
    *OF_EXPERTS,
    fact("columns", "weights"),
    *WHOSE,
)


EXPERTS = {
    "route": Kernel(
        "experts",
        (
            InOut("scores", "experts", LINE),
            Const("bias", "experts", optional=True),
            Const("scales", "experts", optional=True),
            fact("experts", "scores", "columns"),
            PICKED,
            Number("scoring"),
            Number("renormalize"),
            Float("factor"),
            Out("chosen", "picked", form=FLAT),
            Out("shares", "picked", form=FLAT),
        ),
    ),
    "gather_slots": Kernel(
        "experts",
        (
            In("chosen", "picked", form=FLAT),
            PICKED,
            Number("experts"),
            Out("slots", "picked", form=FLAT),
            Out("members", "picked", form=FLAT),
            Out("ends", "experts", count=(1,), form=FLAT),
        ),
    ),
    "gather": Kernel(
        "experts",
        (
            In("a", "dim", LINE),
            In("members", "picked", form=FLAT),
            PICKED,
            Out("y", "dim", LINE, SLOTS),
            fact("dim", "a", "columns"),
        ),
    ),
    "gather_quantized": Kernel(
        "experts",
        (
            In("a", "dim", form=INT8),
            In("members", "picked", form=FLAT),
            PICKED,
            Out("x", "dim", count=SLOTS, form=INT8),
            fact("dim", "a", "columns"),
        ),
    ),
    "add_slots": Kernel(
        "experts",
        (
            In("a", "dim", LINE, SLOTS),
            In("slots", "picked", form=FLAT),
            In("shares", "picked", form=FLAT),
            PICKED,
            Out("x", "dim", LINE, adds="add"),
            fact("dim", "a", "columns"),
            Number("add"),
        ),
    ),
    "add_gated": Kernel(
        "experts",
        (In("a", "dim", LINE), In("gate", (1,)), InOut("x", "dim", LINE), fact("dim", "a", "columns")),
    ),
    "matmul_experts": Kernel(
        "matmul_experts",
        (
            In("x", ("groups", GROUP), count=SLOTS_READ, form=INT8),
            PICKED,
            WEIGHTS,
            *OF_EXPERTS,
            fact("groups", "weights"),
            *WHOSE,
            UNPACKED,
        ),
        CODES,
    ),
    "matmul_experts_act": Kernel("matmul_experts", FLOAT_EXPERTS, CODES),
    "matmul_experts_float": Kernel("matmul_experts", FLOAT_EXPERTS, FLOATS),
}

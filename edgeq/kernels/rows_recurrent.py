"""Rows of the table: recurrent layers."""

from __future__ import annotations

from .catalog import LINE, TILE
from .roles import STATE, Const, Float, In, InOut, Number, Out, fact
from .row import Kernel

HISTORY = (
    Const("taps", ("lines", LINE), count="reach"),
    Const("bias", "dim", LINE, optional=True),
    InOut("state", ("kept", "lines", LINE), form=STATE),
    Out("y", "dim", LINE),
    fact("dim", "y", "columns"),
    Number("reach"),
    Number("kept"),
    Number("lines"),
)


RECURRENT = {
    "short_conv": Kernel("recurrent", (In("a", (3, "dim"), LINE), *HISTORY)),
    "conv_silu": Kernel("recurrent", (In("a", "dim", LINE), *HISTORY)),
    "sigmoid": Kernel("recurrent", (InOut("x", "dim", LINE), fact("dim", "x", "columns"))),
    "decay": Kernel(
        "recurrent",
        (
            InOut("x", "dim", LINE),
            Const("slope", "dim", LINE),
            Const("bias", "dim", LINE),
            fact("dim", "x", "columns"),
        ),
    ),
    "time_steps": Kernel(
        "mamba",
        (
            InOut("x", "dim", LINE),
            Out("y", "dim", LINE),
            Const("slope", "dim", LINE),
            Const("bias", "dim", LINE),
            fact("dim", "x", "columns"),
        ),
    ),
    "state_space": Kernel(
        "mamba",
        (
            In("a", "width", LINE),
            In("step", "heads"),
            In("forget", "heads"),
            Const("skip", "heads"),
            InOut("state", ("heads", "state_dim", "tiles", TILE), form=STATE),
            Out("y", ("heads", "head_dim")),
            fact("width", "a", "columns"),
            Number("heads"),
            Number("alike"),
            Number("head_dim"),
            Number("state_dim"),
            Number("tiles"),
        ),
    ),
    "delta_rule": Kernel(
        "recurrent",
        (
            In("a", "width"),
            In("forget", "heads"),
            In("write", "heads"),
            InOut("state", ("heads", "key_dim", "tiles", TILE), form=STATE),
            Out("y", ("heads", "tiles", TILE)),
            fact("width", "a", "columns"),
            Number("key_heads"),
            Number("heads"),
            Number("alike"),
            Number("key_dim"),
            Number("tiles"),
            Float("scaling"),
        ),
    ),
}

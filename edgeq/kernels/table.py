"""What kernels there are and what operands each takes, readable without numba."""

from __future__ import annotations

from dataclasses import replace

from .catalog import GROUP, LINE
from .roles import (
    FLAT,
    INT8,
    Const,
    Float,
    In,
    InOut,
    Number,
    Out,
    Tables,
    fact,
)
from .row import (
    ADDED,
    ALL_HEADS,
    BIAS,
    CODES,
    COUNT,
    EPSILON,
    FLOAT_PRODUCT,
    FLOATS,
    IDS,
    PRODUCT,
    UNPACKED,
    WEIGHTS,
    Kernel,
    plain,
)
from .rows_attention import ATTENTION
from .rows_experts import EXPERTS
from .rows_logits import LOGITS
from .rows_recurrent import RECURRENT

GATES = ("silu", "gelu", "sigmoid", "clamped")  # activations of a gate, whose rows products read
NORMED_GATES = ("relu2",)  # and whose rows a norm reads, which are float32
ALONE = ("gelu", "gelu_erf")  # of rows without a gate


def activation_rows() -> dict[str, Kernel]:
    """Of each activation the kernels of float32 and of int8 rows; gates have `each` rows for a token."""
    forms = {"": (LINE, Out("y", "dim", LINE)), "_quantize": (GROUP, Out("x", "dim", form=INT8))}
    every = ("tokens", "each")
    found = dict[str, Kernel]()
    for suffix, (step, result) in forms.items():
        gated = Kernel(
            "gates",
            (
                In("gate", "dim", step, every),
                In("up", "dim", step, every),
                replace(result, count=every),
                fact("dim", "gate", "columns"),
                Number("each"),
            ),
        )
        alone = Kernel("gates", (In("a", "dim", step), result, fact("dim", "a", "columns")))
        found |= {f"gated_{name}{suffix}": gated for name in (*GATES, *(() if suffix else NORMED_GATES))}
        found |= {f"{name}{suffix}": alone for name in ALONE}
    return found


KERNELS = {
    "run": plain("interpreter", "pool", "program", "length"),
    "enter": plain("interpreter", "own"),
    **LOGITS,
    "embed": Kernel(
        "embedding",
        (IDS, WEIGHTS, Out("y", ("groups", GROUP)), fact("tiles", "weights"), fact("groups", "weights")),
        CODES,
    ),
    "embed_float": Kernel(
        "embedding",
        (IDS, WEIGHTS, Out("y", "columns"), fact("tiles", "weights"), fact("columns", "weights")),
        FLOATS,
    ),
    "norm": Kernel(
        "normalize",
        (
            In("a", "dim", LINE, "limit"),
            Const("weight", "dim", LINE),
            Out("y", "dim", LINE),
            fact("dim", "a", "columns"),
            EPSILON,
            COUNT,
        ),
    ),
    "norm_quantize": Kernel(
        "normalize",
        (
            In("a", "dim", GROUP, "limit"),
            Const("weight", "dim", GROUP),
            Out("x", "dim", form=INT8),
            fact("dim", "a", "columns"),
            EPSILON,
            COUNT,
        ),
    ),
    "norm_add": Kernel(
        "normalize",
        (
            In("a", "dim", LINE),
            Const("weight", "dim", LINE),
            InOut("x", "dim", LINE),
            fact("dim", "a", "columns"),
            EPSILON,
            Float("factor"),
        ),
    ),
    "layer_norm": Kernel(
        "layernorm",
        (
            In("a", "dim", LINE, "limit"),
            Const("weight", "dim", LINE),
            Const("bias", "dim", LINE, optional=True),
            Out("y", "dim", LINE),
            fact("dim", "a", "columns"),
            EPSILON,
            COUNT,
        ),
    ),
    "layer_norm_quantize": Kernel(
        "layernorm",
        (
            In("a", "dim", GROUP, "limit"),
            Const("weight", "dim", GROUP),
            Const("bias", "dim", GROUP, optional=True),
            Out("x", "dim", form=INT8),
            fact("dim", "a", "columns"),
            EPSILON,
            COUNT,
        ),
    ),
    "layer_norm_heads": Kernel(
        "layernorm",
        (InOut("x", ALL_HEADS), Const("weight", ALL_HEADS), Number("heads"), Number("head_dim"), EPSILON),
    ),
    "norm_heads": Kernel(
        "normalize",
        (
            InOut("x", ALL_HEADS),
            Const("weight", ("kinds", "head_dim"), optional=True),
            Number("heads"),
            Number("kinds"),
            Number("head_dim"),
            EPSILON,
        ),
    ),
    "quantize": Kernel(
        "activations",
        (In("a", "dim", GROUP), Out("x", "dim", form=INT8), fact("dim", "a", "columns")),
    ),
    **activation_rows(),
    "xielu": Kernel(
        "gates",
        (
            InOut("x", "dim", LINE),
            fact("dim", "x", "columns"),
            *(Float(name) for name in ("positive", "negative", "slope", "highest")),
        ),
    ),
    "scale": Kernel(
        "residual",
        (InOut("x", "dim", LINE), fact("dim", "x", "columns"), Float("factor"), Float("cap"), COUNT),
    ),
    "add_positions": Kernel(
        "residual",
        (
            InOut("x", "dim", LINE),
            Const("table", ("positions", "dim")),
            fact("dim", "x", "columns"),
            Number("positions"),
        ),
    ),
    "copy": Kernel(
        "residual",
        (In("a", "dim", LINE, "limit"), Out("y", "dim", LINE), fact("dim", "a", "columns"), COUNT),
    ),
    "add": Kernel(
        "residual",
        (In("a", "dim", LINE), InOut("x", "dim", LINE), fact("dim", "a", "columns"), Float("factor")),
    ),
    "matmul": Kernel(
        "matmul",
        (
            In("x", ("groups", GROUP), count="read", form=INT8),
            WEIGHTS,
            BIAS,
            PRODUCT,
            fact("tiles", "weights"),
            fact("groups", "weights"),
            *ADDED,
            UNPACKED,
        ),
        CODES,
    ),
    "matmul_act": Kernel("matmul_float", FLOAT_PRODUCT, CODES),
    "matmul_float": Kernel("matmul_float", FLOAT_PRODUCT, FLOATS),
    "argmax": Kernel(
        "argmax",
        (In("y", "columns", LINE), fact("columns", "y"), Out("likeliest", form=FLAT, item=8), COUNT),
    ),
    "rotate": Kernel(
        "rotate",
        (
            InOut("x", ALL_HEADS),
            Tables("tables", "turned"),
            Number("heads"),
            Number("head_dim"),
            fact("turned", "tables", "columns"),
        ),
    ),
    **EXPERTS,
    **RECURRENT,
    **ATTENTION,
}

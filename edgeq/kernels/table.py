"""What kernels there are and what operands each takes, readable without numba."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

from edgeq.errors import UsageError
from edgeq.formats.schemes import SCHEMES

from .catalog import GROUP, LINE, OPERANDS_MAX, ROOM, TASKS, TILE, Scratch
from .roles import (
    CACHE,
    FLAT,
    INT8,
    OUTSIDE,
    SCRATCH,
    SHARED,
    Const,
    Derived,
    Float,
    In,
    InBatch,
    InOut,
    Number,
    Operand,
    Out,
    Role,
    Shaped,
    Tables,
    Weight,
    fact,
    factors,
    stride,
)


@dataclass(frozen=True)
class Kernel:
    """A row: the module that defines the kernel, the roles of its operands, and the schemes that it is
    compiled for. UsageError for a row that no instruction could hold, or that names what it does not have.
    """

    module: str
    roles: tuple[Role, ...]
    schemes: tuple[str, ...] = ("",)  # "" where it reads neither weights nor cache
    plain: bool = False  # a C function of its own, not called through an instruction

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The words of an instruction, which are the kernel's own parameters."""
        return tuple(word for role in self.roles for word in role.words)

    @cached_property
    def given(self) -> frozenset[str]:
        """The names of what a recorder is given."""
        return frozenset(role.name for role in self.roles if not isinstance(role, Derived))

    @cached_property
    def shared(self) -> tuple[Operand, ...]:
        """The operands that instructions share."""
        return tuple(role for role in self.roles if isinstance(role, Operand))

    @cached_property
    def shaped(self) -> tuple[Shaped, ...]:
        """The operands whose columns the kernel takes to be as many as its numbers say."""
        return tuple(role for role in self.roles if isinstance(role, Shaped) and role.width)

    @cached_property
    def of_scheme(self) -> str:
        """The name of the operand for whose scheme the kernel is compiled, "" where there is none."""
        of = (
            r.name
            for r in self.roles
            if isinstance(r, Weight) or (isinstance(r, Operand) and r.form is CACHE)
        )
        return next(of, "")

    def __post_init__(self) -> None:
        words = self.operands
        if len(words) > OPERANDS_MAX:
            raise UsageError(
                f"a kernel of {self.module} has {len(words)} operands, at most {OPERANDS_MAX} fit."
            )
        named = [f for role in self.roles for size in role.sizes for f in factors(size) if isinstance(f, str)]
        derived = [name for role in self.roles if isinstance(role, Derived) for name in role.of]
        unknown = {*named} - {*words, *OUTSIDE} | {*derived} - self.given
        twice = {word for word in words if words.count(word) > 1}
        if unknown or twice:
            wrong = ", ".join(sorted(unknown | twice))
            raise UsageError(f"a kernel of {self.module} names operands twice or not at all: {wrong}.")


CODES = tuple(row.name for row in SCHEMES.values() if row.planes)  # schemes of weights: codes with scales
FLOATS = tuple(row.name for row in SCHEMES.values() if row.number)  # and floats
CACHED = ("f32", "f16")  # floats of a cache; its bytes are q8
FAR = ("q4m", "q2m")  # and codes of its far pages


WEIGHTS = Weight("weights")
IDS = In("ids", form=FLAT, item=8)
COUNT = InBatch("count_at")
EPSILON = Float("epsilon")
ADDED = Number("add"), COUNT
BIAS = Const("bias", ("tiles", TILE), optional=True)
PRODUCT = Out("y", ("tiles", TILE), adds="add")
FLOAT_PRODUCT = (
    In("x", "columns", count="read"),
    WEIGHTS,
    BIAS,
    PRODUCT,
    fact("tiles", "weights"),
    fact("columns", "weights"),
    *ADDED,
)

QUERY_ROWS = ("kv_heads", "rows")
KEYS_VALUES = ("keys", "key_scales", "values", "value_scales")
FAR_PARTS = {  # by what kernels are called where keys are codes as well, and where values alone are
    "": ("means", "mean_scales", "far_keys", "far_values"),
    "_values": ("near_keys", "near_scales", "far_values"),
}
FAR_SCHEMES = {"": FAR, "_values": FAR[:1]}
ALL_HEADS, KV_HEADS = ("heads", "head_dim"), ("kv_heads", "head_dim")
HEADS = (
    Number("heads"),
    fact("kv_heads", "cache"),
    fact("head_dim", "cache"),
    fact("pages_at", "cache"),
    Number("rows"),
)
SOURCE = (
    In("a", ALL_HEADS, GROUP),
    In("k", KV_HEADS, GROUP, form=SHARED),
    In("v", KV_HEADS, GROUP, form=SHARED),
    stride("kv_stride", "k", "v"),
    Const("centre", "head_dim", GROUP, "kv_heads"),
    Float("scaling"),
)
ATTENDED = Out("y", ALL_HEADS)
SOFTMAX = (fact("window", "cache"), Float("cap"), Const("sinks", "heads", optional=True), Number("whole"))
OWN_SCRATCH = Out("scratch", count="workers", form=SCRATCH)
WORKSPACE = (
    OWN_SCRATCH,
    Out("units", "block", count="units_max", form=SCRATCH, item=1, named=("units", "block")),
    Number("units_max"),
    InOut("finished", count=(TASKS, "workers"), form=FLAT, item=8),
)
ONE_HEAD = Out("scratch", "head_dim", GROUP, "workers", SCRATCH, before=Scratch.TURNED)
UNPACKED = Out("scratch", (ROOM, "groups", GROUP), count="workers", form=SCRATCH, item=1)


def plain(module: str, *operands: str) -> Kernel:
    """A row of a plain function, whose operands are addresses and numbers."""
    return Kernel(module, tuple(map(Number, operands)), plain=True)


ACTIVATIONS = ("silu", "gelu", "gelu_erf", "relu2")


def activation_rows() -> dict[str, Kernel]:
    """Of each activation, alone and as the gate of other rows, the kernels of float32 and of int8 rows."""
    forms = {"": (LINE, Out("y", "dim", LINE)), "_quantize": (GROUP, Out("x", "dim", form=INT8))}
    found = {}
    for name, (suffix, (step, result)) in itertools.product(ACTIVATIONS, forms.items()):
        found[f"{name}{suffix}"] = Kernel(
            "gates", (In("a", "dim", step), result, fact("dim", "a", "columns"))
        )
        found[f"gated_{name}{suffix}"] = Kernel(
            "gates",
            (
                In("gate", "dim", step, form=SHARED),
                In("up", "dim", step, form=SHARED),
                stride("stride", "gate", "up"),
                result,
                fact("dim", "gate", "columns"),
            ),
        )
    return found


KERNELS = {
    "run": plain("interpreter", "pool", "program", "length"),
    "enter": plain("interpreter", "own"),
    "block_tops": plain("logits.likelihood", "row", "count", "tops", "tail", "found"),
    "exponential_sum": plain("logits.likelihood", "row", "count", "top_bits", "tail", "found"),
    "weigh": plain(
        "logits.likelihood",
        *("row", "count", "top_bits", "factor_bits", "bound_bits", "last", "above_bits"),
        *("weights", "sums", "tail", "found"),
    ),
    "typicality": plain(
        "logits.likelihood",
        *("row", "count", "top_bits", "factor_bits", "mean_bits", "typical", "tops", "tail"),
    ),
    "blank": plain(
        "logits.likelihood",
        *("row", "logits", "count", "bound_bits", "last", "above_bits", "blanked", "tail"),
    ),
    "spread": plain("logits.likelihood", "row", "count", "centre_bits", "tail", "found"),
    "adapt": plain("logits.likelihood", "weights", "count", "share_bits", "target_bits", "row"),
    "descend": plain(
        "logits.selection",
        *("row", "weights", "count", "top_bits", "scale_bits", "steps", "histogram", "tail"),
    ),
    "at_step": plain(
        "logits.selection",
        *("row", "count", "top_bits", "scale_bits", "step", "steps", "places", "tail", "found"),
    ),
    "collect": plain(
        "logits.selection",
        *("row", "logits", "ids", "count", "bound_bits", "last", "above_bits", "tops"),
        *("kept_logits", "kept_ids", "found"),
    ),
    "allowed": plain("logits.selection", "mask", "logits", "count", "kept_logits", "kept_ids", "found"),
    "tally": plain("logits.repetition", "text", "length", "counts", "ids", "times", "found"),
    "repeats": plain("logits.repetition", "text", "length", "lengths"),
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
        (InOut("x", ALL_HEADS), Const("weight", "head_dim"), Number("heads"), Number("head_dim"), EPSILON),
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
    "store_int8": Kernel(
        "cache",
        (
            *SOURCE,
            Out("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            Out("cache", form=CACHE, named=KEYS_VALUES),
            *HEADS,
            ONE_HEAD,
        ),
        ("q8", *FAR),
    ),
    "store_float": Kernel(
        "cache",
        (
            *SOURCE,
            Out("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            Out("cache", form=CACHE, named=("keys", "values")),
            *HEADS,
        ),
        CACHED,
    ),
    "attend_int8": Kernel(
        "attention",
        (
            In("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            In("cache", form=CACHE, named=KEYS_VALUES),
            ATTENDED,
            *HEADS,
            *SOFTMAX,
            *WORKSPACE,
        ),
        ("q8",),
    ),
    "attend_float": Kernel(
        "attention",
        (
            In("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
            In("cache", form=CACHE, named=("keys", "values")),
            ATTENDED,
            *HEADS,
            *SOFTMAX,
            *WORKSPACE,
        ),
        CACHED,
    ),
    **{
        f"attend_coded{suffix}": Kernel(
            "far",
            (
                In("q", "head_dim", GROUP, QUERY_ROWS, FLAT),
                In("far", form=CACHE, named=words),
                In("cache", form=CACHE, named=KEYS_VALUES),
                ATTENDED,
                *HEADS,
                *SOFTMAX,
                *WORKSPACE,
            ),
            FAR_SCHEMES[suffix],
        )
        for suffix, words in FAR_PARTS.items()
    },
    **{
        f"narrow{suffix}": Kernel(
            "narrow",
            (
                Out("far", form=CACHE, named=words),
                In("cache", form=CACHE, named=KEYS_VALUES),
                fact("kv_heads", "far"),
                fact("head_dim", "far"),
                fact("pages_at", "far"),
                OWN_SCRATCH,
            ),
            FAR_SCHEMES[suffix],
        )
        for suffix, words in FAR_PARTS.items()
    },
}

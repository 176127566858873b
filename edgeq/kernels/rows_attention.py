"""Rows of the table: what stores keys and values, and attends to them."""

from __future__ import annotations

from .catalog import GROUP, TASKS, Scratch
from .roles import (
    CACHE,
    FLAT,
    SCRATCH,
    SHARED,
    Const,
    Float,
    In,
    InOut,
    Number,
    Operand,
    Out,
    fact,
    stride,
)
from .row import (
    ALL_HEADS,
    CACHED,
    FAR,
    KV_HEADS,
    Kernel,
)

QUERY_ROWS = ("kv_heads", "rows")
KEYS_VALUES = ("keys", "key_scales", "values", "value_scales")
FAR_PARTS = {  # by what kernels are called where keys are codes as well, and where values alone are
    "": ("means", "mean_scales", "far_keys", "far_values"),
    "_values": ("near_keys", "near_scales", "far_values"),
}
FAR_SCHEMES = {"": FAR, "_values": FAR[:1]}
QUERIES_OF = (In("a", ALL_HEADS, GROUP), Float("scaling"), Out("q", "head_dim", GROUP, QUERY_ROWS, FLAT))
SHAPE = (  # of a layer, of whose cache nothing is read or written
    Operand("cache", form=CACHE),
    Number("heads"),
    fact("kv_heads", "cache"),
    fact("head_dim", "cache"),
    Number("rows"),
)
SOURCE = (
    In("k", KV_HEADS, GROUP, form=SHARED),
    In("v", KV_HEADS, GROUP, form=SHARED),
    stride("kv_stride", "k", "v"),
    Const("centre", "head_dim", GROUP, "kv_heads"),
)
PAGED = (fact("kv_heads", "cache"), fact("head_dim", "cache"), fact("pages_at", "cache"))
HEADS = (Number("heads"), *PAGED, Number("rows"))
ATTENDED = Out("y", ALL_HEADS)
SOFTMAX = (
    fact("window", "cache"),
    Float("cap"),
    Const("sinks", "heads", optional=True),
    Number("whole"),
)
OWN_SCRATCH = Out("scratch", count="workers", form=SCRATCH)
WORKSPACE = (
    OWN_SCRATCH,
    Out("units", "block", count="units_max", form=SCRATCH, item=1, named=("units", "block")),
    Number("units_max"),
    InOut("finished", count=(TASKS, "workers"), form=FLAT, item=8),
)
ONE_HEAD = Out("scratch", "head_dim", GROUP, "workers", SCRATCH, before=Scratch.TURNED)


ATTENTION = {
    "store_int8": Kernel(
        "cache",
        (
            *SOURCE,
            Out("cache", form=CACHE, named=KEYS_VALUES),
            *PAGED,
            ONE_HEAD,
        ),
        ("q8", *FAR),
    ),
    "store_float": Kernel(
        "cache",
        (*SOURCE, Out("cache", form=CACHE, named=("keys", "values")), *PAGED),
        CACHED,
    ),
    "lay_int8": Kernel("cache", (*QUERIES_OF, *SHAPE, ONE_HEAD), ("q8", *FAR)),
    "lay_float": Kernel("cache", (*QUERIES_OF, *SHAPE), CACHED),
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

"""How far each kernel reaches from the addresses in its operands, in bytes, at the most.

A row per kernel, beside the catalog's, from an instruction's operands and the sizes of its program. It counts
every byte that is read or written, what means nothing included (see `arena`); between rows lie others. With
memory checked, a program is held against it before it runs, and kernels against the pages while they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.formats.schemes import ACT_GROUP, SCHEMES
from edgeq.kernels.catalog import Scratch, State

LINE = 64  # bytes of 16 float32, or of codes
Bytes = dict[str, int]


@dataclass(frozen=True)
class Sizes:
    """Of a program: tokens and outputs of a pass at the most, workers, positions of the rotary tables, tiles
    of the embedding.
    """

    limit: int
    outputs: int
    workers: int
    positions: int
    embedded: int


@dataclass(frozen=True)
class Call:
    """An instruction's numbers by the names of its operands, the scheme and tile it is compiled for, and the
    program's sizes.
    """

    operands: Mapping[str, int]
    scheme: str
    tokens: int
    sizes: Sizes

    def __getattr__(self, name: str) -> int:
        return self.operands[name]

    @property
    def count(self) -> int:
        """Rows that the instruction handles at the most."""
        only = self.operands.get("count_at", State.COUNT) == State.OUTPUTS
        return self.sizes.outputs if only else self.sizes.limit

    @property
    def value_bytes(self) -> int:
        return SCHEMES[self.scheme].itemsize

    @property
    def padded(self) -> int:
        """Dimensions of a head as queries and caches hold them."""
        return groups(self.head_dim) * 32


def groups(columns: int) -> int:
    return (columns + 31) // 32


def lines(columns: int) -> int:
    """Bytes of that many float32 in whole lines."""
    return (columns + 15) // 16 * LINE


def rows(count: int, stride: int, reach: int) -> int:
    """Bytes of rows a stride apart, of each of which `reach` are touched."""
    return (count - 1) * stride + reach if count else 0


def int8(count: int, columns: int) -> Bytes:
    n = count * groups(columns)
    return {"x": n * 32, "x_scale": n * 4, "x_sum": n * 4}


def codes(c: Call, tiles: int, n: int) -> Bytes:
    """Of a matrix of codes with n groups."""
    row = SCHEMES[c.scheme]
    return {"weights": tiles * n * ACT_GROUP * 16 * row.bits // 8, "scales": tiles * n * 32}


def floats(c: Call, tiles: int) -> Bytes:
    return {"weights": tiles * c.columns * 16 * c.value_bytes}


def result(c: Call) -> Bytes:
    """Of a product."""
    return {"bias": c.tiles * LINE if c.bias else 0, "y": rows(c.count, c.y_stride, c.tiles * LINE)}


def heads_read(c: Call) -> Bytes:
    """Queries, keys and values of a pass: the last head is read to the end of its last group."""
    last = c.padded - c.head_dim
    wide, narrow = ((n * c.head_dim + last) * 4 for n in (c.heads, c.kv_heads))
    limit = c.sizes.limit
    k = rows(limit, c.kv_stride, narrow)
    return {"a": rows(limit, c.a_stride, wide), "k": k, "v": k, "centre": c.kv_heads * c.padded * 4}


def queries(c: Call, item: int) -> Bytes:
    return {"q": c.kv_heads * c.rows * c.padded * item}


def queries_int8(c: Call) -> Bytes:
    n = c.kv_heads * c.rows * groups(c.head_dim)
    return {**queries(c, 1), "q_scale": n * 4, "q_sum": n * 4}


def cache_int8(c: Call) -> Bytes:
    n = c.kv_heads * c.capacity
    scales = n * groups(c.head_dim) * 4
    return {"keys": n * c.padded, "key_scales": scales, "values": n * c.padded, "value_scales": n * 4}


def cache_floats(c: Call) -> Bytes:
    n = c.kv_heads * c.capacity * c.padded * c.value_bytes
    return {"keys": n, "values": n}


def attended(c: Call) -> Bytes:
    scratch = rows(c.sizes.workers, c.scratch_stride, Scratch(c.tokens, c.head_dim).bytes)
    return {"y": rows(c.sizes.limit, c.y_stride, c.heads * c.head_dim * 4), "scratch": scratch}


def in_place(c: Call) -> Bytes:
    return {"x": rows(c.sizes.limit, c.x_stride, c.heads * c.head_dim * 4)}


def gated(c: Call, reach: int) -> Bytes:
    size = rows(c.sizes.limit, c.stride, reach)
    return {"gate": size, "up": size}


EXTENTS: dict[str, Callable[[Any], Bytes]] = {
    "embed": lambda c: {
        "ids": c.sizes.limit * 8,
        **codes(c, c.sizes.embedded, c.groups),
        "y": rows(c.sizes.limit, c.y_stride, c.groups * 128),
    },
    "embed_float": lambda c: {
        "ids": c.sizes.limit * 8,
        **floats(c, c.sizes.embedded),
        "y": rows(c.sizes.limit, c.y_stride, c.columns * 4),
    },
    "norm": lambda c: {
        "x": rows(c.sizes.limit, c.x_stride, lines(c.dim)),
        "weight": lines(c.dim),
        "y": rows(c.count, c.y_stride, lines(c.dim)),
    },
    "norm_quantize": lambda c: {
        "a": rows(c.sizes.limit, c.a_stride, groups(c.dim) * 128),
        "weight": groups(c.dim) * 128,
        **int8(c.count, c.dim),
    },
    "norm_heads": lambda c: {**in_place(c), "weight": c.head_dim * 4},
    "quantize": lambda c: {
        "a": rows(c.sizes.limit, c.a_stride, groups(c.dim) * 128),
        **int8(c.sizes.limit, c.dim),
    },
    "swiglu": lambda c: {
        **gated(c, lines(c.dim)),
        "y": rows(c.sizes.limit, c.y_stride, lines(c.dim)),
    },
    "swiglu_quantize": lambda c: {**gated(c, groups(c.dim) * 128), **int8(c.sizes.limit, c.dim)},
    "matmul": lambda c: {**int8(c.count, c.groups * 32), **codes(c, c.tiles, c.groups), **result(c)},
    "matmul_act": lambda c: {
        "x": rows(c.count, c.x_stride, c.columns * 4),
        **codes(c, c.tiles, groups(c.columns)),
        **result(c),
    },
    "matmul_float": lambda c: {
        "x": rows(c.count, c.x_stride, c.columns * 4),
        **floats(c, c.tiles),
        **result(c),
    },
    "argmax": lambda c: {
        "y": rows(c.count, c.y_stride, lines(c.columns)),
        "likeliest": c.count * 8,
    },
    "rotate": lambda c: {
        **in_place(c),
        **dict.fromkeys(("cosine", "sine"), c.sizes.positions * (c.head_dim // 2) * 4),
    },
    "store_int8": lambda c: {
        **heads_read(c),
        **queries_int8(c),
        **cache_int8(c),
        "scratch": rows(c.sizes.workers, c.scratch_stride, Scratch.TURNED + c.padded * 4),
    },
    "store_float": lambda c: {**heads_read(c), **queries(c, 4), **cache_floats(c)},
    "attend_int8": lambda c: {**queries_int8(c), **cache_int8(c), **attended(c)},
    "attend_float": lambda c: {**queries(c, 4), **cache_floats(c), **attended(c)},
}


def of(kernel: str, call: Call) -> Bytes:
    """Bytes from each address in the call's operands on."""
    return EXTENTS[kernel](call)

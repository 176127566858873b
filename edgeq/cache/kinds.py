"""The kinds of KV cache: what form keys and values have near a query and far from it, and what they take.

A page holds CHUNK positions. In the near form, token by token, they are floats or signed bytes
(`kernels.cache`); in the far one, made of a whole near page, keys and values or values alone are codes of a
scheme (`kernels.narrow`). A query reads the first page of its sequence, its own and the one before in the
near form and those between in the far one, so that the first CHUNK tokens and the last CHUNK and more have 8
bits. A kind without far schemes is near everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.errors import UnsupportedError, UsageError, quote, shown
from edgeq.formats.layout import round_up
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels.catalog import CHUNK, GROUP, TILE

FLOATS = {"f16": 2, "f32": 4}  # bytes of a near number that is a float


@dataclass(frozen=True)
class Kind:
    """A row of KINDS."""

    name: str
    near: str  # q8, or the format of floats
    keys: str = ""  # the scheme of far keys; "" where they stay as they are
    values: str = ""  # of far values
    experimental: bool = False

    @property
    def scaled(self) -> bool:
        """Whether near numbers are bytes with scales."""
        return self.near not in FLOATS

    @property
    def has_far(self) -> bool:
        return bool(self.values)

    @property
    def scheme(self) -> str:
        """What its kernels are compiled for."""
        return self.values or self.near

    @property
    def suffix(self) -> str:
        """Of the kernels of its far pages, as `rows_attention.FAR_PARTS` names them."""
        return "" if self.keys else "_values"

    def near_parts(self, kv_heads: int, head_dim: int) -> Mapping[str, int]:
        """Bytes of each part of a layer's near page, in the order that they lie in."""
        numbers = kv_heads * CHUNK * round_up(head_dim, GROUP)
        if not self.scaled:
            return dict.fromkeys(("keys", "values"), numbers * FLOATS[self.near])
        return {
            "keys": numbers,
            "key_scales": numbers // GROUP * 4,
            "values": numbers,
            "value_scales": kv_heads * CHUNK * 4,
        }

    def far_parts(self, kv_heads: int, head_dim: int) -> Mapping[str, int]:
        """The same of a far page, where there are such."""
        dims = round_up(head_dim, GROUP)
        values = kv_heads * dims // TILE * SCHEMES[self.values].tile_bytes(CHUNK)
        if not self.keys:
            near = self.near_parts(kv_heads, head_dim)
            return {"near_keys": near["keys"], "near_scales": near["key_scales"], "far_values": values}
        means = kv_heads * CHUNK // TILE * dims
        return {
            "means": means,
            "mean_scales": means // GROUP * 4,
            "far_keys": kv_heads * CHUNK // TILE * SCHEMES[self.keys].tile_bytes(dims),
            "far_values": values,
        }

    @property
    def bits(self) -> float:
        """Of a number of a long context, its share of scales included, with heads of 128."""
        parts = self.far_parts(1, 128) if self.has_far else self.near_parts(1, 128)
        return sum(parts.values()) * 8 / (2 * 128 * CHUNK)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("q8", "q8"),
        Kind("k8v4", "q8", values="q4m"),
        Kind("q4", "q8", keys="q4m", values="q4m"),
        Kind("q2", "q8", keys="q2m", values="q2m", experimental=True),
        Kind("f16", "f16"),
        Kind("f32", "f32"),
    )
}
DEFAULT = "q8"


def kind_of(name: object) -> Kind:
    """The kind of that name; UsageError for another."""
    if not isinstance(name, str) or name not in KINDS:
        raise UsageError(f"kv is {shown(name)}, but a KV cache is one of {', '.join(KINDS)}.")
    return KINDS[name]


def stored(header: Mapping[str, Any]) -> str:
    """The kind of cache that a file's header asks for, DEFAULT where it names none. UnsupportedError for one
    that there is not.
    """
    kind = (header.get("cache") or {}).get("kind", DEFAULT)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnsupportedError(
            f"the file asks for the KV cache {quote(kind)}, but this version knows {', '.join(KINDS)}: "
            "upgrade edgeq, or name one of them"
        )
    return kind

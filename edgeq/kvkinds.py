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

from edgeq.errors import UnsupportedError, quote
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels.catalog import CHUNK, GROUP, TILE

FLOATS = {"f16": 2, "f32": 4}  # bytes of a near number that is a float
NEAR_PAGES = 3  # at the most, of a sequence of any length: the first, the last and the one before


@dataclass(frozen=True)
class Kind:
    """A row of KINDS."""

    name: str
    near: str  # q8, or the format of floats
    keys: str = ""  # the scheme of far keys; "" where they stay as they are
    values: str = ""  # of far values
    experimental: bool = False

    @property
    def has_far(self) -> bool:
        return bool(self.values)

    @property
    def scheme(self) -> str:
        """What its kernels are compiled for."""
        return self.values or self.near

    @property
    def suffix(self) -> str:
        """Of the kernels of its far pages, as `catalog.FAR_PARTS` names them."""
        return "" if self.keys else "_values"

    def near_parts(self, kv_heads: int, dims: int) -> dict[str, int]:
        """Bytes of each part of a layer's near page; dims are the head's, padded to GROUP."""
        numbers = kv_heads * CHUNK * dims
        if self.near in FLOATS:
            return dict.fromkeys(("keys", "values"), numbers * FLOATS[self.near])
        return {
            "keys": numbers,
            "key_scales": numbers // GROUP * 4,
            "values": numbers,
            "value_scales": kv_heads * CHUNK * 4,
        }

    def far_parts(self, kv_heads: int, dims: int) -> dict[str, int]:
        """The same of a far page; `keys` and `key_scales` are those of the near page it was made of."""
        if not self.has_far:
            return self.near_parts(kv_heads, dims)
        values = kv_heads * dims // TILE * SCHEMES[self.values].tile_bytes(CHUNK)
        if not self.keys:
            near = self.near_parts(kv_heads, dims)
            return {"keys": near["keys"], "key_scales": near["key_scales"], "far_values": values}
        means = kv_heads * CHUNK // TILE * dims
        return {
            "means": means,
            "mean_scales": means // GROUP * 4,
            "far_keys": kv_heads * CHUNK // TILE * SCHEMES[self.keys].tile_bytes(dims),
            "far_values": values,
        }

    def page_bytes(self, layers: int, kv_heads: int, dims: int) -> tuple[int, int]:
        """Bytes of a near page of all layers, and of a far one."""
        near, far = self.near_parts(kv_heads, dims), self.far_parts(kv_heads, dims)
        return layers * sum(near.values()), layers * sum(far.values())

    def token_bytes(self, layers: int, kv_heads: int, head_dim: int) -> int:
        """Bytes of one more token of a long context, rounded up."""
        _, far = self.page_bytes(layers, kv_heads, -(-head_dim // GROUP) * GROUP)
        return -(-far // CHUNK)

    def context_bytes(self, layers: int, kv_heads: int, head_dim: int, tokens: int) -> int:
        """Bytes of so many tokens in whole pages."""
        near, far = self.page_bytes(layers, kv_heads, -(-head_dim // GROUP) * GROUP)
        pages = -(-tokens // CHUNK)
        few = min(pages, NEAR_PAGES)
        return few * near + (pages - few) * far

    @property
    def bits(self) -> float:
        """Of a number of a long context, its share of scales included, with heads of 128."""
        return self.page_bytes(1, 1, 128)[1] * 8 / (2 * 128 * CHUNK)


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

"""The kinds of KV cache: how keys and values are held. `kernels.cache` describes what lies where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.errors import UsageError, shown
from edgeq.formats.layout import round_up
from edgeq.kernels.catalog import CHUNK, GROUP


@dataclass(frozen=True)
class Kind:
    """A row: `scheme` is what its kernels are compiled for, `number` the bytes of a key's or value's number,
    and `scaled` whether such numbers have scales.
    """

    name: str
    scheme: str
    number: int
    scaled: bool = False

    def parts(self, kv_heads: int, head_dim: int) -> Mapping[str, int]:
        """Bytes of each part of a page that holds CHUNK positions of such heads, in the order that they lie
        in.
        """
        dims = round_up(head_dim, GROUP)
        heads = kv_heads * CHUNK  # keys or values
        if not self.scaled:
            return {"keys": heads * dims * self.number, "values": heads * dims * self.number}
        return {
            "keys": heads * dims * self.number,
            "key_scales": heads * (dims // GROUP) * 4,
            "values": heads * dims * self.number,
            "value_scales": heads * 4,
        }


KINDS = {
    row.name: row for row in (Kind("q8", "q8", 1, scaled=True), Kind("f16", "f16", 2), Kind("f32", "f32", 4))
}


def kind_of(name: object) -> Kind:
    """The kind of that name; UsageError for another."""
    if not isinstance(name, str) or name not in KINDS:
        raise UsageError(f"kv is {shown(name)}, but a KV cache is one of {', '.join(KINDS)}.")
    return KINDS[name]

"""Attention over a layer's cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.kernels.catalog import Scratch
from edgeq.runtime.arena import padded
from edgeq.runtime.weights import Vector

if TYPE_CHECKING:
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.instructions import CacheLayer
    from edgeq.runtime.recorder import Recorder


def attend(
    p: Recorder,
    q: Rows,
    k: Rows,
    v: Rows,
    cache: CacheLayer,
    *,
    window: int | None = None,
    centre: np.ndarray | None = None,
) -> Rows:
    """[tokens, heads * head_dim]: causal attention of q, of that shape, over the layer's cache, after k and
    v, [tokens, kv_heads * head_dim], were written to it; with a window, over the last so many positions.

    centre, float32 [kv_heads, head_dim], is taken from every key before it is rounded. It changes the
    scores of a query by one number, and so nothing but rounding: the nearer to all keys, the better.
    """
    s, kv_heads, head_dim = p.settings, cache.kv_heads, cache.head_dim
    share = q.columns // head_dim // kv_heads
    rows = s.limit * share + s.tokens  # queries of a key-value head, and what a last tile reads beyond
    int8 = cache.scheme == "q8"
    kind = "int8" if int8 else "float"
    scratch = p.workspace(Scratch(s.tokens, head_dim).bytes)
    common: dict[str, Any] = dict(
        q=p.floats(head_dim, kv_heads * rows),
        cache=cache,
        heads=share * kv_heads,
        rows=rows,
    )
    p.emit(
        f"store_{kind}",
        a=q,
        k=k,
        v=v,
        centre=_centre(cache, centre),
        scaling=1.0 / math.sqrt(head_dim),
        **common,
        **(dict(scratch=scratch) if int8 else {}),
    )
    y = p.rows(q.columns)
    p.emit(f"attend_{kind}", y=y, window=window or 0, scratch=scratch, **common)
    return y


def _centre(cache: CacheLayer, centre: np.ndarray | None) -> Vector:
    """[kv_heads, head_dim padded to groups], zeros where there is none."""
    rows = np.zeros((cache.kv_heads, padded(cache.head_dim)), np.float32)
    if centre is not None:
        rows[:, : cache.head_dim] = centre
    return Vector(f"the centre of layer {cache.layer}", rows.reshape(-1))

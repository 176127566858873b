"""Attention over a layer's cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import UsageError
from edgeq.kernels.catalog import TASKS, Scratch
from edgeq.runtime.arena import Buffer, Workspace, padded
from edgeq.runtime.weights import Vector

if TYPE_CHECKING:
    from edgeq.cache import CacheLayer
    from edgeq.runtime.arena import Rows
    from edgeq.runtime.recorder import Recorder

UNITS = 512  # of attention that a pass may be shared in, where no single sequence has more


def attend(
    p: Recorder,
    q: Rows,
    k: Rows | None,
    v: Rows | None,
    cache: CacheLayer,
    *,
    scale: float | None = None,
    centre: np.ndarray | None = None,
    cap: float | None = None,
    sinks: Vector | None = None,
    whole: bool = False,
) -> Rows:
    """[rows, heads * head_dim]: causal attention of q, of that shape, over the layer's cache, after k and v,
    [rows, kv_heads * head_dim], were written to it (`store`), or, where these are None, after this layer's or
    another's were, whose cache it is; over as many positions as the layer's window says. With `whole` it is
    not causal: each row sees all rows of its sequence that the pass has, and what was before.

    Products of queries and keys are multiplied by `scale`, by default 1 / sqrt(head_dim); `centre` is as of
    `store`.

    With a `cap` (Gemma 2) these products become cap * tanh(product / cap) before the softmax; None and 0 are
    no cap. sinks, float32 [heads] (gpt-oss), are one product more for each query head that the softmax is
    taken over, and whose value is zeros. Both are of more than differences of scores, so there is no centre
    beside them. UsageError for that, for a cap that is negative or no number, for sinks that are not one for
    each head, and for a window beside `whole`.
    """
    if whole and cache.window:
        raise UsageError("attention to all of a text has no window.")
    if not 0 <= (cap or 0) < math.inf:
        raise UsageError(f"attention's cap is {cap}, where a number above 0 is needed, or None.")
    if centre is not None and (cap or sinks is not None):
        raise UsageError("attention has a centre of keys beside a cap or sinks, which allow none.")
    s, kv_heads, head_dim = p.settings, cache.kv_heads, cache.head_dim
    share = q.columns // head_dim // kv_heads
    rows = p.limit * share + s.tokens  # queries of a key-value head, and what a last tile reads beyond
    int8, far = cache.kind.scaled, {"far": cache.far} if cache.far else {}
    kind = "int8" if int8 else "float"
    room = Scratch(s.tokens, head_dim)
    scratch = p.workspace(room.bytes)
    common: dict[str, Any] = dict(
        q=p.floats(head_dim, kv_heads * rows),
        cache=cache,
        heads=share * kv_heads,
        rows=rows,
    )
    if k is not None and v is not None:
        store(p, k, v, cache, centre=centre)
    p.emit(
        f"lay_{kind}",
        a=q,
        scaling=1.0 / math.sqrt(head_dim) if scale is None else scale,
        **common,
        **(dict(scratch=scratch) if int8 else {}),
    )
    y = p.rows(q.columns)
    units = _units(p)
    p.emit(
        f"attend_coded{cache.kind.suffix}" if far else f"attend_{kind}",
        **far,
        y=y,
        cap=cap or 0.0,
        sinks=sinks,
        whole=int(whole),
        scratch=scratch,
        units=Workspace(Buffer(units * room.block), room.block),
        units_max=units,
        finished=p.finished,
        **common,
    )
    return y


def store(p: Recorder, k: Rows, v: Rows, cache: CacheLayer, *, centre: np.ndarray | None = None) -> None:
    """Write keys and values, [rows, kv_heads * head_dim], into the layer's cache. centre, float32 [kv_heads,
    head_dim], is taken from every key before it is rounded. It changes the scores of a query by one number,
    and so nothing but rounding: the nearer to all keys, the better.
    """
    given: dict[str, Any] = dict(k=k, v=v, centre=_centre(cache, centre), cache=cache)
    if cache.kind.scaled:
        room = Scratch(p.settings.tokens, cache.head_dim)
        p.emit("store_int8", scratch=p.workspace(room.bytes), **given)
    else:
        p.emit("store_float", **given)


def narrow(p: Recorder, cache: CacheLayer) -> None:
    """A far page of the layer from a near one, for each segment of the pass, whose pages are the two."""
    room = Scratch(p.settings.tokens, cache.head_dim).bytes
    p.emit(f"narrow{cache.kind.suffix}", far=cache.far, cache=cache, scratch=p.workspace(room))


def _units(p: Recorder) -> int:
    """Room for so many units: for those of the longest sequence and, where they are not too many, for those
    of all tasks that are shared in units.
    """
    pages = p.plan.pages if p.plan else 1
    return 0 if pages == 1 else min(TASKS * p.settings.workers * pages, max(2 * pages, UNITS))


def _centre(cache: CacheLayer, centre: np.ndarray | None) -> Vector:
    """[kv_heads, head_dim padded to groups], zeros where there is none."""
    rows = np.zeros((cache.kv_heads, padded(cache.head_dim)), np.float32)
    if centre is not None:
        rows[:, : cache.head_dim] = centre
    return Vector("the centre of a layer's keys", rows.reshape(-1))

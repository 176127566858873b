"""Attention over a cache of any kind in NumPy, under any rule of which positions a query reads coded.

Keys and values are what `edgeq.kernels.meaning` and `meaning_far` make of them, decoded; queries and
probabilities are rounded as there. Sums are float32 in NumPy's order: the same numbers, not the same bits.
Two things the engine does not do: a rule may call any position far, and so each position has both forms; and
far values of positions that a query may not see yet share a scale with those that it sees, where the rule has
far positions so near.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.forward import Array
from edgeq.cache import Kind
from edgeq.formats import dequantize
from edgeq.formats.schemes import SCHEMES
from edgeq.kernels import meaning, meaning_attention, meaning_far
from edgeq.kernels.catalog import CHUNK, TILE
from edgeq.kernels.meaning_attention import WIDE_MAX, rounded


@dataclass(frozen=True)
class Rule:
    """Near are the `first` positions, and those from `last` before the end of the query's step of `step`."""

    name: str
    first: int
    last: int
    step: int = 1

    def far(self, own: Array, there: Array) -> Array:
        """bool [queries, positions]: what queries at the positions `own` read in the far form, were it all
        before them.
        """
        end = (own // self.step + 1) * self.step
        return (there >= self.first) & (there < (end - self.last)[:, None])


def chunks(positions: int) -> Iterator[Array]:
    """The positions, a chunk at a time."""
    for start in range(0, positions, CHUNK):
        yield np.arange(start, min(start + CHUNK, positions))


def exact(q: Array, k: Array, v: Array) -> Array:
    """`forward.Attend` over float32."""
    count, heads, dims = q.shape
    out = np.empty(q.shape, np.float32)
    share = heads // k.shape[1]
    for h in range(heads):
        key, value = k[:, h // share], v[:, h // share]
        for own in chunks(count):
            before = slice(0, own[-1] + 1)
            scores = (q[own, h] @ key[before].T) * np.float32(1 / math.sqrt(dims))
            scores = np.where(np.arange(before.stop) <= own[:, None], scores, -np.inf)
            p = np.exp(scores - scores.max(1, keepdims=True))
            out[own, h] = (p @ value[before]) / p.sum(1, keepdims=True)
    return out


@dataclass(frozen=True)
class Coded:
    """`forward.Attend` over a kind of cache whose near form is q8; without a rule all is near."""

    kind: Kind
    rule: Rule | None

    def __call__(self, q: Array, k: Array, v: Array) -> Array:
        count, heads, head_dim = q.shape
        if count % CHUNK:
            raise ValueError(f"a window has {count} positions, but far pages are of {CHUNK}")
        kv_heads, scaling = k.shape[1], 1.0 / math.sqrt(head_dim)
        query = meaning_attention.lay_int8(q, scaling)
        near = meaning_attention.store_int8(k, v, np.zeros_like(k[0]))
        queries = query.x * query.x_scale[..., None]
        coarse = queries
        if self.rule and self.kind.keys:
            coarse = np.concatenate([_values(meaning_far.coarse(q, scaling)), queries], -1)
        share, out = heads // kv_heads, np.empty(queries.shape, np.float32)
        for i, pages in enumerate(self.pages(near, head_dim)):
            mine = slice(i * share, (i + 1) * share)
            turned = self.attend(queries[:, mine].swapaxes(0, 1), coarse[:, mine].swapaxes(0, 1), pages)
            out[:, mine] = turned.swapaxes(0, 1)
        return meaning_attention.turn(out)[..., :head_dim]

    def pages(self, near: meaning_attention.Stored, head_dim: int) -> Iterator[Pages]:
        """What each key-value head holds."""
        count, kv_heads, dims = near.keys.shape
        keys, key_scales, values, value_scales = (
            part.swapaxes(0, 1).reshape(kv_heads * count, *part.shape[2:]) for part in near
        )
        near_keys = keys.reshape(*key_scales.shape, -1) * key_scales[..., None]
        parts = [near_keys.reshape(keys.shape), values.astype(np.float32), value_scales]
        far_keys, far_values = parts[:2]
        if self.rule and self.kind.keys:
            scheme = SCHEMES[self.kind.keys]
            means, scales, left = meaning_far.far_keys(keys, key_scales, scheme, head_dim)
            of_tiles = (means.reshape(*scales.shape, -1) * scales[..., None]).reshape(means.shape)
            far_keys = np.concatenate([dequantize(left, scheme), np.repeat(of_tiles, TILE, axis=0)], -1)
        if self.rule:
            scheme = SCHEMES[self.kind.values]
            coded = dequantize(meaning_far.far_values(values, value_scales, scheme), scheme).T
            far_values = coded / np.float32(meaning_attention.block(dims))
        for i in range(kv_heads):
            yield Pages(*(part[i * count : (i + 1) * count] for part in (*parts, far_keys, far_values)))

    def attend(self, q: Array, coarse: Array, held: Pages) -> Array:
        """float32 [heads, positions, dims], turned, of queries [heads, positions, dims] that share keys and
        values: softmax over chunks, merged.
        """
        out = np.empty(q.shape, np.float32)
        for own in chunks(q.shape[1]):
            before = chunks(int(own[-1]) + 1)
            met = [self.meet(q[:, own], coarse[:, own], held, own, there) for there in before]
            tops, totals, sums = (np.stack(parts) for parts in zip(*met, strict=True))
            weights = np.exp(tops - tops.max(0))
            out[:, own] = (weights * sums).sum(0) / (weights * totals).sum(0)
        return out

    def meet(
        self, q: Array, coarse: Array, held: Pages, own: Array, there: Array
    ) -> tuple[Array, Array, Array]:
        """Of queries at the positions `own` and the chunk `there`: the largest scores, the sums of
        exponentials of what scores are below these, and of values times them.
        """
        seen = there <= own[:, None]
        far = seen & self.rule.far(own, there) if self.rule else np.zeros_like(seen)
        near = seen & ~far
        if not self.kind.keys or not far.any():
            scores = q @ held.near_keys[there].T
        else:
            scores = coarse @ held.far_keys[there].T
            if near.any():
                scores = np.where(near, q @ held.near_keys[there].T, scores)
        if not seen.all():
            scores = np.where(seen, scores, -np.inf)
        top = scores.max(-1, keepdims=True)
        p = np.exp(scores - top)
        sums = np.zeros_like(q)
        if near.any():
            numbers, step = rounded(p * near * held.value_scales[there], WIDE_MAX)
            sums += numbers.astype(np.float32) @ held.near_values[there] * step[..., None]
        if far.any():
            sums += _values(meaning.quantize(p * far)) @ held.far_values[there]
        return top, p.sum(-1, keepdims=True), sums


@dataclass(frozen=True)
class Pages:
    """What a head holds in both forms, float32 and turned. Far keys are codes beside the means of their tiles
    where these are coded, [positions, 2 * dims].
    """

    near_keys: Array  # [positions, dims]
    near_values: Array  # [positions, dims], to be multiplied by their scales
    value_scales: Array  # [positions]
    far_keys: Array
    far_values: Array  # [positions, dims]


def _values(rows: meaning.Int8) -> Array:
    """float32 of int8 rows [..., columns], a multiple of 32."""
    return (rows.x.reshape(*rows.x_scale.shape, -1) * rows.x_scale[..., None]).reshape(rows.x.shape)

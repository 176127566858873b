"""What `narrow` and `far` compute, in plain NumPy: see `meaning`, whose conventions hold here too."""

from __future__ import annotations

from itertools import count as count_from
from typing import Any, NamedTuple

import numpy as np

from edgeq.formats.schemes import Parts, Scheme

from . import meaning, meaning_attention
from .catalog import CHUNK, GROUP, TILE
from .meaning import F32, Array, Int8, fma, fold, quantize
from .meaning_attention import PLAIN, NearHead, Query, Softmax, Stored, between, block, rounded, turn

CANDIDATES, SHARE = 5, F32(0.02)


class Far(NamedTuple):
    """A page of one key-value head: the means of its tiles' keys, int8 [tiles, dims] with scales [tiles,
    groups], and its keys less these [CHUNK, dims] and values [dims, CHUNK], parts of a scheme each. Without
    means keys are int8 [CHUNK, dims] with scales [CHUNK, groups].
    """

    means: Array | None
    mean_scales: Array | None
    keys: Any
    values: Parts


# ---- narrowing ----
def far_keys(keys: Array, key_scales: Array, scheme: Scheme, head_dim: int) -> tuple[Array, Array, Parts]:
    """Of int8 keys [positions, dims] of a head and their scales [positions, groups] the means of tiles, their
    scales, and what is left as parts of the scheme.
    """
    dims = keys.shape[1]
    grouped = -1, TILE, dims // GROUP, GROUP
    found = keys.astype(F32).reshape(grouped) * key_scales.reshape(-1, TILE, dims // GROUP, 1)
    means = fold(found.swapaxes(1, 3)).swapaxes(1, 2) * F32(1 / TILE)  # [tiles, groups, GROUP]
    codes, scales = rounded(means, 127, between(head_dim).reshape(-1, GROUP))
    left = found - (codes.astype(F32) * scales[..., None])[:, None]
    parts = round_groups(left.reshape(-1, GROUP), scheme)
    rows = {name: part.reshape(len(keys), -1) for name, part in parts.items()}
    return codes.reshape(-1, dims).astype(np.int8), scales, rows


def far_values(values: Array, value_scales: Array, scheme: Scheme) -> Parts:
    """Of int8 values [positions, dims] of a head and their scales [positions] the parts [dims, positions],
    times the block; GROUP positions share a scale.
    """
    dims = values.shape[1]
    found = values.astype(F32) * (value_scales * F32(block(dims)))[:, None]
    parts = round_groups(np.ascontiguousarray(found.T).reshape(-1, GROUP), scheme)
    return {name: part.reshape(dims, -1) for name, part in parts.items()}


def round_groups(x: Array, scheme: Scheme) -> dict[str, Array]:
    """The parts of float32 [n, 32] with the least squared error among scales that leave out 0, 2, 4, 6 or 8 %
    of the range at both ends; of equal ones the first.
    """
    top = F32((1 << scheme.bits) - 1)
    with np.errstate(all="ignore"):
        total = x[:, 0]
        for c in range(1, GROUP):
            total = total + x[:, c]
        low, high = np.fmin.reduce(x, 1), np.fmax.reduce(x, 1) + (total - total)
        span = high - low
        best_scale, best_min = span * (F32(1) / top), low
        least = np.full(len(x), np.inf, F32)
        for n in range(CANDIDATES):
            cut = F32(n) * SHARE
            scale = (span * ((F32(1) - (cut + cut)) / top)).astype(np.float16).astype(F32)
            minimum = (low + span * cut).astype(np.float16).astype(F32)
            codes = _codes(x, scale, minimum, top)
            error = np.zeros(len(x), F32)
            for c in range(GROUP):
                off = fma(codes[:, c], scale, minimum) - x[:, c]
                error = fma(off, off, error)
            better = error < least
            least = np.where(better, error, least)
            best_scale = np.where(better, scale, best_scale)
            best_min = np.where(better, minimum, best_min)
        stored = {"scale": best_scale.astype(np.float16), "min": best_min.astype(np.float16)}
        codes = _codes(x, stored["scale"].astype(F32), stored["min"].astype(F32), top)
    return {"codes": codes.astype(np.uint8), **{name: part[:, None] for name, part in stored.items()}}


def _codes(x: Array, scale: Array, minimum: Array, top: Any) -> Array:
    """The nearest codes, as float32; 0 where there is no number."""
    inverse = np.where(scale > 0, F32(1) / scale, F32(0)).astype(F32)
    codes = np.rint((x - minimum[:, None]) * inverse[:, None])
    return np.where(codes > 0, np.minimum(codes, top), F32(0))


def narrow(near: Stored, scheme: Scheme, head_dim: int) -> list[Far]:
    """A page of each key-value head, of a near page of CHUNK positions."""
    pages = []
    for i in range(near.keys.shape[1]):
        keys, key_scales, values, value_scales = (part[:, i] for part in near)
        coded = far_keys(keys, key_scales, scheme, head_dim)
        pages.append(Far(*coded, far_values(values, value_scales, scheme)))
    return pages


def narrow_values(near: Stored, scheme: Scheme) -> list[Far]:
    """The same, where keys stay as they are."""
    pages = []
    for i in range(near.keys.shape[1]):
        keys, key_scales, values, value_scales = (part[:, i] for part in near)
        pages.append(Far(None, None, (keys, key_scales), far_values(values, value_scales, scheme)))
    return pages


# ---- attention ----
def is_far(chunk: int, own: int) -> bool:
    """Whether a query of chunk `own` reads a chunk in the far form: all but the first and the last two."""
    return 0 < chunk < own - 1


def coarse(a: Array, scaling: float) -> Int8:
    """Queries [count, heads, head_dim] as far keys are multiplied by, int8 with a scale for 32."""
    inverse = F32(1.0 / block(-(-a.shape[-1] // GROUP) * GROUP))
    return quantize(turn(meaning_attention.padded(a * F32(F32(scaling) * inverse))))


def attend_coded(
    q: Query, low_q: Int8, cache: Stored, pages: dict[int, list[Far]], scheme: Scheme, position: int,
    softmax: Softmax = PLAIN,
) -> Array:  # fmt: skip
    """As `attend_int8`; low_q is what `coarse` gives, and `pages` has the far ones by the number of their
    chunk. The queries are all of one chunk.
    """
    count, heads, dims = q.x.shape
    share = heads // cache.keys.shape[1]
    out = np.empty((count, heads, dims), F32)
    for h in range(heads):
        i = h // share
        query, low = Query(*(part[:, h] for part in q)), Int8(*(part[:, h] for part in low_q))
        near = NearHead(query, Stored(*(part[:, i] for part in cache)))
        far = {chunk: FarHead(query, low, page[i], scheme) for chunk, page in pages.items()}

        heads_of = (far[n] if is_far(n, position // CHUNK) else near for n in count_from(0))
        sums, total = meaning_attention.attend_chunks(heads_of, count, dims, position, h, softmax)
        out[:, h] = turn(sums) / total[:, None]
    return out


attend_coded_values = attend_coded  # of pages that `narrow_values` gives


class FarHead:
    """A far page; parts of `q` and `low_q` without the axis of heads. A step of scores is 1 where keys are
    codes.
    """

    def __init__(self, q: Query, low_q: Int8, page: Far, scheme: Scheme):
        self.q, self.low_q, self.page, self.scheme = q, low_q, page, scheme
        self.scale = q.x_scale if page.means is None else np.ones(len(q.x), F32)

    def scores(self, at: slice) -> Array:
        means, scales = self.page.means, self.page.mean_scales
        if means is None or scales is None:
            return meaning_attention.key_scores(self.q.x, *self.page.keys)
        of_means = meaning_attention.key_scores(self.q.x, means, scales) * self.q.x_scale[:, None]
        return meaning.matmul(self.low_q, self.page.keys, self.scheme, add=np.repeat(of_means, TILE, axis=1))

    def exponentials(self, below: Array, scale: Array) -> Array:
        return meaning.exp2(below * (scale * meaning_attention.LOG2_E)[:, None])

    def weighted(self, p: Array, seen: Array, at: slice) -> tuple[Array, Array]:
        sums = meaning.matmul(quantize(np.where(seen, p, F32(0.0))), self.page.values, self.scheme)
        return sums, np.full(len(p), F32(1.0) / F32(block(sums.shape[1])))

"""What prefixes that are kept have to know of pages: which a sequence needs to go on, and where its positions
lie.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgeq.formats.layout import round_up
from edgeq.kernels.catalog import CHUNK, GROUP, TILE

from .plan import CacheLayer, Plan, is_far
from .table import forms

Axes = tuple[tuple[int, ...], dict[int, int]]  # a part's shape; of each axis with positions their distance


class PageLayout:
    """The pages of a plan, by the names of `table.forms`: `edgeq.prefix.Layout`."""

    chunk = CHUNK

    def __init__(self, plan: Plan):
        self._plan = plan
        self._near = {forms(group.number)[0]: group for group in plan.groups}
        self._far = {forms(group.number)[1]: group for group in plan.groups if group.far_bytes}

    def nbytes(self, form: str) -> int | None:
        """Bytes of a page of that form; None where there is no such form."""
        if form in self._near:
            return self._near[form].nbytes
        return self._far[form].far_bytes if form in self._far else None

    def needed(self, at: int, length: int) -> list[str]:
        """The forms in which a sequence of `length` tokens, as its last pass left it, has chunk `at`."""
        own = (length - 1) // CHUNK
        return [
            forms(group.number)[bool(group.far_bytes and is_far(at, own))]
            for group in self._plan.groups
            if at >= group.seen_from(length)
        ]

    def blank(self, form: str, page: NDArray[np.uint8], filled: int) -> None:
        """Make zeros of what a near page holds of its positions from `filled` on; far ones are whole."""
        group = self._near.get(form)
        for layer in self._plan.layers if group else ():
            if layer.group is group:
                _blank(layer, page, filled)

    def describe(self) -> str:
        """All that settles where what lies on a page."""
        groups = [(group.window, group.nbytes, group.far_bytes) for group in self._plan.groups]
        layers = [(c.group.number, c.kv_heads, c.head_dim, c.words) for c in self._plan.layers]
        return f"{self._plan.kind} {groups} {layers}"


def _blank(layer: CacheLayer, page: NDArray[np.uint8], filled: int) -> None:
    for (shape, axes), first, last in zip(_parts(layer), layer.words, layer.ends, strict=True):
        held = page[first:last]
        held = held.reshape(*shape, -1)  # the last axis: bytes of a number
        positions = np.zeros((1,) * held.ndim, np.int64)
        for axis, distance in axes.items():
            own = [1] * held.ndim
            own[axis] = shape[axis]
            positions = positions + np.arange(shape[axis]).reshape(own) * distance
        np.copyto(held, 0, where=positions >= filled)


def _parts(layer: CacheLayer) -> Iterator[Axes]:
    """As `kernels.cache` lays them out, in the order of the layer's parts."""
    heads, dims = layer.kv_heads, round_up(layer.head_dim, GROUP)
    tiles, groups = CHUNK // TILE, dims // GROUP
    if not layer.kind.scaled:
        yield (heads, tiles, dims, TILE), {1: TILE, 3: 1}
        yield (heads, CHUNK, dims), {1: 1}
        return
    yield (heads, tiles, groups, GROUP // 4, TILE, 4), {1: TILE, 4: 1}
    yield (heads, tiles, groups, TILE), {1: TILE, 3: 1}
    yield (heads, CHUNK // GROUP, dims // TILE, GROUP // 4, TILE, 4), {1: GROUP, 3: 4, 5: 1}
    yield (heads, CHUNK), {1: 1}

"""What prefixes that are kept have to know of pages: which a sequence needs to go on, and where its positions
lie.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from edgeq.formats.layout import round_up
from edgeq.kernels.catalog import CHUNK, GROUP, TILE

from .plan import CacheLayer, Plan, is_far
from .table import forms, state_filled, state_form

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
        if self.exact(form):
            return self._plan.state_bytes
        return self._far[form].far_bytes if form in self._far else None

    def needed(self, at: int, length: int) -> list[str]:
        """The forms in which a sequence of `length` tokens, as its last pass left it, has chunk `at`."""
        own = (length - 1) // CHUNK
        needed = [
            forms(group.number)[bool(group.far_bytes and is_far(at, own))]
            for group in self._plan.groups
            if at >= group.seen_from(length)
        ]
        return [*needed, state_form(length - at * CHUNK)] if self._plan.state_bytes and at == own else needed

    def ends(self, at: int, length: int, held: Callable[[int], Collection[str]]) -> list[int]:
        """Of the first `length` tokens, where a sequence may go on within chunk `at`, the last place first:
        where there are states at those whose pages are held. `edgeq.prefix.pages.Layout` says more.
        """
        first = at * CHUNK
        if not self._plan.state_bytes:
            return [first + CHUNK - 1, first] if first + CHUNK <= length else [length, first]
        forms = held(at) if first < length else ()
        ends = {first, *(first + state_filled(form) for form in forms)}
        return sorted((n for n in ends if n <= length), reverse=True)

    def exact(self, form: str) -> bool:
        """Whether a page of that form holds what stands behind so many tokens of its chunk, so that no more
        is written to it, and it serves every chunk that begins with them.
        """
        return bool(self._plan.state_bytes and state_filled(form))

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
        return f"{self._plan.kind} {groups} {layers} {self._plan.state_bytes or ''}".rstrip()


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

"""What a page holds: the layers that a model's program writes to the cache, one after another.

Layers whose queries see equally far back share pages: a *group*. A page of a group with a window is of no
more use once all that it holds is behind the window. Where the kind of cache has far pages (`kinds`), a group
has pages of two forms.

Recurrent layers keep a state, which does not grow with the sequence: a page holds those of all of them after
some tokens. Each pass reads one and leaves another, so that what is broken off changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, overload

from edgeq.formats.layout import round_up
from edgeq.kernels.catalog import CHUNK

from .kinds import Kind
from .states import StateLayer

ALIGNMENT = 64  # of each part
PASS = 256  # rows of a pass at the most
NEAR = 3  # of a sequence, near where there is a far form: the first, the last and the one before
SPARE = 1  # near pages kept beside the far ones made of them, so that a little can be taken back
States = tuple[StateLayer, ...]
LIVE = 3  # states of a sequence in a pass: before it, behind it, and before the one that was last


class StateShape(NamedTuple):
    """What a recurrent layer keeps of a sequence, part by part: so many float32 numbers."""

    parts: tuple[int, ...]


class LayerShape(NamedTuple):
    """What a layer keeps of each token, and how far back its queries see: `window` positions, all if 0. One
    with an `owner` keeps nothing and reads what that layer keeps, by its number among those that keep some.
    """

    kv_heads: int
    head_dim: int
    window: int = 0
    owner: int | None = None


class BothShape(NamedTuple):
    """What a layer keeps that has attention and beside it what recurs."""

    attention: LayerShape
    state: StateShape


Shape = LayerShape | StateShape | BothShape


@dataclass(eq=False)
class Group:
    """Layers whose queries see `window` positions, all if that is 0."""

    number: int
    window: int
    nbytes: int = 0  # of a page, a near one
    far_bytes: int = 0  # of a far one, 0 where there are none

    def seen_from(self, position: int) -> int:
        """The number of the first page that is read at a position or behind it."""
        return max(0, position - self.window + 1) // CHUNK if self.window else 0

    def bytes_for(self, count: int, shared: int = 0) -> int:
        """Of the pages that a sequence comes to hold where it has so many chunks, at the most at one time:
        while a pass is prepared, what it lets go of is still there. Of the first so many, which it has as
        another sequence has that is counted too, only what it makes anew.
        """
        # what the first query of the last pass saw, that pass and the next one
        most = (self.window + 2 * PASS - 3) // CHUNK + 2 if self.window else count
        own = min(count - shared, most)
        if not self.far_bytes:
            return own * self.nbytes
        far = min(far_pages(count) - far_pages(shared), far_pages(most))
        return min(own, near_pages(count) + SPARE + 1) * self.nbytes + far * self.far_bytes


def near_pages(count: int) -> int:
    """Of so many chunks, those that the queries of the last one read in the near form where there is a far
    one.
    """
    return min(count, NEAR)


def far_pages(count: int) -> int:
    """Of so many chunks, those that the queries of the last one read in the far form where there is one."""
    return count - near_pages(count)


def is_far(chunk: int, own: int) -> bool:
    """Whether queries of chunk `own` read a chunk in the far form, where there is one; as `kernels.far`."""
    return 0 < chunk < own - 1


@dataclass(frozen=True, eq=False)
class CacheLayer:
    """Keys and values of a layer in one form, on whatever pages a sequence has: [kv_heads, CHUNK, head_dim]
    each. Of a near one with `far` the same in that form.
    """

    kind: Kind
    group: Group
    kv_heads: int
    head_dim: int
    words: tuple[int, ...]  # where its parts begin on a page
    ends: tuple[int, ...]  # where they end
    pages_at: int  # bytes before the group's pages in the list of a sequence's
    far: CacheLayer | None = None

    @property
    def scheme(self) -> str:
        return self.kind.scheme

    @property
    def window(self) -> int:
        return self.group.window


@dataclass(eq=False)
class Plan:
    """Made while a program is recorded; `context` positions is a sequence at the most."""

    kind: Kind
    context: int
    groups: list[Group] = field(default_factory=list)
    layers: list[CacheLayer] = field(default_factory=list)
    state_bytes: int = 0  # of a page of states

    @classmethod
    def of(cls, kind: Kind, context: int, layers: Iterable[Shape]) -> Plan:
        """For such layers."""
        plan = cls(kind, context)
        for layer in layers:
            plan.room(layer)
        return plan

    @overload
    def room(self, shape: LayerShape) -> CacheLayer: ...
    @overload
    def room(self, shape: StateShape) -> States: ...
    @overload
    def room(self, shape: BothShape) -> tuple[CacheLayer, States]: ...
    @overload
    def room(self, shape: Shape) -> CacheLayer | States | tuple[CacheLayer, States]: ...
    def room(self, shape: Shape) -> CacheLayer | States | tuple[CacheLayer, States]:
        """For one more layer of whatever kind."""
        if isinstance(shape, BothShape):
            return self.layer(shape.attention), self.states(shape.state)
        return self.states(shape) if isinstance(shape, StateShape) else self.layer(shape)

    def layer(self, shape: LayerShape) -> CacheLayer:
        """Room for one more, or its owner's."""
        if shape.owner is not None:
            return self.layers[shape.owner]
        group = next((g for g in self.groups if g.window == shape.window), None)
        if group is None:
            group = Group(len(self.groups), shape.window)
            self.groups.append(group)
        kind, heads = self.kind, (shape.kv_heads, shape.head_dim)
        common = kind, group, *heads
        at = group.number * self.pages * 8
        far = None
        if kind.has_far:
            words, ends, group.far_bytes = _placed(group.far_bytes, kind.far_parts(*heads))
            far = CacheLayer(*common, words, ends, at)
        words, ends, group.nbytes = _placed(group.nbytes, kind.near_parts(*heads))
        self.layers.append(CacheLayer(*common, words, ends, at, far))
        return self.layers[-1]

    def states(self, shape: StateShape) -> States:
        """Room for one more recurrent layer: its parts."""
        layers = []
        for count in shape.parts:
            layers.append(StateLayer(self.state_bytes, count))
            self.state_bytes = round_up(layers[-1].at + layers[-1].nbytes, ALIGNMENT)
        return tuple(layers)

    @property
    def pass_room(self) -> int:
        """Positions up to whose next multiple a pass may go: a chunk's where something becomes of it at its
        end.
        """
        return CHUNK if self.kind.has_far or self.state_bytes else self.context

    @property
    def state_chunks(self) -> int:
        """After each so many chunks a sequence keeps its state: such that states take no more memory than
        keys and values do.
        """
        return max(1, -(-self.state_bytes // max(1, self.page_bytes)))

    @property
    def pages(self) -> int:
        """Of a group, that a sequence has at the most."""
        return -(-self.context // CHUNK)

    @property
    def page_bytes(self) -> int:
        """Of CHUNK positions of all layers, near."""
        return sum(group.nbytes for group in self.groups)

    @property
    def token_bytes(self) -> int:
        """Of one more position of all layers in a long context, rounded up."""
        states = self.state_bytes // self.state_chunks
        return -(-(sum(group.far_bytes or group.nbytes for group in self.groups) + states) // CHUNK)

    @property
    def near_bytes(self) -> int:
        """What the pages that are near whatever the context is take beyond `token_bytes`."""
        far = [group for group in self.groups if group.far_bytes]
        near = sum(NEAR * (g.nbytes - g.far_bytes) + SPARE * g.nbytes for g in far)
        return near + LIVE * self.state_bytes

    @property
    def context_bytes(self) -> int:
        """Of the pages of a sequence that is as long as the context, and of a copy of one that is shared."""
        return self.bytes_for(self.context) + self.page_bytes

    def bytes_for(self, tokens: int, shared: int = 0) -> int:
        """Of the pages of a sequence that comes to hold so many tokens, at the most at one time, while it
        shares none that it writes to. Of a fork, whose first `shared` tokens are another's that is counted
        too, the bytes that it takes beyond those.
        """
        count, whole = -(-tokens // CHUNK), shared // CHUNK
        kept = tokens // CHUNK // self.state_chunks - whole // self.state_chunks
        return sum(group.bytes_for(count, whole) for group in self.groups) + (kept + LIVE) * self.state_bytes


def _placed(at: int, parts: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Where parts begin and end that lie one after another from `at` on, and where the next one may begin."""
    words, ends = [], []
    for nbytes in parts.values():
        words.append(at)
        ends.append(at + nbytes)
        at = round_up(ends[-1], ALIGNMENT)
    return tuple(words), tuple(ends), at

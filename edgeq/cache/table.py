"""The pages of one sequence. A table is never changed: what is to come of it is another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from edgeq.kernels.catalog import CHUNK
from edgeq.ownership import Unique

from .plan import SPARE, Group, Plan, is_far
from .pool import Page, PagePool
from .states import State

Pages = tuple[Page | None, ...]  # one for each chunk; None where there is none
STATE = "state after "  # tokens of a chunk: the names of the forms of pages of states


class Narrowing(NamedTuple):
    """A far page to be made of a near one, of a group of layers."""

    group: int
    near: Page
    far: Page


class Held(NamedTuple):
    """The pages of a group of layers, by chunk. Of a chunk there may be both."""

    near: Pages = ()
    far: Pages = ()

    def page(self, chunk: int, own: int, group: Group) -> Page | None:
        """What queries of chunk `own` read."""
        pages = self.far if group.far_bytes and is_far(chunk, own) else self.near
        return pages[chunk] if chunk < len(pages) else None


@dataclass(frozen=True, eq=False)
class Table(Unique):
    """The pages of each group of layers, as the queries of chunk `own` read them, and those of states, of
    ascending lengths.
    """

    plan: Plan
    groups: tuple[Held, ...]
    own: int = 0
    states: tuple[State, ...] = ()
    addresses: np.ndarray = field(init=False)  # int64 [groups, pages that a sequence has at the most]

    def __post_init__(self) -> None:
        rows = np.zeros((len(self.groups), self.plan.pages), np.int64)
        for row, (group, held) in zip(rows, self._by_group(), strict=True):
            pages = (held.page(chunk, self.own, group) for chunk in range(len(held.near)))
            row[: len(held.near)] = [0 if page is None else page.address for page in pages]
        object.__setattr__(self, "addresses", rows)

    @classmethod
    def empty(cls, plan: Plan) -> Table:
        return cls(plan, (Held(),) * len(plan.groups))

    def states_at(self, start: int, end: int) -> tuple[int, int]:
        """Where the states lie after `start` tokens and after `end`; 0 where there are none."""
        pages = {state.length: state.page.address for state in self.states}
        return pages.get(start, 0), pages.get(end, 0)

    def beside(self, other: Table) -> list[Page]:
        """Pages of states that it has and the other has not, and that nobody else reads."""
        theirs = {id(state.page) for state in other.states}
        return [s.page for s in self.states if id(s.page) not in theirs and not s.page.frozen]

    def _by_group(self) -> Iterator[tuple[Group, Held]]:
        return zip(self.plan.groups, self.groups, strict=True)

    def prepared(self, pool: PagePool, start: int, count: int) -> tuple[Table, list[Narrowing]]:
        """With pages for so many positions from `start` on that may be written to, and without what no later
        query reads; and what has to be narrowed first. They lie in one chunk where there are far pages, or
        states, of which there is one more then. OutOfMemoryError where the pool is full.
        """
        first, last = start // CHUNK, (start + count - 1) // CHUNK
        states = self._stepped(pool, start, start + count)
        if all(self._ready(group, held, start, last) for group, held in self._by_group()):
            return (replace(self, states=states) if states else self), []
        groups, narrowings = [], list[Narrowing]()
        for group, held in self._by_group():
            near, far = list(held.near[: last + 1]), list(held.far)
            for n in range(first, last + 1):
                if n >= len(near):
                    near.append(pool.take(group.nbytes))
                elif (page := near[n]) is not None and page.frozen:
                    near[n] = pool.copy(page)
            seen = group.seen_from(start)
            for n in range(seen, first) if group.far_bytes else ():
                far += [None] * (n + 1 - len(far))
                if is_far(n, first) and far[n] is None and (page := near[n]) is not None:
                    far[n] = made = pool.take(group.far_bytes)
                    narrowings.append(Narrowing(group.number, page, made))
                if is_far(n, first - SPARE):
                    near[n] = None
            near[:seen], far[:seen] = [None] * min(seen, len(near)), [None] * min(seen, len(far))
            groups.append(Held(tuple(near), tuple(far)))
        return Table(self.plan, tuple(groups), last, states), narrowings

    def _stepped(self, pool: PagePool, start: int, end: int) -> tuple[State, ...]:
        """The states, and a page for those after `end` tokens. Besides the ones that are kept for long those
        of `start` stay, so that what is appended now can be taken back.
        """
        if not self.plan.state_bytes:
            return ()
        kept = self.plan.state_chunks * CHUNK
        stay = tuple(state for state in self.states if state.length == start or state.length % kept == 0)
        return (*stay, State(end, pool.take(self.plan.state_bytes)))

    def _ready(self, group: Group, held: Held, start: int, last: int) -> bool:
        """Whether the pages from that of `start` on up to the last may be written to, and none is held that
        is not read from there.
        """
        seen, near = group.seen_from(start), held.near
        if len(near) <= last or (seen and near[seen - 1] is not None):
            return False
        if group.far_bytes and self.own != last:
            return False
        return all(page is not None and not page.frozen for page in near[start // CHUNK : last + 1])

    def cut(self, length: int) -> tuple[Table, int]:
        """The pages of the first so many tokens, and how many they are: fewer where a page that the next
        query would read is not there any more. A far page of a chunk that is not whole any more goes: the
        near one beside it is written to again.
        """
        for n in self._ends(length):
            if n and all(self._usable(group, held, n) for group, held in self._by_group()):
                count = -(-n // CHUNK)
                groups = tuple(Held(held.near[:count], held.far[: n // CHUNK]) for held in self.groups)
                states = tuple(state for state in self.states if state.length <= n)
                return Table(self.plan, groups, (n - 1) // CHUNK, states), n
        return Table.empty(self.plan), 0

    def _ends(self, length: int) -> Iterable[int]:
        """Where it may be cut: anywhere and at the borders of chunks, or where there are states at those."""
        if self.plan.state_bytes:
            return (state.length for state in reversed(self.states) if state.length <= length)
        return length, *range((length - 1) // CHUNK * CHUNK, 0, -CHUNK)

    def _usable(self, group: Group, held: Held, length: int) -> bool:
        """Whether a sequence of so many tokens can go on: a page that is there in the near form can be
        narrowed.
        """
        own = length // CHUNK
        return all(
            held.page(chunk, own, group) is not None or _at(held.near, chunk) is not None
            for chunk in range(group.seen_from(length), -(-length // CHUNK))
        )

    def freeze(self) -> None:
        """Let others read all pages too."""
        for page in self._pages():
            page.frozen = True

    def _pages(self) -> Iterator[Page]:
        for held in self.groups:
            yield from (page for pages in held for page in pages if page is not None)
        yield from (state.page for state in self.states)

    @property
    def nbytes(self) -> int:
        """Of all its pages."""
        return sum(page.nbytes for page in self._pages())

    # ---- as what is kept of a prefix: for each chunk the pages of each form ----
    def chunks(self, length: int) -> list[dict[str, Page]]:
        """The pages of the first so many tokens, by the names of `forms`."""
        found: list[dict[str, Page]] = [{} for _ in range(-(-length // CHUNK))]
        for number, held in enumerate(self.groups):
            for form, pages in zip(forms(number), held, strict=True):
                for chunk, page in zip(found, pages, strict=False):
                    if page is not None:
                        chunk[form] = page
        for state in self.states:
            at = (state.length - 1) // CHUNK
            found[at][state_form(state.length - at * CHUNK)] = state.page
        return found

    @classmethod
    def of_chunks(cls, plan: Plan, chunks: Sequence[Mapping[str, Page]], length: int) -> Table:
        """A table of what `chunks` gave, perhaps with more behind so many tokens in the last."""
        groups = []
        for near, far in map(forms, range(len(plan.groups))):
            whole = chunks[: length // CHUNK]
            groups.append(
                Held(tuple(chunk.get(near) for chunk in chunks), tuple(chunk.get(far) for chunk in whole))
            )
        states = [
            State(at * CHUNK + filled, chunk[form])
            for at, chunk in enumerate(chunks)
            for form in chunk
            if (filled := state_filled(form)) and at * CHUNK + filled <= length
        ]
        return cls(plan, tuple(groups), (length - 1) // CHUNK, tuple(sorted(states)))


def forms(group: int) -> tuple[str, str]:
    """The names of the forms of a group's pages, near and far."""
    return f"{group}", f"{group} far"


def state_form(filled: int) -> str:
    """The name of the form of a page of states after so many tokens of a chunk."""
    return f"{STATE}{filled}"


def state_filled(form: str) -> int:
    """After how many tokens of a chunk the states are that a page of that form holds; 0 if it holds none."""
    digits = form.removeprefix(STATE)
    known = form.startswith(STATE) and digits.isdecimal() and digits.isascii() and len(digits) < 4
    filled = int(digits) if known else 0
    return filled if form == state_form(filled) and filled <= CHUNK else 0


def _at(pages: Pages, chunk: int) -> Page | None:
    return pages[chunk] if chunk < len(pages) else None

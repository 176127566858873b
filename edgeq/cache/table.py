"""The pages of one sequence. A table is never changed: what is to come of it is another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from edgeq.kernels.catalog import CHUNK
from edgeq.ownership import Unique

from .plan import SPARE, Group, Plan, is_far
from .pool import Page, PagePool

Pages = tuple[Page | None, ...]  # one for each chunk; None where there is none


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
    """The pages of each group of layers, as the queries of chunk `own` read them."""

    plan: Plan
    groups: tuple[Held, ...]
    own: int = 0
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

    def _by_group(self) -> Iterator[tuple[Group, Held]]:
        return zip(self.plan.groups, self.groups, strict=True)

    def prepared(self, pool: PagePool, start: int, count: int) -> tuple[Table, list[Narrowing]]:
        """With pages for so many positions from `start` on that may be written to, and without what no later
        query reads; and what has to be narrowed first. They lie in one chunk where there are far pages.
        OutOfMemoryError where the pool is full.
        """
        first, last = start // CHUNK, (start + count - 1) // CHUNK
        if all(self._ready(group, held, start, last) for group, held in self._by_group()):
            return self, []
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
        return Table(self.plan, tuple(groups), last), narrowings

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
        for n in (length, *range((length - 1) // CHUNK * CHUNK, 0, -CHUNK)):
            if n and all(self._usable(group, held, n) for group, held in self._by_group()):
                count = -(-n // CHUNK)
                groups = tuple(Held(held.near[:count], held.far[: n // CHUNK]) for held in self.groups)
                return Table(self.plan, groups, (n - 1) // CHUNK), n
        return Table.empty(self.plan), 0

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
        return cls(plan, tuple(groups), (length - 1) // CHUNK)


def forms(group: int) -> tuple[str, str]:
    """The names of the forms of a group's pages, near and far."""
    return f"{group}", f"{group} far"


def _at(pages: Pages, chunk: int) -> Page | None:
    return pages[chunk] if chunk < len(pages) else None

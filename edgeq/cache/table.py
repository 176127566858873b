"""The pages of one sequence. A table is never changed: what is to come of it is another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgeq.kernels.catalog import CHUNK
from edgeq.ownership import Unique

from .plan import Group, Plan
from .pool import Page, PagePool

Pages = tuple[Page | None, ...]  # one for each chunk; None where it was given back


@dataclass(frozen=True, eq=False)
class Table(Unique):
    """The pages of each group of layers."""

    plan: Plan
    groups: tuple[Pages, ...]
    addresses: np.ndarray = field(init=False)  # int64 [groups, pages that a sequence has at the most]

    def __post_init__(self) -> None:
        rows = np.zeros((len(self.groups), self.plan.pages), np.int64)
        for row, pages in zip(rows, self.groups, strict=True):
            row[: len(pages)] = [0 if page is None else page.address for page in pages]
        object.__setattr__(self, "addresses", rows)

    @classmethod
    def empty(cls, plan: Plan) -> Table:
        return cls(plan, ((),) * len(plan.groups))

    def prepared(self, pool: PagePool, start: int, count: int) -> Table:
        """With pages for so many positions from `start` on that may be written to, and without what no later
        query sees. OutOfMemoryError where the pool is full.
        """
        first, last = start // CHUNK, (start + count - 1) // CHUNK
        if all(_ready(group, pages, start, last) for group, pages in self._by_group()):
            return self
        groups = []
        for group, pages in self._by_group():
            seen = group.seen_from(start)
            made = list(pages[: last + 1])
            made[:seen] = [None] * min(seen, len(made))
            for n in range(first, last + 1):
                if n >= len(made):
                    made.append(pool.take(group.nbytes))
                elif (page := made[n]) is not None and page.frozen:
                    made[n] = pool.copy(page)
            groups.append(tuple(made))
        return Table(self.plan, tuple(groups))

    def cut(self, length: int) -> tuple[Table, int]:
        """The pages of the first so many tokens, and how many they are: where pages that the next query would
        see were given back, none.
        """
        for group, pages in self._by_group():
            if None in pages[group.seen_from(length) : -(-length // CHUNK)]:
                return Table.empty(self.plan), 0
        count = -(-length // CHUNK)
        return Table(self.plan, tuple(pages[:count] for pages in self.groups)), length

    def freeze(self) -> None:
        """Let others read all pages too."""
        for pages in self.groups:
            for page in pages:
                if page is not None:
                    page.frozen = True

    def _by_group(self) -> Iterator[tuple[Group, Pages]]:
        return zip(self.plan.groups, self.groups, strict=True)

    @property
    def nbytes(self) -> int:
        """Of all its pages."""
        return sum(page.nbytes for pages in self.groups for page in pages if page is not None)


def _ready(group: Group, pages: Pages, start: int, last: int) -> bool:
    """Whether the pages from that of `start` on up to the last may be written to, and none is held that is
    not seen from there.
    """
    seen = group.seen_from(start)
    if len(pages) <= last or (seen and pages[seen - 1] is not None):
        return False
    return all(page is not None and not page.frozen for page in pages[start // CHUNK : last + 1])

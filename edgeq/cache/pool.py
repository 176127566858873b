"""The memory that the pages of all sequences share.

References to pages are Python's own: when the last sequence, tree of prefixes or pass under way lets go of
one, its memory is free again, whatever exception came between.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import memory
from edgeq.errors import OutOfMemoryError, size
from edgeq.ownership import Locked, Unique


class Page(Unique):
    """CHUNK positions of the layers of a group. What a page is made with means nothing yet.

    Once it is `frozen` others may read it too: whoever would write to it takes a copy.
    """

    def __init__(self, array: NDArray[np.uint8]):
        self.array = array
        self.frozen = False

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)


class PagePool(Locked):
    """Gives out pages of `limit` bytes in all. `short` are functions that are asked, when the next page does
    not fit, to let go of so many bytes' pages that nobody needs; they say whether they did of some.
    """

    def __init__(self, limit: int):
        super().__init__()
        self.limit = limit
        self._lent: dict[weakref.ref[Page], int] = {}
        self._spare: list[Page] = []  # given back, for who asks for as much
        self.short: list[Callable[[int], bool]] = []

    @property
    def used(self) -> int:
        """Bytes that are given out."""
        return sum(self._lent.copy().values()) - sum(page.nbytes for page in self._spare)

    @property
    def pages(self) -> tuple[int, int]:
        """Pages that somebody holds, and such as wait for who needs one."""
        spare = len(self._spare)
        return max(0, len(self._lent) - spare), spare

    def take(self, nbytes: int) -> Page:
        """A page; OutOfMemoryError where the limit or the system has none left."""
        with self._lock:
            known = [at for at, page in enumerate(self._spare) if page.nbytes == nbytes]
            if known and self.used + nbytes <= self.limit:
                return self._spare.pop(known[-1])
            self._spare.clear()
            while (used := self.used) + nbytes > self.limit:
                if not any(free(used + nbytes - self.limit) for free in list(self.short)):
                    raise OutOfMemoryError(
                        f"the KV cache is full: {size(used)} of {size(self.limit)} are in use, and a page "
                        f"of {size(nbytes)} does not fit; fewer sequences or a smaller context take less."
                    )
            try:
                (array,) = memory.pieces([nbytes])
            except MemoryError:
                raise OutOfMemoryError(
                    f"a page of the KV cache needs {size(nbytes)}, which are not to be had; a smaller "
                    "context or kv='q8' takes less."
                ) from None
            page = Page(array)
            # a method in C: no code in Python runs where a page goes, in which Ctrl-C would be lost
            gone: Any = self._lent.pop
            self._lent[weakref.ref(page, gone)] = nbytes
            return page

    def give_back(self, pages: Iterable[Page]) -> None:
        """Let the next who asks for as much have these pages, which nobody reads any more: of what is large
        and new with every pass the system's own memory would be zeros each time.
        """
        with self._lock:
            self._spare.extend(pages)

    def copy(self, page: Page) -> Page:
        """Another page that holds the same."""
        made = self.take(page.nbytes)
        made.array[...] = page.array
        return made

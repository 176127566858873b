"""What a prefix is made of: tokens in chunks, and the pages of each chunk.

A chunk is `Layout.chunk` tokens, the last one of a sequence perhaps fewer. Each has pages of one or more
forms: the one form that most models need, one for each group of layers, or one for a chunk that is near the
end of a sequence and another for the same chunk once it is far from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint32]  # [tokens]


class Page(Protocol):
    """Memory of a pool. Whoever wants to write into a frozen page writes into a copy of it."""

    array: NDArray[np.uint8]
    frozen: bool


Pages = Mapping[str, Page]  # of a chunk, by form


class Layout(Protocol):
    """What the pages of a model's sequences are."""

    @property
    def chunk(self) -> int:
        """Tokens of a chunk."""

    def nbytes(self, form: str) -> int | None:
        """Bytes of a page of that form; None where there is no such form."""

    def needed(self, at: int, length: int) -> Collection[str]:
        """The forms in which a sequence of `length` tokens must have chunk `at` to go on. None of a chunk
        that every window has left behind; a form that is never kept where it cannot go on from there at all.
        """

    def ends(self, at: int, length: int, held: Callable[[int], Collection[str]]) -> Collection[int]:
        """Of the first `length` tokens, where a sequence may perhaps go on within chunk `at`, the last place
        first: after all of them or all but one of the chunk, at its beginning, and where exact pages say,
        when `held(chunk)` are the forms that are there.
        """

    def exact(self, form: str) -> bool:
        """Whether a page of that form holds what stands behind a number of the chunk's tokens, by which it is
        called: it is never written to again, and serves every chunk that begins with these tokens."""

    def blank(self, form: str, page: NDArray[np.uint8], filled: int) -> None:
        """Make zeros of what a page holds of its positions from `filled` on."""


@dataclass(frozen=True)
class Found:
    """The first `length` tokens of what was asked for, and the pages that a sequence needs to go on there.

    Whole chunks are shared as they are. Where `partial` is not 0, that many positions count of the last
    chunk's pages, and others may lie behind them: these pages are to be copied before anything is written.
    """

    length: int = 0
    pages: Sequence[Pages] = ()
    chunk: int = 1

    @property
    def partial(self) -> int:
        """How many positions of the last chunk count, where it is not whole."""
        return self.length % self.chunk


def chunks(length: int, chunk: int) -> int:
    """How many chunks so many tokens are."""
    return -(-length // chunk)


def wanted(length: int, layout: Layout) -> list[tuple[int, str]]:
    """(chunk, form) of each page that a sequence of `length` tokens needs to go on."""
    return [(at, form) for at in range(chunks(length, layout.chunk)) for form in layout.needed(at, length)]


def usable(length: int, held: Callable[[int], Collection[str]], layout: Layout) -> int:
    """How many of the first `length` tokens a sequence can go on after, when `held(chunk)` are the forms that
    are there: as many as can be, of those that `Layout.ends` says.
    """
    for at in range(length // layout.chunk, -1, -1):  # the chunk in which the sequence goes on
        for n in layout.ends(at, length, held):
            if n and all(form in held(chunk) for chunk, form in wanted(n, layout)):
                return n
    return 0


def packed(ids: Sequence[int] | NDArray[np.integer]) -> Ids:
    """Token ids as they are compared. OverflowError for one that is no uint32."""
    return np.asarray(ids, np.uint32) if len(ids) else np.zeros(0, np.uint32)


def alike(a: Ids, b: Ids) -> int:
    """How many ids of the two are the same from the beginning."""
    both = min(len(a), len(b))
    differ = a[:both] != b[:both]
    return int(differ.argmax()) if differ.any() else both

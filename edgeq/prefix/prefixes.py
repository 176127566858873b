"""What an engine calls: before a prompt is computed, and when an answer has ended."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq.cores import free_memory
from edgeq.errors import OutOfMemoryError
from edgeq.ownership import Unique

from .folder import Folder
from .pages import Found, Layout, Page, Pages, alike, chunks, packed, usable
from .tree import Tree

SHARE, MOST = 4, 2 << 30  # of the free memory a quarter, and never more than 2 GiB
READ_TOKENS = 16  # a file that has fewer tokens more than memory does is not read for them
GROWN = 1.5  # an answer's end writes a prefix that is so many times as long as what the folder has of it
WAITING_MAX = 64  # prefixes that wait to be written


class Pool(Protocol):
    """Where pages come from. `short` are asked for memory when there is no more."""

    short: list[Callable[[int], bool]]

    def take(self, nbytes: int) -> Page: ...
    def copy(self, page: Any) -> Page: ...


class Reusable(Protocol):
    """What a sequence has for this."""

    @property
    def ids(self) -> list[int]: ...
    def truncate(self, n: int) -> int:
        """Forget everything after the first n tokens, or after fewer; how many are left."""

    def adopt(self, ids: Sequence[int], pages: Sequence[Pages]) -> None:
        """Be these tokens, whose pages these are: one entry for each chunk, with the forms that
        `Layout.needed` says. They are frozen but for a partial last chunk's, which are the sequence's own and
        may hold more behind the tokens."""

    def kept(self) -> tuple[list[int], Sequence[Pages]]:
        """The tokens and the pages of each chunk, of one moment and as no pass under way changes them; a
        chunk without pages has an empty entry."""


class Prefixes(Unique):
    """The prefixes of one model: in memory, and in a folder where there is one. For any thread."""

    def __init__(self, pool: Pool, layout: Layout, *, limit: int | None = None, folder: Folder | None = None):
        """limit: bytes of memory, by default a quarter of what is free now and 2 GiB at the most."""
        self.layout, self.folder = layout, folder
        self.tree = Tree(layout, default_limit() if limit is None else limit)
        self._take, self._copy = pool.take, pool.copy
        self._waiting: dict[tuple[str, bytes], None] = {}  # (salt, ids) to be written, as they came
        pool.short.append(_weakly(self.tree))

    def start(self, sequence: Reusable, ids: Sequence[int] | NDArray[np.integer], salt: str = "") -> int:
        """Let a sequence hold as much of the beginning of `ids` as is known, and nothing else, but not all:
        feeding the rest gives logits. How many tokens it then holds."""
        key = packed(ids)
        most = key[:-1]
        held = sequence.truncate(alike(packed(sequence.ids), most))
        if held < len(most):
            found = self._stored(most, salt, self.tree.find(most, salt), held)
            found = self._writable(found) if found.length > held else found
            if found.length > held:
                sequence.adopt(key[: found.length].tolist(), found.pages)
                return found.length
        return held

    def _writable(self, found: Found) -> Found:
        """With copies of the pages that the sequence will write to, made while nobody needs the others: one
        that copies them in its first pass holds both. Where they do not fit, what whole chunks have."""
        if not found.partial:
            return found
        *whole, last = found.pages
        try:
            own = {f: page if self.layout.exact(f) else self._copy(page) for f, page in last.items()}
            return replace(found, pages=[*whole, own])
        except OutOfMemoryError:
            length = usable(len(whole) * self.layout.chunk, whole.__getitem__, self.layout)
            needed = [self.layout.needed(at, length) for at in range(chunks(length, self.layout.chunk))]
            pages = [{form: held[form] for form in forms} for held, forms in zip(whole, needed, strict=False)]
            return replace(found, length=length, pages=pages)

    def _stored(self, ids: NDArray[np.uint32], salt: str, found: Found, held: int) -> Found:
        """What memory has, or more that the folder has, which memory then has, too."""
        if self.folder is None or len(ids) < max(found.length, held) + READ_TOKENS:
            return found
        stored = self.folder.find(ids, salt)
        if stored is None or stored.length < max(found.length, held) + READ_TOKENS:
            return found
        whole = found.pages[: found.length // self.layout.chunk]
        pages = self.folder.load(stored, self._take, whole, salt)
        if pages is None:
            return found
        self.tree.keep(ids[: stored.length], pages, salt)
        return Found(stored.length, pages, self.layout.chunk)

    def keep(self, sequence: Reusable, salt: str = "", *, ended: bool = True) -> None:
        """Remember what a sequence holds: after a prompt, and when an answer has ended. What ended is written
        into the folder, if there is one, by `save`; by this already where it has grown much since."""
        ids, pages = sequence.kept()
        key = packed(ids)
        self.tree.keep(key, pages, salt)
        if not ended or self.folder is None or not self.folder.writable or len(key) < self.layout.chunk:
            return
        text = key.tobytes()
        for other in list(self._waiting):
            if other[0] == salt and text.startswith(other[1]):
                self._waiting.pop(other, None)
        stored = self.folder.find(key, salt)
        length = 0 if stored is None else stored.length
        if length == len(key):
            return
        for other in list(self._waiting)[: max(0, len(self._waiting) - WAITING_MAX + 1)]:
            self._waiting.pop(other, None)
        self._waiting[salt, text] = None
        if len(key) >= GROWN * length:
            self._write(salt, text)

    def save(self) -> None:
        """Write what waits for it and is still in memory."""
        for salt, text in list(self._waiting):
            self._write(salt, text)

    def _write(self, salt: str, text: bytes) -> None:
        assert self.folder is not None
        ids = np.frombuffer(text, np.uint32)
        found = self.tree.find(ids, salt)
        if found.length:
            self.folder.write(ids[: found.length], found.pages, salt)
        self._waiting.pop((salt, text), None)

    def close(self) -> None:
        """Write what waits, and let go of all pages."""
        try:
            self.save()
        finally:
            self.tree.clear()


def default_limit() -> int:
    """Bytes of memory that prefixes may take, unless told."""
    return min(free_memory() // SHARE, MOST)


def _weakly(tree: Tree) -> Callable[[int], bool]:
    """The tree's `release`, for a pool that is not to keep the tree."""
    method = weakref.WeakMethod(tree.release)

    def release(nbytes: int) -> bool:
        found = method()
        return found is not None and found(nbytes)

    return release

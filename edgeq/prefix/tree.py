"""The tree of prefixes in memory: a node for a chunk of tokens, with the pages that were computed for it.

Nothing that the tree does has to be done: one who comes from a signal's handler or a finalizer into a call of
the same thread, or who would wait for long, is told that there is nothing. Each change is a few steps of one
instruction, between which an exception may come: what is left then is a tree.
"""

from __future__ import annotations

import sys
import weakref
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.ownership import Locked

from .pages import Found, Layout, Pages, alike, packed, usable

PATIENCE_S = 1.0  # how long one waits for another thread's call, which takes far less
ID_BYTES = 4
NEAREST = 2  # nodes on each side of where a text parts from what is known, that are looked at


class Node:
    """A chunk, perhaps its beginning alone, behind the chunks of its parents.

    key: the ids as big-endian bytes, so that what begins alike stands side by side in order. children: in the
    order of their keys. No key is the beginning of a sibling's whose pages serve as well.
    """

    __slots__ = ("__weakref__", "children", "key", "pages", "parent")

    def __init__(self, key: bytes, pages: Pages, parent: Node | None = None):
        self.key = key
        self.pages = pages  # exchanged as a whole
        self.parent = None if parent is None else weakref.ref(parent)  # a tree let go of goes at once
        self.children: list[Node] = []

    @property
    def nbytes(self) -> int:
        return len(self.key) + sum(page.array.nbytes for page in self.pages.values())

    def child(self, key: bytes) -> Node | None:
        """The child of exactly that key."""
        at = bisect_left(self.children, key, key=KEY)
        found = self.children[at] if at < len(self.children) else None
        return found if found is not None and found.key == key else None

    def nearest(self, key: bytes) -> list[tuple[int, Node]]:
        """(ids in common, child) of children that begin like `key`, the longest first."""
        at = bisect_left(self.children, key, key=KEY)
        beside = self.children[max(0, at - NEAREST) : at + NEAREST]
        ids = np.frombuffer(key, ">u4")
        pairs = [(alike(np.frombuffer(node.key, ">u4"), ids), node) for node in beside]
        return sorted((pair for pair in pairs if pair[0]), key=lambda pair: -pair[0])

    def remove(self, node: Node) -> None:
        """Let go of a child, if it is one."""
        at = bisect_left(self.children, node.key, key=KEY)
        if at < len(self.children) and self.children[at] is node:
            del self.children[at]


KEY = attrgetter("key")


def references(pages: Mapping[str, object], form: str) -> int:
    """How many hold a page, and some that this very call adds."""
    return sys.getrefcount(pages[form])


ALONE = references({"": object()}, "")  # of a page that nothing but a node holds


def alone(pages: Pages) -> list[str]:
    """The forms whose pages nobody but their node holds."""
    return [form for form in pages if references(pages, form) <= ALONE]


class Tree(Locked):
    """Prefixes by their tokens, at most `limit` bytes of them: what was not used for longest goes first.

    Texts of different salts know nothing of each other. Every method may be called from any thread.
    """

    def __init__(self, layout: Layout, limit: int):
        super().__init__()
        self.layout, self.limit = layout, limit
        self._roots: dict[str, Node] = {}  # by salt
        # Every node but roots, the one unused for longest first; one comes before its parent, so the first is
        # a leaf, except where `keep` was broken off: then what stands behind it cannot be found any more and
        # goes in its turn. A node is here before it is its parent's child, and until it is no more.
        self._order: OrderedDict[Node, None] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all pages and ids."""
        return sum(node.nbytes for node in self._order.copy())

    def find(self, ids: Sequence[int] | NDArray[np.integer], salt: str = "") -> Found:
        """The longest beginning of `ids` that is known and can be gone on from."""
        key, size = _key(ids), self.layout.chunk
        if not self._entered():
            return Found()
        try:
            root = self._roots.get(salt)
            if root is None:
                return Found()
            node, path = root, list[Node]()
            while (child := node.child(key[len(path) * size * ID_BYTES :][: size * ID_BYTES])) is not None:
                path.append(node := child)
                if len(child.key) < size * ID_BYTES:
                    break
            length = sum(len(each.key) for each in path) // ID_BYTES
            ends: list[tuple[int, Node | None]] = [(0, None)]
            if length == len(path) * size:
                ends = [*node.nearest(key[length * ID_BYTES :][: size * ID_BYTES]), *ends]
            best, chosen = 0, path
            for more, end in ends:
                nodes = path if end is None else [*path, end]
                found = usable(length + more, [node.pages for node in nodes].__getitem__, self.layout)
                if found > best:
                    best, chosen = found, nodes
                if best == length + more:
                    break
            chosen = chosen[: -(-best // size)]
            self._touch(chosen)
            return Found(best, [self._taken(at, node, best) for at, node in enumerate(chosen)], size)
        finally:
            self._lock.release()

    def _taken(self, at: int, node: Node, length: int) -> Pages:
        return {form: node.pages[form] for form in self.layout.needed(at, length)}

    def keep(self, ids: Sequence[int] | NDArray[np.integer], pages: Sequence[Pages], salt: str = "") -> None:
        """Remember the pages of `ids`, one entry for each chunk, empty where its pages are gone. They are
        frozen from now on; where the same tokens have pages already, those stay and these are left alone.
        """
        key, size, dropped = _key(ids), self.layout.chunk * ID_BYTES, list[Node]()
        if not self._entered():
            return
        try:
            node = self._roots.setdefault(salt, Node(b"", {}))
            path = list[Node]()
            for at, held in zip(range(0, len(key), size), pages, strict=True):
                path.append(node := self._grown(node, key[at : at + size], held, dropped))
            self._touch(path)
            self._shrink(dropped)
        finally:
            self._lock.release()  # and then `dropped` goes, with whatever its pages' ends call

    def _grown(self, parent: Node, key: bytes, pages: Pages, dropped: list[Node]) -> Node:
        """The child of that key with these pages, or one that goes on behind it and has them too."""
        children = parent.children
        at = bisect_left(children, key, key=KEY)
        child = children[at] if at < len(children) and children[at].key.startswith(key) else None
        if child is not None and len(child.key) > len(key) and not self._serves(child.pages, pages):
            child = None
        if child is not None:
            if not pages.keys() <= child.pages.keys():
                child.pages = _frozen({**pages, **child.pages})
            return child
        before = children[at - 1] if at else None
        if before is not None and not (key.startswith(before.key) and self._serves(pages, before.pages)):
            before = None
        node = Node(key, _frozen({**before.pages, **pages} if before is not None else pages), parent)
        self._order[node] = None
        children.insert(at, node)
        if before is not None:
            dropped.append(before)  # all that it holds, this one does: nothing stands behind it
            self._drop(before)
        return node

    def _serves(self, pages: Pages, others: Pages) -> bool:
        """Whether a chunk's pages serve one that it begins with, beside the exact ones of that."""
        return all(form in pages or self.layout.exact(form) for form in others)

    def _touch(self, path: Sequence[Node]) -> None:
        for node in reversed(path):
            if node in self._order:
                self._order.move_to_end(node)

    def _shrink(self, dropped: list[Node]) -> None:
        """Let go of the oldest until the rest is within the limit."""
        over = self.nbytes - self.limit
        while over > 0 and self._order:
            node = next(iter(self._order))
            dropped.append(node)
            over -= node.nbytes
            self._drop(node)

    def _drop(self, node: Node) -> None:
        parent = node.parent() if node.parent is not None else None
        if parent is not None:
            parent.remove(node)
        self._order.pop(node, None)
        if parent is not None and parent.parent is None and not parent.children:
            for salt in [salt for salt, root in self._roots.items() if root is parent]:
                del self._roots[salt]

    def release(self, nbytes: int) -> bool:
        """Let go of pages that nobody else holds, `nbytes` of them or more, the oldest first; whether there
        were any. What a pool asks that has no memory left.
        """
        dropped, freed = list[Node](), 0
        if not self._entered():
            return False
        try:
            for node in list(self._order):
                if freed >= nbytes:
                    break
                free = alone(node.pages)
                if node.children or (node.pages and not free):
                    continue
                freed += sum(node.pages[form].array.nbytes for form in free)
                dropped.append(node)
                self._drop(node)
            return freed > 0
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Let go of everything."""
        if not self._entered():
            return
        try:
            roots, self._roots = self._roots, {}
            order, self._order = self._order, OrderedDict()
        finally:
            self._lock.release()
        del roots, order

    def _entered(self) -> bool:
        """Take the lock, unless this thread has it or another one does for long. See `ownership.Lock` for why
        no Ctrl-C comes between taking it and the `try` behind the call."""
        lock: Any = self._lock
        if lock._is_owned():
            return False
        (taken,) = map(lock.acquire, (True,), (PATIENCE_S,))
        return taken


def _key(ids: Sequence[int] | NDArray[np.integer]) -> bytes:
    return packed(ids).astype(">u4").tobytes()


def _frozen(pages: Pages) -> Pages:
    for page in pages.values():
        page.frozen = True
    return dict(pages)

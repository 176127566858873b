"""Pages, a pool and sequences whose every byte tells which tokens it was computed from.

A position's bytes are a digest of all tokens up to it. So a page that is handed out for other tokens, in
another form, or read wrongly, is seen.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import OutOfMemoryError
from edgeq.prefix import Found, Layout, Page, Prefixes
from edgeq.prefix.pages import Pages, chunks

CHUNK = 4  # tokens
WIDTH = 8  # bytes of a position


@dataclass
class Plain:
    """Pages of one form, all needed."""

    chunk: int = CHUNK

    def nbytes(self, form: str) -> int | None:
        return self.chunk * WIDTH if form == "" else None

    def needed(self, at: int, length: int) -> Collection[str]:
        return ("",)

    def ends(self, at: int, length: int, held: Callable[[int], Collection[str]]) -> Collection[int]:
        first = at * self.chunk
        return sorted({min(length, first + self.chunk - 1), first}, reverse=True)

    def exact(self, form: str) -> bool:
        return False

    def blank(self, form: str, page: NDArray[np.uint8], filled: int) -> None:
        page.reshape(self.chunk, WIDTH)[filled:] = 0


class NearFar(Plain):
    """The first chunk, the one with the last token and the one before are near, the others far."""

    def nbytes(self, form: str) -> int | None:
        return self.chunk * WIDTH if form in ("near", "far") else None

    def needed(self, at: int, length: int) -> Collection[str]:
        return ("near",) if at == 0 or at >= (length - 1) // self.chunk - 1 else ("far",)


class Windowed(Plain):
    """Layers that read everything, and layers with a window of `window` tokens."""

    window = 6

    def nbytes(self, form: str) -> int | None:
        return self.chunk * WIDTH if form in ("all", "window") else None

    def needed(self, at: int, length: int) -> Collection[str]:
        first = max(0, length + 1 - self.window)  # that the next token reads
        return ("all", "window") if (at + 1) * self.chunk > first else ("all",)


class Recurrent(Plain):
    """Pages of which all are needed, and one with what stands behind the last token."""

    def nbytes(self, form: str) -> int | None:
        if self.exact(form):
            return WIDTH
        return self.chunk * WIDTH if form == "all" else None

    def needed(self, at: int, length: int) -> Collection[str]:
        last = at == (length - 1) // self.chunk
        return ("all", f"after {length - at * self.chunk}") if last else ("all",)

    def ends(self, at: int, length: int, held: Callable[[int], Collection[str]]) -> Collection[int]:
        first = at * self.chunk
        after = [first + n + 1 for n in range(self.chunk) if first < length and f"after {n + 1}" in held(at)]
        return sorted((n for n in {first, *after} if n <= length), reverse=True)

    def exact(self, form: str) -> bool:
        return form in {f"after {n + 1}" for n in range(self.chunk)}

    def blank(self, form: str, page: NDArray[np.uint8], filled: int) -> None:
        if not self.exact(form):
            super().blank(form, page, filled)


LAYOUTS: tuple[Layout, ...] = (Plain(), NearFar(), Windowed(), Recurrent())


@dataclass(eq=False)
class FakePage:
    array: NDArray[np.uint8]
    frozen: bool = False


@dataclass
class FakePool:
    limit: int = 1 << 30
    used: int = 0
    short: list[Callable[[int], bool]] = field(default_factory=list)

    def take(self, nbytes: int) -> FakePage:
        while self.used + nbytes > self.limit:
            if not any(ask(nbytes) for ask in self.short):
                raise OutOfMemoryError("the pool is full")
        page = FakePage(np.full(nbytes, 0xAA, np.uint8))  # what was there before
        self.used += nbytes
        weakref.finalize(page, self._back, nbytes).atexit = False
        return page

    def copy(self, page: FakePage) -> FakePage:
        made = self.take(page.array.nbytes)
        made.array[...] = page.array
        return made

    def _back(self, nbytes: int) -> None:
        self.used -= nbytes


def position(ids: Sequence[int], form: str) -> bytes:
    """The bytes of the last of these tokens in pages of a form."""
    return hashlib.sha256(form.encode() + np.asarray(ids, np.uint32).tobytes()).digest()[:WIDTH]


def content(ids: Sequence[int], at: int, form: str, chunk: int = CHUNK) -> bytes:
    """The bytes of a page as far as these tokens fill it."""
    first = at * chunk
    if Recurrent().exact(form):
        return position(ids[: first + int(form.removeprefix("after "))], form)
    return b"".join(position(ids[: n + 1], form) for n in range(first, min(first + chunk, len(ids))))


class FakeSequence:
    """Holds tokens and the pages that a sequence of so many needs; computes what is fed, and counts it."""

    def __init__(self, pool: FakePool, layout: Layout) -> None:
        self.pool, self.layout = pool, layout
        self.ids: list[int] = []
        self.pages: list[dict[str, Page]] = []
        self.computed = 0

    def feed(self, ids: Sequence[int]) -> None:
        for id in ids:
            self._feed(id)
        self.computed += len(ids)

    def _feed(self, id: int) -> None:
        """One token into the pages that it needs; before, pages change their form as the layout says."""
        size, n = self.layout.chunk, len(self.ids)
        for at in range(n // size):
            needed = self.layout.needed(at, n + 1)
            for form in set(needed) - self.pages[at].keys():
                self.pages[at][form] = self._made(self.ids, at, form)
            for form in self.pages[at].keys() - set(needed):
                del self.pages[at][form]
        if n % size == 0:
            forms = self.layout.needed(n // size, n + 1)
            self.pages.append({form: self.pool.take(self.layout.nbytes(form) or 0) for form in forms})
        self.ids.append(id)
        forms = self.layout.needed(n // size, n + 1)
        for form in [form for form in self.pages[-1] if self.layout.exact(form) and form not in forms]:
            del self.pages[-1][form]
        for form in forms:
            if self.layout.exact(form):
                self.pages[-1][form] = self._made(self.ids, n // size, form)
        for form, page in self.pages[-1].items():
            if self.layout.exact(form):
                continue
            if page.frozen:
                copy = self.pool.take(page.array.nbytes)
                copy.array[:] = page.array
                self.pages[-1][form] = page = copy
            at = n % size * WIDTH
            page.array[at : at + WIDTH] = np.frombuffer(position(self.ids, form), np.uint8)

    def _made(self, ids: Sequence[int], at: int, form: str) -> FakePage:
        page = self.pool.take(self.layout.nbytes(form) or 0)
        data = content(ids, at, form, self.layout.chunk)
        page.array[: len(data)] = np.frombuffer(data, np.uint8)
        return page

    def truncate(self, n: int) -> int:
        """Without whole forms for another length, a sequence begins anew."""
        if n < len(self.ids) and not isinstance(self.layout, NearFar | Windowed | Recurrent):
            del self.ids[n:], self.pages[chunks(n, self.layout.chunk) :]
        elif n < len(self.ids):
            self.ids, self.pages = [], []
        return len(self.ids)

    def adopt(self, ids: Sequence[int], pages: Sequence[Pages]) -> None:
        assert len(pages) == chunks(len(ids), self.layout.chunk)
        check(Found(len(ids), pages, self.layout.chunk), ids, self.layout)
        self.ids, self.pages = list(ids), [dict(held) for held in pages]

    def kept(self) -> tuple[list[int], Sequence[Pages]]:
        return list(self.ids), [dict(held) for held in self.pages]


def check(found: Found, ids: Sequence[int], layout: Layout) -> None:
    """The pages of what was found are those of the tokens, to the byte, and all that is needed is there."""
    assert found.length <= len(ids)
    ids = list(ids[: found.length])
    assert len(found.pages) == chunks(found.length, layout.chunk)
    for at, pages in enumerate(found.pages):
        assert pages.keys() == set(layout.needed(at, found.length))
        for form, page in pages.items():
            data = content(ids, at, form, layout.chunk)
            assert page.array[: len(data)].tobytes() == data, (at, form)


def said(prefixes: Prefixes, pool: FakePool, ids: Sequence[int], salt: str = "") -> tuple[int, int]:
    """(tokens found, tokens computed) of a new sequence that is given a prompt, and then keeps it."""
    sequence = FakeSequence(pool, prefixes.layout)
    cached = prefixes.start(sequence, ids, salt)
    assert sequence.ids == list(ids[:cached]) and cached < len(ids)
    sequence.feed(ids[cached:])
    prefixes.keep(sequence, salt)
    return cached, sequence.computed

"""An engine without weights: the fake model's logits, passes of a limited size, and pages that are counted.

It holds the scheduler to the contract: no pass beyond its limits, no sequence twice in one, none that was
closed, no more pages than the pool has.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeq.errors import OutOfMemoryError
from edgeq.passes import Fed, Part
from tests.fake_model import VOCAB, FakeModel

PAGE_BYTES = 1000


class Paged:
    """A sequence in pages, which forks share until they write to one."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.ids, self.closed = engine, [], False  # type: ignore[var-annotated]
        self.pages: list[object] = []

    def grow(self, ids: Sequence[int]) -> None:
        """Append ids; OutOfMemoryError, and nothing changed, where the pool is full."""
        size = self.engine.page_tokens
        pages, count = list(self.pages), len(self.ids)
        if count % size and any(other is not self and pages[-1] in other.pages for other in self.engine.open):
            pages[-1] = object()  # copy on write
        while len(pages) * size < count + len(ids):
            pages.append(object())
        before, self.pages = self.pages, pages
        if self.engine.used > self.engine.pool.limit:
            self.pages = before
            raise OutOfMemoryError("the pool is full")
        self.ids += ids

    def truncate(self, n: int) -> int:
        assert not self.closed and 0 <= n <= len(self.ids)
        size = self.engine.page_tokens
        if self.engine.forgetful and n < len(self.ids):
            n -= n % size
        del self.ids[n:], self.pages[-(-n // size) :]
        return n

    def fork(self) -> Paged:
        assert not self.closed
        other = self.engine.sequence()
        other.ids, other.pages = list(self.ids), list(self.pages)
        return other

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self.engine.open.remove(self)


class FakeEngine(FakeModel):
    """forgetful: a sequence that is cut keeps whole pages alone, as low-bit and windowed caches do.
    `mishaps` are called with the parts before each pass."""

    def __init__(
        self,
        *,
        pass_tokens: int = 32,
        pass_outputs: int = 16,
        page_tokens: int = 4,
        pages: int = 1000,
        forgetful: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.pass_tokens, self.pass_outputs, self.page_tokens = pass_tokens, pass_outputs, page_tokens
        self.pool = SimpleNamespace(limit=pages * PAGE_BYTES)
        self.forgetful = forgetful
        self.open: list[Paged] = []
        self.passes: list[list[tuple[int, int]]] = []  # of each: (ids, wanted) of its parts
        self.mishaps: list[Any] = []

    @property
    def used(self) -> int:
        return len({id(page) for sequence in self.open for page in sequence.pages}) * PAGE_BYTES

    def cache_bytes(self, tokens: int, shared: int = 0) -> int:
        return (-(-tokens // self.page_tokens) - shared // self.page_tokens) * PAGE_BYTES

    def sequence(self) -> Any:
        self.open.append(Paged(self))
        return self.open[-1]

    def advance(self, parts: Sequence[Part]) -> list[Fed]:
        assert parts and all(part.ids and 0 <= part.wanted <= len(part.ids) for part in parts)
        assert sum(len(part.ids) for part in parts) <= self.pass_tokens
        assert sum(part.wanted for part in parts) <= self.pass_outputs
        assert len({id(part.sequence) for part in parts}) == len(parts)
        for mishap in self.mishaps:
            mishap(parts)
        fed = []
        for part in parts:
            sequence = part.sequence
            assert not sequence.closed and len(sequence.ids) + len(part.ids) <= self.context
            sequence.grow(part.ids)
            ends = range(len(sequence.ids) - part.wanted + 1, len(sequence.ids) + 1)
            rows = [self.next_logits(sequence.ids[:end]) for end in ends]
            logits = np.stack(rows) if rows else np.empty((0, VOCAB), np.float32)
            fed.append(Fed(logits, logits.argmax(axis=1)))
        self.passes.append([(len(part.ids), part.wanted) for part in parts])
        return fed

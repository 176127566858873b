"""Texts through passes: many at a time, each to its end, and the rows that are wanted of them.

What comes of a text does not depend on the texts beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.passes import Part

MANY = 16  # texts in a pass at the most: each has pages of its own
Progress = Callable[[int, int], object]
Cancelled = Callable[[], bool]
Wanted = Callable[[int, int, int], int]  # (tokens of a text, first of a pass, behind its last): rows wanted


class Seen(NamedTuple):
    """What a pass gives of a text: its number, and its rows [wanted, hidden_size], none where none are."""

    number: int
    rows: NDArray[np.float32]
    whole: bool  # the text is read


@dataclass
class Reading:
    """A text on its way."""

    number: int
    ids: Sequence[int]
    sequence: Any
    done: int  # of the ids, those that passes have read

    def part(self, room: int, wanted: Wanted, whole: bool) -> Part | None:
        """What it has in a pass in which so many rows are free; with `whole` all or nothing."""
        end = min(len(self.ids), self.done + room)
        if end == self.done or (whole and end < len(self.ids)):
            return None
        return Part(self.sequence, list(self.ids[self.done : end]), wanted(len(self.ids), self.done, end))


def last_row(count: int, first: int, end: int) -> int:
    return int(end == count)


def all_rows(count: int, first: int, end: int) -> int:
    return end - first


def first_row(count: int, first: int, end: int) -> int:
    return 0 if first else end


def read(
    model: Any,
    texts: Sequence[Sequence[int]],
    wanted: Wanted,
    *,
    shared: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[Seen]:
    """Passes over all texts of token ids, of each of which at least one follows the first `shared`, which all
    have and which are read once. progress(done, total) is called with tokens. Errors as of `Model.advance`.
    """
    base = model.sequence()
    active: list[Reading] = []
    try:
        beginning = list(texts[0][:shared])
        for at in range(0, shared, model.pass_tokens):
            ids = beginning[at : at + model.pass_tokens]
            model.advance([Part(base, ids, 0)], rows=True, cancelled=cancelled)
        waiting = sorted(range(len(texts)), key=lambda n: len(texts[n]))  # the longest first: they are popped
        done, total = shared, shared + sum(len(ids) - shared for ids in texts)
        while waiting or active:
            while waiting and len(active) < MANY and _has_room(model, active, texts[waiting[-1]], shared):
                number = waiting.pop()
                active.append(Reading(number, texts[number], base.fork(), shared))
            now, room = list[tuple[Reading, Part]](), model.pass_tokens
            for each in active:
                part = each.part(room, wanted, model.config.WHOLE)
                if part is not None:
                    now.append((each, part))
                    room -= len(part.ids)
            fed = model.advance([part for _, part in now], rows=True, cancelled=cancelled)
            for (each, part), found in zip(now, fed, strict=True):
                each.done += len(part.ids)
                done += len(part.ids)
                whole = each.done == len(each.ids)
                if whole:
                    active.remove(each)
                    each.sequence.close()
                yield Seen(each.number, found.logits, whole)
            if progress is not None:
                progress(done, total)
    finally:
        for sequence in (base, *(each.sequence for each in active)):
            sequence.close()


def most_tokens(model: Any, said: int | None) -> int:
    """Of a text: what the model's context and, where it reads a text whole, a pass hold, and what its file
    says.
    """
    most = [model.context, *([] if said is None else [said])]
    return min(most + [model.pass_tokens] if model.config.WHOLE else most)


def _has_room(model: Any, active: Sequence[Reading], ids: Sequence[int], shared: int) -> bool:
    """Whether the caches of one more text fit beside those that are on their way; that of the first always
    may try."""
    if not active:
        return True
    needed = sum(model.cache_bytes(len(text), shared) for text in (ids, *(each.ids for each in active)))
    held = model.cache_bytes(shared) if shared else 0
    return bool(held + needed <= model.pool.limit)

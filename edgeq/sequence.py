"""A sequence: token ids, and the pages of their keys and values.

It is changed by one call at a time, and another one that comes meanwhile is refused. Nothing that a pass
reads is freed under it: the pass holds the pages, and closing lets go of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ids
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq import arguments
from edgeq.cache import Page, Table
from edgeq.errors import CancelledError, OutOfMemoryError, UsageError, shown, size
from edgeq.ownership import Line, Turn, Unique
from edgeq.passes import Fed
from edgeq.runtime.batch import Segment

if TYPE_CHECKING:
    from edgeq.engine import Model

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


class Held(NamedTuple):
    """What a sequence holds, exchanged as a whole: no exception and no thread comes between its parts."""

    ids: list[int]  # the tokens and perhaps more behind them; appended to, and otherwise left as it is
    length: int  # of the tokens
    likeliest: int
    table: Table

    def cut(self, length: int) -> Held:
        """The first `length` tokens alone, or fewer where not all is there for the next, in a list of their
        own.
        """
        if length == len(self.ids):
            return self
        table, length = self.table.cut(length)
        return Held(self.ids[:length], length, -1, table)

    def more(self, ids: list[int], likeliest: int, table: Table) -> Held:
        """With ids behind the tokens."""
        held = self if self.length == len(self.ids) else self._replace(ids=self.ids[: self.length])
        held.ids.extend(ids)  # held.ids has none that a pass appended and then was broken off
        return Held(held.ids, len(held.ids), likeliest, table)


class Sequence(Unique):
    """Token ids and the pages of their keys and values."""

    def __init__(self, model: Model, held: Held | None = None):
        self._begin()
        self.model = model
        self._calls = Line()
        self._closed = False
        self._held = held or Held([], 0, -1, Table.empty(model.runner.plan))

    @property
    def ids(self) -> list[int]:
        """The tokens it holds, a copy: `feed` and `truncate` change them."""
        held = self._held
        return held.ids[: held.length]

    @ids.setter
    def ids(self, ids: object) -> None:
        raise UsageError("the ids of a sequence cannot be set: feed and truncate change them.")

    @property
    def likeliest(self) -> int:
        """The token of the largest logit after `ids`; -1 where one is not finite or none was computed."""
        return self._held.likeliest

    @property
    def pages(self) -> Table:
        """Where keys and values are; UsageError when the sequence was closed."""
        self._check_open()
        return self._held.table

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the sequence was closed.")

    def feed(
        self,
        ids: Ids[int],
        *,
        all_logits: bool = False,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> np.ndarray:
        """Append ids; float32 [vocab_size] of the last, or with all_logits [len(ids), vocab_size].

        UsageError where an id is outside the vocabulary, there is none, or they pass the context; where the
        sequence is being fed or cut by another call; and where a signal's handler or a finalizer feeds
        within a pass. OutOfMemoryError where the logits or the cache have no room. progress(done, total) is
        called as the tokens are done. cancelled() is asked before a pass and between its pieces, and answers
        at once; when it says yes, the pass is broken off and the call ends with CancelledError. Interrupted
        in whatever way, the sequence holds the passes that were finished.
        """
        fed = self._claimed(ids, None if all_logits else 1, progress, cancelled)
        return fed.logits if all_logits else fed.logits[-1]

    def step(
        self,
        ids: Ids[int],
        *,
        wanted: int = 1,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Fed:
        """`feed`, with what comes of the last `wanted` ids, whatever other threads do to the sequence."""
        return self._claimed(ids, wanted, progress, cancelled)

    def _claimed(
        self,
        ids: Ids[int],
        wanted: int | None,
        progress: Progress | None,
        cancelled: Cancelled | None = None,
    ) -> Fed:
        arguments.callback("progress", progress)
        arguments.callback("cancelled", cancelled)
        new = arguments.token_ids(ids, self.model.vocab_size, self.model.context)
        wanted = len(new) if wanted is None else wanted_of(wanted, len(new))
        turn = Turn("the sequence is being fed")
        try:
            self._calls.claim(turn, "be fed")
            return self._feed(new, wanted, progress, cancelled)
        finally:
            turn.over = True

    def _feed(
        self, new: np.ndarray, wanted: int, progress: Progress | None, cancelled: Cancelled | None
    ) -> Fed:
        """`step`, with the turn."""
        self._check_open()
        self._check_room(len(new))
        runner = self.model.runner
        step = min(runner.limit, runner.outputs) if wanted > runner.outputs else runner.limit
        fed = Fed(rows(wanted, self.model.vocab_size), np.empty(wanted, np.int64))
        silent = len(new) - wanted  # ids whose logits are not wanted
        done = 0
        while done < len(new):
            at, done = done, min(done + step, done + self.pass_room, len(new))
            outputs = max(0, done - max(at, silent))
            (part,) = run_pass(self.model, [(self, new[at:done], outputs)], cancelled)
            mine = slice(done - silent - outputs, done - silent) if outputs else slice(0)
            fed.logits[mine], fed.likeliest[mine] = part
            if progress:
                progress(done, len(new))
        return fed

    @property
    def pass_room(self) -> int:
        """Tokens that a pass may append: where there are far pages or states, what is left of a chunk."""
        room = self.model.cache.pass_room
        return room - self._held.length % room

    def _check_room(self, more: int) -> None:
        count, context = self._held.length, self.model.context
        if count + more > context:
            raise UsageError(
                f"{count} + {more} tokens do not fit in the context of {context}; "
                "a larger context or a shorter prompt is needed."
            )

    def truncate(self, n: int) -> int:
        """Forget everything after the first n tokens; how many are left. They are fewer where the next token
        would see what was given back: a window lets go of what is behind it, and a recurrent layer keeps its
        state before the last pass and after some chunks alone. UsageError as from `feed`.
        """
        turn = Turn("the sequence is being cut")
        try:
            self._calls.claim(turn, "be cut")
            held = self._held
            length = int(n) if arguments.is_int(n) else -1
            if not 0 <= length <= held.length:
                raise UsageError(f"a sequence of {held.length} tokens cannot be cut to {shown(n)}.")
            if length < held.length:
                self._exchange(held.cut(length))
            return self._held.length
        finally:
            turn.over = True

    def fork(self) -> Sequence:
        """Another sequence of the same tokens, which shares the pages until one of the two writes to them.
        UsageError as from `feed`.
        """
        turn = Turn("the sequence is being forked")
        try:
            self._calls.claim(turn, "be forked")
            self._check_open()
            held = self._held
            held.table.freeze()
            return Sequence(self.model, held._replace(ids=held.ids[: held.length]))
        finally:
            turn.over = True

    # ---- as what is kept of a prefix ----
    def kept(self) -> tuple[list[int], list[dict[str, Page]]]:
        """The tokens, and the pages of each chunk by form: see `cache.Table.chunks`. UsageError as from
        `feed`.
        """
        turn = Turn("the sequence is being kept")
        try:
            self._calls.claim(turn, "be kept")
            self._check_open()
            held = self._held
            held.table.freeze()  # now: when the turn is over, another thread may cut it and go on
            return held.ids[: held.length], held.table.chunks(held.length)
        finally:
            turn.over = True

    def adopt(self, ids: Ids[int], pages: Ids[Mapping[str, Any]]) -> None:
        """Be these tokens, with pages as `kept` gave them and perhaps more in the last. UsageError as from
        `feed`.
        """
        turn = Turn("the sequence is being exchanged")
        try:
            self._calls.claim(turn, "be exchanged")
            self._check_open()
            table = Table.of_chunks(self.model.cache, pages, len(ids))
            self._exchange(Held(list(ids), len(ids), -1, table))
        finally:
            turn.over = True

    def close(self) -> None:
        """Let go of the cache. A call under way breaks its pass off and ends with UsageError."""
        self._closed = True
        self._let_go()

    def _exchange(self, held: Held) -> None:
        spare = self._held.table.beside(held.table)
        self._held = held
        if spare:
            self.model.pool.give_back(spare)
        if self._closed:  # by another thread, meanwhile
            self._let_go()

    def _let_go(self) -> None:
        held = self._held
        self._held = held._replace(table=Table.empty(held.table.plan))

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<edgeq.Sequence: {self._held.length} of {self.model.context} tokens{closed}>"


def run_pass(
    model: Model,
    parts: Ids[tuple[Sequence, np.ndarray, int]],
    cancelled: Cancelled | None,
    rows: bool = False,
) -> list[Fed]:
    """One pass: each sequence's ids, int64, and how many of the last are wanted; whoever calls has the turn
    of all of them, and checked the ids and that there is room. With `rows` what is left is not logits but
    the rows that they are made of.
    """
    sequences = [sequence for sequence, _, _ in parts]

    def go_on() -> None:
        if model._closed or any(sequence._closed for sequence in sequences):
            raise UsageError(f"the {'model' if model._closed else 'sequence'} was closed.")
        if cancelled is not None and cancelled():
            raise CancelledError("the call was cancelled.")

    held = [sequence._held for sequence in sequences]
    prepared = [
        h.table.prepared(model.pool, h.length, len(ids)) for h, (_, ids, _) in zip(held, parts, strict=True)
    ]
    tables = [table for table, _ in prepared]
    narrowings = [each for _, some in prepared for each in some]
    segments = [
        Segment(ids, h.length, wanted, table.addresses, table.states_at(h.length, h.length + len(ids)))
        for h, table, (_, ids, wanted) in zip(held, tables, parts, strict=True)
    ]
    turn = Turn("a pass is under way")
    try:
        model._passes.wait(turn)
        model.runner.narrow(narrowings, go_on)
        logits, likeliest = (part.copy() for part in model.runner.run(segments, go_on, rows=rows))
    finally:
        turn.over = True
        turn.ring()
        if model._closed:  # perhaps by a handler that came into the pass and could not wait for it
            model.close()
    cancelled = None  # too late: the pass is done
    go_on()
    at, fed = 0, []
    for sequence, h, table, s in zip(sequences, held, tables, segments, strict=True):
        part = slice(at, at + s.wanted)
        last = int(likeliest[part][-1]) if s.wanted else -1
        sequence._exchange(h.more(s.ids.tolist(), last, table))
        fed.append(Fed(logits[part], likeliest[part]))
        at += s.wanted
    return fed


def wanted_of(wanted: object, count: int) -> int:
    """Of how many of the last of `count` ids the logits are wanted, checked."""
    number = int(wanted) if arguments.is_int(wanted) else -1  # type: ignore[call-overload]
    if not 0 <= number <= count:
        raise UsageError(f"wanted is {shown(wanted)}, but must be a whole number from 0 to {count}.")
    return number


def rows(count: int, columns: int) -> np.ndarray:
    """Room for logits, float32 [count, columns]."""
    try:
        return np.empty((count, columns), np.float32)
    except MemoryError:
        raise OutOfMemoryError(
            f"the logits of {count} tokens need {size(4 * count * columns)}, which are not to be had; "
            "feed fewer tokens at a time."
        ) from None

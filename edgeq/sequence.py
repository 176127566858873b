"""A sequence: token ids, and the cache of their keys and values.

It is changed by one call at a time, and another one that comes meanwhile is refused. Nothing that a pass
reads is freed under it: the pass holds the cache, and closing lets go of it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Ids
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeq import arguments
from edgeq.cache import Cache
from edgeq.errors import CancelledError, OutOfMemoryError, UsageError, shown, size
from edgeq.ownership import Line, Turn, Unique
from edgeq.passes import Fed

if TYPE_CHECKING:
    from edgeq.engine import Model

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


class Held(NamedTuple):
    """What a sequence holds, exchanged as a whole: no exception and no thread comes between its parts."""

    ids: list[int]  # the tokens and perhaps more behind them; appended to, and otherwise left as it is
    length: int  # of the tokens
    likeliest: int

    def cut(self, length: int) -> Held:
        """The first `length` tokens alone, in a list of their own."""
        return self if length == len(self.ids) else Held(self.ids[:length], length, -1)

    def more(self, ids: list[int], likeliest: int) -> Held:
        """With ids behind the tokens."""
        held = self.cut(self.length)  # without those that a pass appended and then was broken off
        held.ids.extend(ids)
        return Held(held.ids, len(held.ids), likeliest)


class Sequence(Unique):
    """Token ids and the cache of their keys and values."""

    def __init__(self, model: Model):
        self._begin()
        self.model = model
        self._calls = Line()
        self._held = Held([], 0, -1)
        self._cache: Cache | None = Cache(model.runner.cache_shape)

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
    def cache(self) -> Cache:
        """The memory; UsageError when the sequence was closed."""
        cache = self._cache
        if cache is None:
            raise UsageError("the sequence was closed.")
        return cache

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
        within a pass. OutOfMemoryError where the logits have no room. progress(done, total) is called as the
        tokens are done. cancelled() is asked before a pass and between its pieces, and answers at once; when
        it says yes, the pass is broken off and the call ends with CancelledError. Interrupted in whatever
        way, the sequence holds the passes that were finished.
        """
        logits, _ = self._claimed(ids, all_logits, progress, cancelled)
        return logits if all_logits else logits[-1]

    def step(
        self,
        ids: Ids[int],
        *,
        wanted: int = 1,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Fed:
        """`feed`, with the logits of the last `wanted` ids and the likeliest token of each, whatever other
        threads do to the sequence."""
        # Shim: a pass gives the likeliest of its last row alone, and logits of all rows or of one.
        logits, likeliest = self._claimed(ids, wanted > 1, progress, cancelled)
        logits = logits[len(logits) - wanted :]
        if wanted == 1:
            return Fed(logits, np.array([likeliest]))
        return Fed(logits, np.where(np.isfinite(logits).all(axis=1), logits.argmax(axis=1), -1))

    def _claimed(
        self,
        ids: Ids[int],
        all_logits: bool,
        progress: Progress | None,
        cancelled: Cancelled | None = None,
    ) -> tuple[np.ndarray, int]:
        arguments.callback("progress", progress)
        arguments.callback("cancelled", cancelled)
        new = arguments.token_ids(ids, self.model.vocab_size, self.model.context)
        turn = Turn("the sequence is being fed")
        try:
            self._calls.claim(turn, "be fed")
            return self._feed(new, all_logits, progress, cancelled), self._held.likeliest
        finally:
            turn.over = True

    def _feed(
        self, new: np.ndarray, all_logits: bool, progress: Progress | None, cancelled: Cancelled | None
    ) -> np.ndarray:
        """`feed`, with the turn: float32 [1 or, with all_logits, len(new), vocab_size]."""
        self._check_room(len(new))
        runner = self.model.runner
        step = min(runner.limit, runner.outputs) if all_logits else runner.limit
        out = rows(len(new) if all_logits else 1, self.model.vocab_size)
        for at in range(0, len(new), step):
            part = new[at : at + step]
            done = at + len(part)
            outputs = len(part) if all_logits else int(done == len(new))
            self._pass(part, out[at:done] if all_logits else out[:outputs], cancelled)
            if progress:
                progress(done, len(new))
        return out

    def _pass(self, part: np.ndarray, out: np.ndarray, cancelled: Cancelled | None) -> None:
        """One pass; the logits of its last tokens into `out`."""
        model, cache, held = self.model, self.cache, self._held

        def go_on() -> None:
            if model._closed or self._cache is not cache:
                raise UsageError(f"the {'model' if model._closed else 'sequence'} was closed.")
            if cancelled is not None and cancelled():
                raise CancelledError("the call was cancelled.")

        turn = Turn("a pass is under way")
        try:
            model._passes.wait(turn)
            logits, likeliest = model.runner.run(cache, held.length, part, len(out), go_on)
            out[:] = logits
        finally:
            turn.over = True
            turn.ring()
            if model._closed:  # perhaps by a handler that came into the pass and could not wait for it
                model.close()
        cancelled = None  # too late: the pass is done
        go_on()
        self._held = held.more(part.tolist(), likeliest)

    def _check_room(self, more: int) -> None:
        count, context = self._held.length, self.model.context
        if count + more > context:
            raise UsageError(
                f"{count} + {more} tokens do not fit in the context of {context}; "
                "a larger context or a shorter prompt is needed."
            )

    def truncate(self, n: int) -> int:
        """Forget everything after the first n tokens; how many are left. UsageError as from `feed`."""
        turn = Turn("the sequence is being cut")
        try:
            self._calls.claim(turn, "be cut")
            held = self._held
            length = int(n) if arguments.is_int(n) else -1
            if not 0 <= length <= held.length:
                raise UsageError(f"a sequence of {held.length} tokens cannot be cut to {shown(n)}.")
            if length < held.length:
                self._held = held.cut(length)
            return length
        finally:
            turn.over = True

    def fork(self) -> Sequence:
        """Another sequence of the same ids."""
        other = self.model.sequence()  # Shim: it computes anew what pages will share.
        if ids := self.ids:
            other.feed(ids)
        return other

    def close(self) -> None:
        """Let go of the cache. A call under way breaks its pass off and ends with UsageError."""
        self._cache = None

    def __repr__(self) -> str:
        closed = ", closed" if self._cache is None else ""
        return f"<edgeq.Sequence: {self._held.length} of {self.model.context} tokens{closed}>"


def rows(count: int, columns: int) -> np.ndarray:
    """Room for logits, float32 [count, columns]."""
    try:
        return np.empty((count, columns), np.float32)
    except MemoryError:
        raise OutOfMemoryError(
            f"the logits of {count} tokens need {size(4 * count * columns)}, which are not to be had; "
            "feed fewer tokens at a time."
        ) from None

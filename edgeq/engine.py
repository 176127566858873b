"""The engine: a model file and sequences of token ids.

The engine speaks token ids. Text comes in through `Model.tokenizer` and `edgeq.generate`.

Every call may come from any thread, from a signal's handler, and from within a callback of another call. A
model serves one pass at a time, and passes wait for their turn; between the passes of a call its callbacks
run. A sequence is changed by one call at a time, and another one that comes meanwhile is refused. Nothing
that a pass reads is freed under it: the pass holds the `Runner` and the cache, and closing lets go of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from collections.abc import Sequence as Ids
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq import arguments, formats, models
from edgeq.arguments import whole
from edgeq.cache import Cache
from edgeq.errors import CancelledError, OutOfMemoryError, UsageError, printable, shown, size
from edgeq.ownership import Line, Turn, Unique, waiting
from edgeq.packs import store
from edgeq.runner import Runner

if TYPE_CHECKING:
    from edgeq.generate import Generation

CONTEXT_DEFAULT = 8192  # unless the model ends earlier
ACTS = ("int8", "f32")

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    context: int | None = None,
    kv: str = "q8",
    act: str = "int8",
    progress: store.Progress | None = None,
) -> Model:
    """Open an .edgeq file for running.

    threads: workers, by default the physical cores this process may use, fewer for a tiny model. context:
    positions of a sequence at the most, by default the model's but not above 8192; 0 is all the model has.
    kv: the cache's numbers, "q8", "f16" or "f32". act: "int8" activations, or "f32", the exact meaning of
    the weights. progress(done, total, kernel) is called while kernels are compiled. FormatError,
    UnsupportedError, UsageError or OutOfMemoryError say in one sentence what is wrong; a RuntimeWarning says
    that the system has fewer threads to give.
    """
    return Model(path, threads=threads, context=context, kv=kv, act=act, progress=progress)


class Model(Unique):
    """A model ready to run; a context manager. Passes from several threads queue.

    What it takes from the system is given back by `close`, when the object goes, and at the process's end.
    """

    _closed = False
    _runner: Runner | None = None
    _ending = staticmethod(sys.is_finalizing)  # here, since names of modules are gone by then

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        context: int | None = None,
        kv: str = "q8",
        act: str = "int8",
        progress: store.Progress | None = None,
    ):
        self._begin()
        arguments.one_of("act", act, ACTS)
        arguments.callback("progress", progress)
        threads = None if threads is None else whole("threads", threads)
        self.kv, self.act = kv, act
        self._passes = Line()
        self._tokenizer: Any = None
        self.file = formats.open_model(path)
        try:
            self.config = models.check(self.file)
            self.context = self._context(context)
            self._runner = Runner(
                self.file,
                self.config,
                threads=threads,
                context=self.context,
                kv=kv,
                act=act,
                progress=progress,
            )
        except MemoryError as error:
            self.file.close()
            why = f" ({error})" if str(error) else ""
            path = printable(str(self.file.path))
            raise OutOfMemoryError(f"{path} cannot be loaded: memory is short{why}.") from None
        except BaseException:
            self.file.close()
            raise
        self.isa, self.threads = self._runner.isa, self._runner.threads
        self.cache_shape = self._runner.cache_shape
        if self._closed:  # by a callback or a handler, meanwhile
            self.close()

    def _context(self, context: int | None) -> int:
        most = self.config.max_position_embeddings
        if context is None:
            return min(most, CONTEXT_DEFAULT)
        if arguments.is_int(context) and context == 0:
            return most
        wanted = whole("context", context)
        if wanted > most:
            raise UsageError(
                f"context is {shown(context)}, but this model was made for at most {most} positions."
            )
        return wanted

    @property
    def runner(self) -> Runner:
        """What runs passes; UsageError when the model was closed."""
        runner = self._runner
        if runner is None or self._closed:
            raise UsageError("the model was closed.")
        return runner

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def tokenizer(self) -> Any:
        """The file's tokenizer, or None where it has none."""
        spec = self.file.header.get("tokenizer")
        if self._tokenizer is None and spec is not None:
            from edgeq import tokenizer

            blob = bytes(self.file.tensors[spec["tensor"]].data)
            self._tokenizer = tokenizer.load(spec, blob, self.vocab_size)
        return self._tokenizer

    @property
    def chat_template(self) -> str | None:
        """The file's jinja2 chat template."""
        template = self.file.header.get("chat_template")
        return template if isinstance(template, str) else None

    def sequence(self) -> Sequence:
        """A new, empty sequence with a cache of its own."""
        return Sequence(self)

    def logits(self, ids: Ids[int]) -> np.ndarray:
        """float32 [len(ids), vocab_size]: after each id, the logits of the next."""
        sequence = self.sequence()
        try:
            return sequence.feed(ids, all_logits=True)
        finally:
            sequence.close()

    def generate(self, prompt: str | Ids[int], **options: Any) -> Generation:
        """Text that follows the prompt, piece by piece; the options are those of `edgeq.generate.stream`."""
        from edgeq import generate

        return generate.stream(self, prompt, **generate.keywords(options))

    def close(self) -> None:
        """Send the threads home and let go of the file.

        A call under way breaks its pass off and ends with UsageError: in another thread before this returns,
        in this thread (from a callback or a signal's handler) when it goes on.
        """
        self._closed = True
        if self._runner is None or self._ending():  # of the process, when threads stop wherever they are
            return
        turn = Turn("the model is being closed")
        try:
            if waiting():
                if self._passes.come(turn):
                    return  # the pass that is under way closes it in its end
            else:
                self._passes.wait(turn)
            if self._runner is not None:
                self._runner.close()
                self._runner = None
                self.file.close()
        finally:
            turn.over = True
            turn.ring()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
        self, ids: Ids[int], *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> tuple[np.ndarray, int]:
        """`feed`, and what is then the `likeliest`, whatever other threads do to the sequence."""
        logits, likeliest = self._claimed(ids, False, progress, cancelled)
        return logits[-1], likeliest

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

    def truncate(self, n: int) -> None:
        """Forget everything after the first n tokens. UsageError as from `feed`."""
        turn = Turn("the sequence is being cut")
        try:
            self._calls.claim(turn, "be cut")
            held = self._held
            length = int(n) if arguments.is_int(n) else -1
            if not 0 <= length <= held.length:
                raise UsageError(f"a sequence of {held.length} tokens cannot be cut to {shown(n)}.")
            if length < held.length:
                self._held = held.cut(length)
        finally:
            turn.over = True

    def close(self) -> None:
        """Let go of the cache. A call under way breaks its pass off and ends with UsageError."""
        self._cache = None


def rows(count: int, columns: int) -> np.ndarray:
    """Room for logits, float32 [count, columns]."""
    try:
        return np.empty((count, columns), np.float32)
    except MemoryError:
        raise OutOfMemoryError(
            f"the logits of {count} tokens need {size(4 * count * columns)}, which are not to be had; "
            "feed fewer tokens at a time."
        ) from None

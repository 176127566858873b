"""The engine: a model file and sequences of token ids.

The engine speaks token ids. Text comes in through `Model.tokenizer` and `edgeq.generate`.

Every call may come from any thread, from a signal's handler, and from within a callback of another call.
Calls that run passes queue for the model's lock; what cannot be done from where it is asked for (going on
with a sequence from within its own `progress`) is refused. Nothing that a pass reads is freed under it: the
pass holds the `Runner` and the cache, and closing lets go of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Sequence as Ids
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import formats, models
from edgeq.cache import Cache
from edgeq.errors import OutOfMemoryError, UsageError
from edgeq.ownership import Locked, Unique, here
from edgeq.runner import Runner
from edgeq.simd import store

if TYPE_CHECKING:
    from edgeq.generate import Generation

CONTEXT_DEFAULT = 8192  # unless the model ends earlier
ACTS = ("int8", "f32")

Progress = Callable[[int, int], None]


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


class Model(Locked):
    """A model ready to run; a context manager. Calls from several threads queue.

    What it takes from the system is given back by `close`, when the object goes, and at the process's end.
    """

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
        if act not in ACTS:
            raise UsageError(f"act is {act!r}, but activations are one of {', '.join(ACTS)}.")
        if threads is not None:
            whole("threads", threads)
        super().__init__()
        self.kv, self.act = kv, act
        self._passing: tuple[int, int] | None = None  # the thread that is in a pass
        self._closed = False
        self._tokenizer: Any = None
        self.file = formats.open_model(path)
        try:
            self.config = models.check(self.file)
            self.context = self._context(context)
            self._runner: Runner | None = Runner(
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
            raise OutOfMemoryError(f"{self.file.path} cannot be loaded: memory is short{why}.") from None
        except BaseException:
            self.file.close()
            raise
        self.isa, self.threads = self._runner.isa, self._runner.threads
        self.cache_shape = self._runner.cache_shape

    def _context(self, context: int | None) -> int:
        most = self.config.max_position_embeddings
        if context is None:
            return min(most, CONTEXT_DEFAULT)
        if context == 0 and not isinstance(context, bool):
            return most
        if whole("context", context) > most:
            raise UsageError(f"context is {context}, but this model was made for at most {most} positions.")
        return context

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
        with self._lock:
            self._runner = None
            self.file.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sequence(Unique):
    """Token ids and the cache of their keys and values."""

    def __init__(self, model: Model):
        self.model = model
        self.likeliest = -1  # the token of the largest logit after the last feed; -1: a logit is not finite
        self._ids: list[int] = []
        self._feeding: tuple[int, int] | None = None  # the thread that feeds it
        self._cache: Cache | None = Cache(model.cache_shape)

    @property
    def ids(self) -> list[int]:
        """The tokens it holds, a copy: `feed` and `truncate` change them."""
        return self._ids.copy()

    @ids.setter
    def ids(self, ids: object) -> None:
        raise UsageError("the ids of a sequence cannot be set: feed and truncate change them.")

    @property
    def cache(self) -> Cache:
        """The memory; UsageError when the sequence was closed."""
        cache = self._cache
        if cache is None:
            raise UsageError("the sequence was closed.")
        return cache

    def feed(
        self, ids: Ids[int], *, all_logits: bool = False, progress: Progress | None = None
    ) -> np.ndarray:
        """Append ids; float32 [vocab_size] of the last, or with all_logits [len(ids), vocab_size].

        UsageError where an id is outside the vocabulary, there is none, or they pass the context.
        progress(done, total) is called as the tokens are done. Interrupted, the sequence holds the passes
        that were finished.
        """
        new = self._checked(ids)
        with self.model._lock:
            self._refuse_within("fed")
            self._feeding = here()
            try:
                return self._feed(new, all_logits, progress)
            finally:
                self._feeding = None

    def _feed(self, new: np.ndarray, all_logits: bool, progress: Progress | None) -> np.ndarray:
        """`feed`, with the lock held."""
        self._check_room(len(new))
        runner = self.model.runner
        step = min(runner.limit, runner.outputs) if all_logits else runner.limit
        out = np.empty((len(new) if all_logits else 1, self.model.vocab_size), np.float32)
        for at in range(0, len(new), step):
            part = new[at : at + step]
            done = at + len(part)
            outputs = len(part) if all_logits else int(done == len(new))
            self._pass(runner, part, out[at:done] if all_logits else out[:outputs])
            if progress:
                progress(done, len(new))
        return out if all_logits else out[-1]

    def _pass(self, runner: Runner, part: np.ndarray, out: np.ndarray) -> None:
        """One pass; the logits of its last tokens into `out`."""
        model, cache, position = self.model, self.cache, len(self._ids)
        if model._passing == here():
            raise UsageError("a pass is under way: a signal's handler cannot run another within it.")
        model._passing = here()
        try:
            logits, likeliest = runner.run(cache, position, part, len(out), lambda: model.runner)
            out[:] = logits
        finally:
            model._passing = None
        if self._cache is not cache:
            raise UsageError("the sequence was closed.")
        self._ids.extend(part.tolist())
        if len(out):
            self.likeliest = likeliest

    def _checked(self, ids: Ids[int]) -> np.ndarray:
        """A copy of ids, int64, of which nobody else knows; UsageError where they are no token ids."""
        new = np.array(ids)
        if new.ndim != 1 or not len(new) or new.dtype.kind not in "iu":
            raise UsageError("ids must be a list of at least one token id.")
        low, high = int(new.min()), int(new.max())
        if low < 0 or high >= self.model.vocab_size:
            wrong = low if low < 0 else high
            raise UsageError(f"token id {wrong} is outside the vocabulary of {self.model.vocab_size}.")
        return new.astype(np.int64)

    def _check_room(self, more: int) -> None:
        if len(self._ids) + more > self.model.context:
            raise UsageError(
                f"{len(self._ids)} + {more} tokens do not fit in the context of {self.model.context}; "
                "a larger context or a shorter prompt is needed."
            )

    def _refuse_within(self, what: str) -> None:
        """UsageError when this thread is within a `feed` of this sequence. The lock is held."""
        if self._feeding == here():
            raise UsageError(f"the sequence is being fed, so it cannot be {what} from within that call.")

    def truncate(self, n: int) -> None:
        """Forget everything after the first n tokens."""
        with self.model._lock:
            self._refuse_within("cut")
            if not 0 <= n <= len(self._ids):
                raise UsageError(f"a sequence of {len(self._ids)} tokens cannot be cut to {n}.")
            del self._ids[n:]

    def close(self) -> None:
        """Let go of the cache. A call under way ends with UsageError after its pass."""
        self._cache = None


def whole(name: str, value: int) -> int:
    """value, checked to be a positive whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}, but a positive whole number is needed.")
    return value

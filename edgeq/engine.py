"""The engine: a model file, the program recorded from its family, a team to run it, and sequences of token
ids.

The engine speaks token ids. Text comes in through `Model.tokenizer` and `edgeq.generate`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ids
from types import TracebackType
from typing import Any

import numpy as np

from edgeq import formats, models, rotary, tuned
from edgeq.cache import Cache, CacheShape
from edgeq.cores import default_threads
from edgeq.errors import UsageError
from edgeq.kernels.catalog import State
from edgeq.program import Program, Settings
from edgeq.simd import store
from edgeq.simd.host import host_isa
from edgeq.team import Team
from edgeq.weights import Weights

PASS_TOKENS = 256  # tokens in a pass at the most
LOGITS_BYTES = 32 << 20  # memory for the logits of a pass at the most
CONTEXT_DEFAULT = 8192  # unless the model ends earlier
PAUSE_WORK = 4e9  # multiplications between two chances for Ctrl-C, where layers are no bigger
WORKER_WORK = 2_000_000  # multiplications of a token that are worth one more worker
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
    UnsupportedError or UsageError say in one sentence what is wrong.
    """
    return Model(path, threads=threads, context=context, kv=kv, act=act, progress=progress)


class Model:
    """A model ready to run; a context manager. Calls from several threads queue."""

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
        self.file = formats.open_model(path)
        try:
            self.config = models.check(self.file)
            self.context = self._context(context)
            self.kv, self.act = kv, act
            self.isa = host_isa().name
            self.cache_shape = CacheShape.of(
                kv,
                self.config.num_hidden_layers,
                self.config.num_key_value_heads,
                self.config.head_dim,
                self.context,
            )
            self.weights = Weights(self.file)
            work = sum(m.rows * m.columns for m in self.weights.matrices())
            cores = default_threads()
            self._tuned = tuned.read(self.isa, cores, store.sources_digest())
            self.threads = threads or max(1, min(self._tuned.threads or cores, work // WORKER_WORK))
            self._program = self._record()
            self._layer_work = work / self.config.num_hidden_layers
            addresses = store.kernels().load([*Team.requests(self.isa), *self._program.requests()], progress)
            self._program.finish(addresses)
            self._team = Team(self.threads, self.isa)
        except BaseException:
            self.file.close()
            raise
        self._lock = threading.RLock()
        self._bound: weakref.ref[Sequence] | None = None
        self._tokenizer: Any = None
        self._closed = False

    def _context(self, context: int | None) -> int:
        most = self.config.max_position_embeddings
        if context is None:
            return min(most, CONTEXT_DEFAULT)
        if context == 0 and not isinstance(context, bool):
            return most
        if whole("context", context) > most:
            raise UsageError(f"context is {context}, but this model was made for at most {most} positions.")
        return context

    def _record(self) -> Program:
        c = self.config
        frequencies = self.weights.vector("rope.inverse_frequencies").values[: c.rotary_size]
        self._rotary = rotary.Tables(frequencies, self.context)
        limit = min(PASS_TOKENS, self.context)
        outputs = max(1, min(limit, LOGITS_BYTES // (4 * c.vocab_size)))
        program = Program(
            Settings(
                isa=self.isa,
                act=self.act,
                cache=self.cache_shape,
                workers=self.threads,
                limit=limit,
                outputs=outputs,
                epsilon=c.rms_norm_eps,
                window=c.sliding_window,
                cosine=self._rotary.cosine,
                sine=self._rotary.sine,
                tokens=host_isa().tokens,
                tiles=self._tuned.tiles,
            )
        )
        models.family(self.file.family).forward(program, c, self.weights)
        return program

    # ---- what callers see ----
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

    def generate(self, prompt: str | Ids[int], **options: Any) -> Iterator[str]:
        """Text that follows the prompt, piece by piece; the options are those of `edgeq.generate.stream`."""
        from edgeq import generate

        return generate.stream(self, prompt, **generate.keywords(options))

    def close(self) -> None:
        """Send the threads home and let go of the file."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._team.close()
                self.file.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- one pass ----
    def _run(self, sequence: Sequence, ids: np.ndarray, outputs: int) -> np.ndarray:
        """Run ids (at most a pass) after the sequence's tokens; a view of the logits of the last `outputs` of
        them.
        """
        program, count, cache = self._program, len(ids), sequence.cache
        if self._bound is None or self._bound() is not sequence:
            program.bind(cache)
            self._bound = weakref.ref(sequence)
        self._rotary.reach(len(sequence.ids) + count)
        program.ids[:count] = ids
        program.state[State.COUNT // 8] = count
        program.state[State.POSITION // 8] = len(sequence.ids)
        program.state[State.OUTPUTS // 8] = outputs
        program.code[:, 2] = 0  # nothing of the pass's work is taken yet
        for first, last in self._pieces(count):
            self._team.run(program.code[first:last])
        return program.logits[:outputs, : self.vocab_size]

    def _pieces(self, count: int) -> Iterator[tuple[int, int]]:
        """Where a pass over `count` tokens pauses, so that Ctrl-C need not wait for its end."""
        end = len(self._program.code)
        layers = max(1, int(PAUSE_WORK / (self._layer_work * count)))
        stops = [0, *self._program.marks[layers::layers], end]
        return zip(stops, stops[1:], strict=False)


class Sequence:
    """Token ids and the cache of their keys and values."""

    def __init__(self, model: Model):
        self.model = model
        self.ids: list[int] = []
        self.likeliest = -1  # the token of the largest logit after the last feed; -1: a logit is not finite
        self._cache: Cache | None = Cache(model.cache_shape)

    @property
    def cache(self) -> Cache:
        """The memory; UsageError when the sequence was closed."""
        if self._cache is None:
            raise UsageError("the sequence was closed.")
        return self._cache

    def feed(
        self, ids: Ids[int], *, all_logits: bool = False, progress: Progress | None = None
    ) -> np.ndarray:
        """Append ids; float32 [vocab_size] of the last, or with all_logits [len(ids), vocab_size].

        UsageError where an id is outside the vocabulary, there is none, or they pass the context.
        progress(done, total) is called as the tokens are done. Interrupted, the sequence holds the passes
        that were finished.
        """
        model = self.model
        new = self._checked(ids)
        with model._lock:
            if model._closed:
                raise UsageError("the model was closed.")
            step = (
                len(model._program.ids)
                if not all_logits
                else min(len(model._program.ids), len(model._program.logits))
            )
            out = np.empty((len(new), model.vocab_size), np.float32) if all_logits else None
            logits = np.empty(0, np.float32)
            for at in range(0, len(new), step):
                part = new[at : at + step]
                last = at + len(part) == len(new)
                logits = model._run(self, part, len(part) if all_logits else int(last))
                self.ids.extend(part.tolist())
                if len(logits):
                    self.likeliest = int(model._program.likeliest[len(logits) - 1])
                if out is not None:
                    out[at : at + len(part)] = logits
                if progress:
                    progress(at + len(part), len(new))
            return out if out is not None else logits[-1].copy()

    def _checked(self, ids: Ids[int]) -> np.ndarray:
        new = np.asarray(ids)
        if new.ndim != 1 or not len(new) or new.dtype.kind not in "iu":
            raise UsageError("ids must be a list of at least one token id.")
        low, high = int(new.min()), int(new.max())
        if low < 0 or high >= self.model.vocab_size:
            wrong = low if low < 0 else high
            raise UsageError(f"token id {wrong} is outside the vocabulary of {self.model.vocab_size}.")
        if len(self.ids) + len(new) > self.model.context:
            raise UsageError(
                f"{len(self.ids)} + {len(new)} tokens do not fit in the context of {self.model.context}; "
                "a larger context or a shorter prompt is needed."
            )
        return new.astype(np.int64)

    def truncate(self, n: int) -> None:
        """Forget everything after the first n tokens."""
        if not 0 <= n <= len(self.ids):
            raise UsageError(f"a sequence of {len(self.ids)} tokens cannot be cut to {n}.")
        del self.ids[n:]

    def close(self) -> None:
        """Let go of the cache."""
        self.ids = []
        self._cache = None


def whole(name: str, value: int) -> int:
    """value, checked to be a positive whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}, but a positive whole number is needed.")
    return value

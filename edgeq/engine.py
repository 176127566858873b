"""The engine: a model file and sequences of token ids.

The engine speaks token ids. Text comes in through `Model.tokenizer` and `edgeq.generate`.

Every call may come from any thread, from a signal's handler, and from within a callback of another call. A
model serves one pass at a time, and passes wait for their turn; between the passes of a call its callbacks
run. Nothing that a pass reads is freed under it: the pass holds the `Runner`, and closing lets go of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ids
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from edgeq import arguments, formats, models
from edgeq.advance import advance
from edgeq.arguments import whole
from edgeq.cache import PagePool, stored
from edgeq.defaults import cache_memory_of, context_of
from edgeq.errors import OutOfMemoryError, UsageError, printable, shown
from edgeq.kernels.catalog import CHUNK
from edgeq.ownership import Line, Turn, Unique, waiting
from edgeq.packs import store
from edgeq.passes import Fed, Part
from edgeq.runner import Runner
from edgeq.sequence import Cancelled
from edgeq.sequence import Sequence as Sequence
from edgeq.speculate import PassCosts

if TYPE_CHECKING:
    from edgeq.chat.answer import Answer, ChatResult
    from edgeq.chat.conversation import Conversation
    from edgeq.embed import Pooling
    from edgeq.generate import Batch, Generation, Result
    from edgeq.prefix import Prefixes

ACTS = ("int8", "f32")


def load(
    name_or_path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    context: int | None = None,
    kv: str | None = None,
    act: str = "int8",
    cache_memory: int | None = None,
    prompt_cache: str | os.PathLike[str] | None = None,
    prompt_cache_size: int | None = None,
    prompt_cache_ro: bool = False,
    progress: store.Progress | None = None,
    keep: bool = False,
    tell: Callable[[str], object] | None = None,
    converting: Callable[[int, int, str], None] | None = None,
) -> Model:
    """Open a model for running: whatever the commands take for MODEL.

    An .edgeq file is opened; what else is there is converted first, once, into the cache that the commands
    use, and a name on the Hugging Face hub is fetched before, which may take minutes. keep: no number is
    rounded then. tell(line) is called with what is done, converting(done, total, name) with bytes while it
    is; both are quiet unless given, `tell=print` is not.

    threads: workers, by default the physical cores this process may use, fewer for a tiny model. context:
    positions of a sequence at the most, by default the model's but not above 8192; 0 is all the model has.
    kv: the cache's numbers, one of `edgeq.cache.KINDS`, by default what the file
    names, else "q8". act: "int8" activations, or "f32", the exact meaning of the
    weights. cache_memory: bytes that the caches of all sequences may take; by default as much as one whole
    context needs, or a quarter of what the system has left where that is more. progress(done, total, kernel)
    is called while kernels are compiled. FormatError, UnsupportedError, UsageError, NetworkError or
    OutOfMemoryError say in one sentence what is wrong; a RuntimeWarning says that the system has fewer
    threads to give.
    """
    options: dict[str, Any] = dict(threads=threads, context=context, kv=kv, act=act, progress=progress)
    options |= dict(cache_memory=cache_memory, prompt_cache=prompt_cache)
    options |= dict(prompt_cache_size=prompt_cache_size, prompt_cache_ro=prompt_cache_ro)
    return Model.from_pretrained(name_or_path, keep=keep, tell=tell, converting=converting, **options)


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
        kv: str | None = None,
        act: str = "int8",
        cache_memory: int | None = None,
        prompt_cache: str | os.PathLike[str] | None = None,
        prompt_cache_size: int | None = None,
        prompt_cache_ro: bool = False,
        progress: store.Progress | None = None,
    ):
        self._begin()
        arguments.one_of("act", act, ACTS)
        arguments.callback("progress", progress)
        threads = None if threads is None else whole("threads", threads)
        limit = None if cache_memory is None else whole("cache_memory", cache_memory)
        size = None if prompt_cache_size is None else whole("prompt_cache_size", prompt_cache_size)
        if prompt_cache is not None and not (
            isinstance(prompt_cache, str | os.PathLike) and str(prompt_cache)
        ):
            raise UsageError(f"prompt_cache is {shown(prompt_cache)}, but must name a folder.")
        self.act = act
        self._kept = prompt_cache, size, not prompt_cache_ro
        self._prefixes: Prefixes | None = None
        self._passes = Line()
        self.pass_costs = PassCosts()  # seconds by rows, as generations with guesses saw them
        self._tokenizer: Any = None
        self.file = formats.open_model(path)
        try:
            self.config = models.check(self.file)
            self.context = context_of(self.config, context)
            self.kv = stored(self.file.header) if kv is None else kv
            self._runner = Runner(
                self.file,
                self.config,
                threads=threads,
                context=self.context,
                kv=self.kv,
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
        self.cache = self._runner.plan
        self.pool = PagePool(cache_memory_of(self.cache) if limit is None else limit)
        if prompt_cache is not None:
            self.prefixes  # noqa: B018  (a folder that cannot be had is told of at once)
        if self._closed:  # by a callback or a handler, meanwhile
            self.close()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        keep: bool = False,
        tell: Callable[[str], object] | None = None,
        converting: Callable[[int, int, str], None] | None = None,
        **options: Any,
    ) -> Model:
        """`edgeq.load`, as other libraries call it."""
        from edgeq import library

        arguments.callback("tell", tell)
        arguments.callback("converting", converting)
        path = name_or_path
        if isinstance(path, str | os.PathLike):  # what is neither is told of by what opens files
            path = library.resolve(path, keep=keep, tell=tell, progress=converting)
        return cls(path, **options)

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

    @property
    def pooling(self) -> Pooling | None:
        """What the file says of how texts become vectors, or documents are ranked."""
        from edgeq.embed import Pooling

        spec = self.file.header.get("pooling")
        return None if spec is None else Pooling.from_header(spec)

    @property
    def classifier(self) -> np.ndarray:
        """float32 [labels, hidden_size] of a model that ranks: what the last row is multiplied with."""
        return self.file.tensors["classifier"].array().reshape(-1, self.config.hidden_size)

    def embed(self, texts: Ids[str | Ids[int]], **options: Any) -> np.ndarray:
        """float32 [texts, width]: a vector for each text; the options are those of `edgeq.embed.embed`."""
        from edgeq.embed import embed

        return embed(self, texts, **options)

    def rerank(self, query: str, documents: Ids[str], **options: Any) -> np.ndarray:
        """float32 [documents]: how well each answers the query; the options are those of
        `edgeq.embed.rerank`."""
        from edgeq.embed import rerank

        return rerank(self, query, documents, **options)

    @property
    def prefixes(self) -> Prefixes:
        """What it knows of prompts that it computed, for those that begin alike."""
        if self._prefixes is None:
            from edgeq.reuse import prefixes_of

            self.runner  # noqa: B018  (UsageError when the model was closed)
            self._prefixes = prefixes_of(self, *self._kept)
        return self._prefixes

    def sequence(self) -> Sequence:
        """A new, empty sequence with a cache of its own."""
        return Sequence(self)

    page_tokens = CHUNK  # of a sequence, on a page of its cache

    def cache_bytes(self, tokens: int, shared: int = 0) -> int:
        """Of the pages of a sequence that comes to hold so many tokens, at the most at one time; of a fork,
        whose first `shared` tokens are another's, those beyond. A page that it shares and writes to is copied
        first: one more of `page_tokens`."""
        return self.cache.bytes_for(tokens, shared)

    @property
    def pass_tokens(self) -> int:
        """Tokens of one pass at the most, of all its sequences."""
        return self.runner.limit

    @property
    def pass_outputs(self) -> int:
        """Tokens of one pass whose logits can be had, at the most."""
        return self.runner.outputs

    def advance(
        self, parts: Ids[Part], *, rows: bool = False, cancelled: Cancelled | None = None
    ) -> list[Fed]:
        """One pass over several sequences of this model, each fed with ids of its own; what came of each.

        At most `pass_tokens` ids, `pass_outputs` of them wanted. The same bits as of each sequence alone.
        rows: in place of logits the rows that they are made of, float32 [wanted, hidden_size]; as many may be
        wanted as there are ids.
        UsageError and the rest as from `Sequence.feed`; broken off, no sequence holds any of the ids, or none
        but those up to a chunk's end where there are far pages or states.
        """
        return advance(self, parts, rows=rows, cancelled=cancelled)

    def logits(self, ids: Ids[int]) -> np.ndarray:
        """float32 [len(ids), vocab_size]: after each id, the logits of the next."""
        sequence = self.sequence()
        try:
            return sequence.feed(ids, all_logits=True)
        finally:
            sequence.close()

    def batch(self, **options: Any) -> Batch:
        """Many generations together, which share their passes: `edgeq.generate.Batch`, whose options these
        are."""
        from edgeq.generate import Batch

        return Batch(self, **options)

    def generate_many(self, prompts: Ids[str | Ids[int]], **options: Any) -> list[Result]:
        """What follows each of the prompts, computed together; the options are those of
        `edgeq.generate.stream`, for each. Raises what broke one off."""
        from edgeq import generate

        with self.batch(draft=options.pop("draft", None)) as batch:
            several = [batch.add(prompt, **generate.keywords(options)) for prompt in prompts]
            return [each.read() for each in several]

    def generate(self, prompt: str | Ids[int], **options: Any) -> Generation:
        """Text that follows the prompt, piece by piece; the options are those of `edgeq.generate.stream`."""
        from edgeq import generate

        return generate.stream(self, prompt, **generate.keywords(options))

    @overload
    def chat(
        self,
        messages: Ids[Mapping[str, Any]],
        *,
        stream: Literal[False] = False,
        system: str | None = None,
        tools: Ids[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> ChatResult: ...
    @overload
    def chat(
        self,
        messages: Ids[Mapping[str, Any]],
        *,
        stream: Literal[True],
        system: str | None = None,
        tools: Ids[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Answer: ...
    def chat(
        self,
        messages: Ids[Mapping[str, Any]],
        *,
        stream: bool = False,
        system: str | None = None,
        tools: Ids[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> ChatResult | Answer:
        """The answer to messages, [{"role": "user", "content": "Hi"}, ...], once it is whole; with stream an
        iterator over its pieces. The options are those of `edgeq.chat.reply.reply`, and of
        `edgeq.tools.reply.held_reply` where one of response_format, schema, grammar, regex, choice and
        tool_choice says what the answer is held to."""
        from edgeq import generate
        from edgeq.chat.reply import reply
        from edgeq.tools.reply import HELD, held_reply

        given = generate.keywords(options)
        make = held_reply if HELD & given.keys() else reply
        answer = make(self, messages, system=system, tools=tools, **given)
        if stream:
            return answer
        with answer:
            return answer.read()

    def conversation(self, **options: Any) -> Conversation:
        """A conversation that keeps its messages and computes what is new: `edgeq.Conversation`."""
        from edgeq.chat.conversation import Conversation

        return Conversation(self, **options)

    def close(self) -> None:
        """Send the threads home and let go of the file.

        A call under way breaks its pass off and ends with UsageError: in another thread before this returns,
        in this thread (from a callback or a signal's handler) when it goes on.
        """
        self._closed = True
        if self._runner is None or self._ending():  # of the process, when threads stop wherever they are
            return
        if self._prefixes is not None:
            prefixes, self._prefixes = self._prefixes, None
            prefixes.close()
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

    def __repr__(self) -> str:
        name = printable(self.file.path.name)
        if self._closed or self._runner is None:
            return f"<edgeq.Model {name}: closed>"
        return (
            f"<edgeq.Model {name}: {self.file.family}, layers {self.config.num_hidden_layers}, "
            f"context {self.context}, kv {self.kv}, act {self.act}, threads {self.threads}>"
        )

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

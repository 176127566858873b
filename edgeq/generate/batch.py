"""Many generations of one model together: a pass reads the weights once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from edgeq.errors import UsageError, shown
from edgeq.generate.account import Account
from edgeq.generate.defaults import options_for
from edgeq.generate.logprobs import TokenLogprob
from edgeq.generate.prepared import Prepared, prepare
from edgeq.generate.prompts import Salted, encode, let_go
from edgeq.generate.protocols import LanguageModel
from edgeq.generate.results import Piece, Result, Timings
from edgeq.ownership import Line, Turn, Unique
from edgeq.sampling import SamplingOptions
from edgeq.schedule import Engine, Event, Request, Scheduler, Text
from edgeq.speculate import Drafts


class BatchModel(LanguageModel, Engine, Protocol):
    """A model whose passes several sequences share."""


class BatchEvent(NamedTuple):
    """What a step gave one generation."""

    generation: BatchGeneration
    pieces: list[Piece]


class BatchGeneration(Unique, Account, Iterator[Piece]):
    """One generation of a batch: as `edgeq.Generation`, but its facts are those of the batch's steps, whoever
    took them. Iterating gives its pieces from the first on and steps the batch, all of it, where there are
    none yet; `cancel` ends it within a step, from any thread; `error` is what broke it off.
    """

    def __init__(self, batch: Batch, prepared: Prepared) -> None:
        self._begin()
        super().__init__(
            prepared.prompt_ids,
            prepared.sampler.seed,
            Timings(prompt_tokens=len(prepared.prompt_ids)),
            cached_tokens=prepared.cached_tokens,
            logprobs=prepared.logprobs,
        )
        self.error: BaseException | None = None
        self._batch, self._prepared = batch, prepared
        self._at = 0  # the piece that iterating gives next
        drafts = prepared.drafts
        speculator = drafts.speculator() if drafts is not None else None
        self._text = Text(prepared.continuation, self, speculator=speculator)

    @property
    def over(self) -> bool:
        """Whether no piece will be made any more."""
        return self.finish_reason is not None or self.error is not None

    def __next__(self) -> Piece:
        while self._at == len(self._pieces):
            if self.error is not None:
                raise self.error
            if self.over:
                raise StopIteration
            self._batch.step()
        piece = self._pieces[self._at]
        self._at += 1
        return piece

    def read(self) -> Result:
        """Step the batch to this one's end; what came of it. Raises what broke it off."""
        for _ in self:
            pass
        return self.result

    def cancel(self) -> None:
        """Let it end within a step. May come from any thread; when it is over, there is nothing to cancel."""
        self._text.cancelled = True

    def pause(self, paused: bool = True) -> None:
        """Let it have no part in the steps from the next one on, or again. May come from any thread."""
        self._text.paused = paused

    @property
    def prompt_logprobs(self) -> list[TokenLogprob | None] | None:
        """Where `score` was asked for: of each id of the prompt; None of the first, which stands behind
        nothing."""
        course = self._prepared.continuation
        return course.prompt_logprobs if course.scores else None

    @property
    def end_logprob(self) -> TokenLogprob | None:
        """Of the end token that ended it, where logprobs are asked for."""
        return self._prepared.continuation.end_logprob

    def _take(self, event: Event) -> None:
        """What a step did."""
        text, times = self._text, self.timings
        if not self._pieces and text.known > self._cached:
            self.found(text.known)
        if event.reads:
            times.prompt_seconds += event.seconds
            times.first_token_seconds = times.prompt_seconds
            if self._prepared.progress is not None:
                done = event.text.course.held - self._cached
                self._prepared.progress(min(done, times.prompt_tokens), times.prompt_tokens)
        else:
            times.generate_seconds += event.seconds
            times.decode_passes += event.drawn > 0
            times.draft_tokens += event.drafted
            times.accepted_tokens += max(0, event.drawn - 1)
        for piece in event.pieces:
            self.give(piece)
        course = self._prepared.continuation
        self.finish_reason, self.stop_string = course.finish_reason, course.stop_string
        self.error = text.error or course.error
        if self.over and self._prepared.own_drafts and self._prepared.drafts is not None:
            self._prepared.drafts.close()

    def __repr__(self) -> str:
        return self.told("BatchGeneration")


class Batch(Unique):
    """Generations of one model that go on together; a context manager.

    parallel: how many run at once; more wait for their turn, in the order in which they came, and for as many
    pages of the model's pool as they could come to need. stall: seconds that a pass may take while somebody
    decodes, however long the prompts are that are read meanwhile. draft: as for `stream`, for all that say
    nothing else; a small model is opened once.

    `step` comes from one thread at a time, and another is refused with UsageError; `add` and `cancel` from
    any. What a generation says does not depend on who shares its passes.
    """

    def __init__(
        self, model: BatchModel, *, parallel: int = 16, stall: float = 0.25, draft: object = None
    ) -> None:
        self._begin()
        if isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1:
            raise UsageError(f"parallel is {shown(parallel)}, but must be a whole number of at least 1")
        if isinstance(stall, bool) or not isinstance(stall, int | float) or not stall > 0:
            raise UsageError(f"stall is {shown(stall)}, but must be a number of seconds above 0")
        self.model = model
        self._drafts = Drafts.of(draft, model)
        self._scheduler = Scheduler(
            model, parallel=parallel, stall=stall, opened=self._opened, closed=self._ended
        )
        self._calls = Line()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether every generation is over."""
        return self._scheduler.idle

    def add(self, prompt: str | Sequence[int], **options: Any) -> BatchGeneration:
        """One more generation; the options are those of `edgeq.generate.stream`. Its work begins with a step.
        score=True also tells how likely each token of the prompt was, all of which is computed then. What is
        known of prompts is shared by those of one cache_salt, a text, alone.

        UsageError as from `stream`, and where its prompt and max_tokens could never have enough pages."""
        return self._added([self._prepared(prompt, options)], options.get("sequence"))[0]

    def add_several(self, prompt: str | Sequence[int], n: int, **options: Any) -> list[BatchGeneration]:
        """n generations from one prompt, which is computed once: they share its pages. The i-th is drawn with
        the seed + i, where there is one."""
        generations = self.make(prompt, n, **options)
        self.begin(generations)
        return generations

    def make(self, prompt: str | Sequence[int], n: int = 1, **options: Any) -> list[BatchGeneration]:
        """As `add_several`, but they do not begin before `begin` is called with them: what is to be checked
        and made for them, which may take a while, is done here. Each has a copy of a mask that is given."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UsageError(f"n is {shown(n)}, but must be a whole number of at least 1")
        if options.get("sequence") is not None:
            raise UsageError(f"sequence is given, but {n} generations cannot share one")
        mask = options.pop("mask", None)
        if n > 1 and mask is not None and not hasattr(mask, "copy"):
            raise UsageError(f"mask is given for {n} generations, but it has no copy() for each")
        ids = encode(self.model, prompt, special=options.pop("special", False), most=self.model.context)
        given = options.pop("options", None)
        fields = SamplingOptions.__dataclass_fields__
        if given is None:
            given = options_for(
                self.model, **{name: options.pop(name) for name in [*options] if name in fields}
            )
        prepared = []
        for i in range(n):
            own = given if given.seed is None else replace(given, seed=(given.seed + i) % 2**64)
            each = mask.copy() if n > 1 and mask is not None else mask
            prepared.append(self._prepared(ids, {**options, "options": own, "mask": each}))
        return [BatchGeneration(self, each) for each in prepared]

    def begin(self, generations: Sequence[BatchGeneration]) -> None:
        """Let those of one `make` begin. UsageError where they could never have enough pages."""
        self._scheduler.add(Request([each._text for each in generations]))

    def _opened(self, text: Text) -> Any:
        """A sequence for a text, which holds what the model knows of its beginning."""
        sequence, prefixes = self.model.sequence(), text.owner._prepared.prefixes
        if prefixes is not None and not text.scoring:
            prefixes.start(sequence, text.course.history)
        return sequence

    def _ended(self, sequence: Any, text: Text) -> None:
        let_go(sequence, text.owner._prepared.prefixes)

    @property
    def counts(self) -> tuple[int, int]:
        """How many generations run, and how many wait."""
        return self._scheduler.counts

    @property
    def preempted(self) -> int:
        """How often one gave its pages back to others, to be computed again later."""
        return self._scheduler.preempted

    @property
    def last_step(self) -> tuple[int, float]:
        """Rows of the last step's pass, and seconds that drawing from what it gave took."""
        return self._scheduler.pass_rows, self._scheduler.draw_seconds

    def _prepared(self, prompt: str | Sequence[int], options: dict[str, Any]) -> Prepared:
        if self._closed:
            raise UsageError("the batch was closed.")
        options = dict(options)
        score, salt = options.pop("score", False), options.pop("cache_salt", "")
        own_drafts = self._drafts is not None and options.get("draft") is None
        if self._drafts is not None and own_drafts:
            options["draft"] = self._drafts.another()
        prepared = prepare(self.model, prompt, **options)
        if score and options.get("sequence") is not None:
            raise UsageError("score is given besides sequence, but only what is computed now can be scored")
        prepared.continuation.scores = bool(score)
        if salt and prepared.prefixes is not None:
            prepared = replace(prepared, prefixes=Salted(prepared.prefixes, salt))
        return replace(prepared, own_drafts=True) if own_drafts else prepared

    def _added(self, prepared: list[Prepared], sequence: Any) -> list[BatchGeneration]:
        generations = [BatchGeneration(self, each) for each in prepared]
        self._scheduler.add(Request([each._text for each in generations], sequence=sequence))
        return generations

    def step(self) -> list[BatchEvent]:
        """One pass, which gives each generation that decodes at least one token; what came of it."""
        turn = Turn("the batch is at work")
        try:
            self._calls.claim(turn, "go on")
            events = self._scheduler.step()
            for event in events:
                event.text.owner._take(event)
            return [BatchEvent(event.text.owner, event.pieces) for event in events]
        finally:
            turn.over = True

    def run(self) -> None:
        """Step until every generation is over. One that was broken off has its `error`."""
        while not self.idle:
            self.step()

    def close(self) -> None:
        """Cancel what is not over, and let go of all sequences."""
        self._closed = True
        self._scheduler.cancel_all()
        while not self.idle:
            self.step()
        if self._drafts is not None:
            self._drafts.close()

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        running, waiting = self._scheduler.counts
        return f"<edgeq.Batch: {running} running, {waiting} waiting>"

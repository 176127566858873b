"""One generation by itself: the loop of forward pass, continuation and clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from edgeq.errors import CancelledError
from edgeq.generate.generation import Generation
from edgeq.generate.prepared import Prepared, prepare
from edgeq.generate.prompts import let_go
from edgeq.generate.protocols import LanguageModel, Mask, TokenSequence
from edgeq.generate.results import Piece
from edgeq.sampling import SamplingOptions
from edgeq.speculate import Speculator


def stream(
    model: LanguageModel,
    prompt: str | Sequence[int],
    *,
    sequence: TokenSequence | None = None,
    options: SamplingOptions | None = None,
    max_tokens: int | None = None,
    stop: str | Sequence[str] = (),
    ignore_eos: bool = False,
    special: bool = False,
    logprobs: int | None = None,
    progress: Callable[..., Any] | None = None,
    mask: Mask | None = None,
    schema: object = None,
    grammar: str | None = None,
    regex: str | None = None,
    choice: Sequence[str] | None = None,
    cache_prompt: bool = True,
    draft: object = None,
    **sampling: Any,
) -> Generation:
    """Generate text after `prompt`; the work begins with the first piece asked for.

    - prompt: text, encoded with the tokenizer (special=True lets the names of special tokens in it be those
      tokens), or token ids as they are.
    - sequence: go on after what it holds and keep it; else one is made and closed.
    - options: the SamplingOptions; or any of their fields as keywords, and `options_for` finds the rest.
    - max_tokens: None or -1 goes on to the end token or the end of the context.
    - stop: end before any of these strings. ignore_eos: never draw an end token.
    - logprobs: how many of the likeliest tokens are told beside each token drawn, with the logarithms of
      their probabilities (`generate.logprobs`); 0 tells of the token alone, None of nothing.
    - progress: handed to the sequence's `feed` of the prompt.
    - mask: which tokens may come next (`generate.Mask`).
    - schema, grammar, regex, choice: the whole text is JSON as a JSON schema has it (an object or its text),
      is what a grammar derives (in GBNF or Lark), matches a regular expression, or is one of several texts.
      One that ends at max_tokens may be the beginning of such a text; any other is whole.
    - draft: what guesses the text, so that a pass may give several tokens: "prompt" (what the text said
      before), a small model of the same vocabulary or its path, or a `speculate.Drafting` with limits. The
      text is the same without, whatever the sampling.

    Raises UsageError for a value outside what it accepts and for a prompt that does not fit the context.
    """
    prepared = prepare(
        model,
        prompt,
        sequence=sequence,
        options=options,
        max_tokens=max_tokens,
        stop=stop,
        ignore_eos=ignore_eos,
        special=special,
        logprobs=logprobs,
        progress=progress,
        mask=mask,
        schema=schema,
        grammar=grammar,
        regex=regex,
        choice=choice,
        cache_prompt=cache_prompt,
        draft=draft,
        **sampling,
    )
    generation = Generation(model, prepared)
    generation._run = _run(generation, prepared, sequence)
    return generation


def _run(
    generation: Generation, prepared: Prepared, given: TokenSequence | None
) -> Generator[Piece, None, None]:
    """The loop. The clock stands still at every yield; the sequence is closed at the end unless given."""
    text, drafts = prepared.continuation, prepared.drafts
    speculator = drafts.speculator() if drafts is not None else None
    sequence = given if given is not None else generation.model.sequence()
    prefixes = prepared.prefixes if given is None else None
    rest: list[Piece] = []
    try:
        if prefixes is not None:
            text.held = prefixes.start(sequence, text.history)
            generation.found(text.held)
        pieces = _first(generation, prepared, sequence)
        while True:
            for piece in pieces:
                if piece.id is None:
                    rest = [piece]
                    break
                if piece is pieces[-1] and text.stop_string is not None and text.error is None:
                    generation.finish_reason, generation.stop_string = "stop", text.stop_string
                yield generation.give(piece)
            if text.error is not None:
                raise text.error
            if text.over:
                break
            pieces = _next(generation, prepared, sequence, speculator)
    except CancelledError:
        rest = text.end("cancelled")
    finally:
        if given is None:
            let_go(sequence, prefixes)
        elif (given_up := len(text.ids) - len(generation.ids)) > 0:  # pieces of a pass that nobody took
            sequence.truncate(min(text.held, len(text.history) - given_up - 1))
        if generation._drafts is not None:
            generation._drafts.close()
    generation.finish_reason, generation.stop_string = text.finish_reason, text.stop_string
    for piece in rest:
        yield generation.give(piece)


def _first(generation: Generation, prepared: Prepared, sequence: TokenSequence) -> list[Piece]:
    """The pass over the prompt; the pieces that came of it."""
    text, times = prepared.continuation, generation.timings
    feed = text.wanted()
    assert feed is not None  # it has not begun
    start = time.perf_counter()
    fed = generation._step(sequence, feed, prepared.progress)
    times.prompt_seconds = time.perf_counter() - start
    pieces = text.accept(fed).pieces
    times.generate_seconds = time.perf_counter() - start - times.prompt_seconds
    times.first_token_seconds = times.prompt_seconds + times.generate_seconds
    return pieces


def _next(
    generation: Generation, prepared: Prepared, sequence: TokenSequence, speculator: Speculator | None
) -> list[Piece]:
    """A pass over the last token, and over guesses behind it; the pieces that came of it."""
    text, times, drafts = prepared.continuation, generation.timings, prepared.drafts
    start = time.perf_counter()
    draft: list[int] = []
    if speculator is not None and drafts is not None:
        draft = speculator.alone(text.history, text.room, drafts.costs, generation.is_cancelled)
    feed = text.wanted(draft)
    assert feed is not None  # it is not over
    begun = time.perf_counter()
    fed = generation._step(sequence, feed)
    passed = time.perf_counter()
    accepted = text.accept(fed)
    if accepted.kept < len(feed.ids):
        text.held = sequence.truncate(text.held)
    if speculator is not None and drafts is not None:
        drafts.costs.passed(len(feed.ids), passed - begun)
        speculator.judged(max(0, accepted.drawn - 1))
    times.decode_passes += 1
    times.draft_tokens += feed.wanted - 1
    times.accepted_tokens += max(0, accepted.drawn - 1)
    times.generate_seconds += time.perf_counter() - start
    return accepted.pieces

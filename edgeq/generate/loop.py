"""The loop of forward pass, sampler and decoder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import arguments
from edgeq.arguments import is_int
from edgeq.errors import CancelledError, UsageError, shown
from edgeq.generate import logprobs as likelihoods
from edgeq.generate.defaults import eos_ids, options_for
from edgeq.generate.generation import Generation
from edgeq.generate.prompts import encode
from edgeq.generate.protocols import LanguageModel, TokenSequence
from edgeq.generate.results import Piece, Timings
from edgeq.generate.stops import StopStrings, check_stops
from edgeq.sampling import Mask, Sampler, SamplingOptions, all_but


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

    Raises UsageError for a value outside what it accepts and for a prompt that does not fit the context.
    """
    arguments.callback("progress", progress)
    if not isinstance(options, SamplingOptions | None):
        raise UsageError(f"options are {shown(options)}, but must be SamplingOptions")
    stops = check_stops(stop, model)
    limit = limit_of(max_tokens)
    if sequence is not None and not hasattr(sequence, "step"):
        raise UsageError(f"sequence is {shown(sequence)}, but must be one that the model made")
    before = list(sequence.ids) if sequence is not None else []
    prompt_ids = encode(model, prompt, first=not before, special=special, most=model.context)
    if len(before) + len(prompt_ids) > model.context:
        raise UsageError(
            f"the prompt has {len(prompt_ids)} tokens{f' after {len(before)}' if before else ''}, "
            f"but the context holds {model.context}: a shorter prompt or a larger context is needed"
        )
    if options is not None and sampling:
        raise UsageError(f"{min(sampling)} is given besides options, but only one of the two can count")
    if options is None:
        options = options_for(model, **sampling)
    sampler = Sampler(options, tokenizer=model.tokenizer)
    timings = Timings(prompt_tokens=len(prompt_ids), load_seconds=getattr(model, "load_seconds", None))
    best = likelihoods.check_count(logprobs, model.vocab_size)
    generation = Generation(
        model,
        prompt_ids,
        sampler,
        timings,
        cached_tokens=len(before),
        logprobs=None if best is None else [],
    )
    ends = eos_ids(model)
    banned, ends = (ends, frozenset()) if ignore_eos else (frozenset(), ends)
    mask = all_but(banned, model.vocab_size)
    asked = _Asked(sequence, before, limit, stops, ends, mask, best or 0, progress)
    generation._run = _run(generation, asked)
    return generation


def limit_of(max_tokens: int | None) -> float:
    """The most tokens that may be drawn, checked; infinity for no limit."""
    if max_tokens is not None and (not is_int(max_tokens) or max_tokens < -1):
        raise UsageError(
            f"max_tokens is {shown(max_tokens)}, but must be a whole number of at least 0, or -1 for no limit"
        )
    return math.inf if max_tokens is None or max_tokens < 0 else int(max_tokens)


@dataclass(frozen=True)
class _Asked:
    """What a generation is to do, checked."""

    sequence: TokenSequence | None  # the caller's
    history: list[int]  # what it holds
    limit: float  # tokens
    stops: StopStrings
    ends: frozenset[int]
    mask: Mask | None  # of the tokens that may be drawn
    best: int  # tokens that are told beside each one
    progress: Callable[..., Any] | None


def _run(generation: Generation, asked: _Asked) -> Generator[Piece, None, None]:
    """The loop. The clock stands still at every yield; the sequence is closed at the end unless given."""
    model, times, history = generation.model, generation.timings, asked.history
    decoder = model.tokenizer.stream() if model.tokenizer is not None else None
    sequence = asked.sequence if asked.sequence is not None else model.sequence()
    try:
        start = time.perf_counter()
        logits, likeliest = generation._step(sequence, generation.prompt_ids, asked.progress)
        history += generation.prompt_ids
        times.prompt_seconds = time.perf_counter() - start
        while len(generation.ids) < asked.limit:
            start = time.perf_counter()
            if generation.ids:
                if len(history) > model.context:
                    break
                logits, likeliest = generation._step(sequence, history[-1:])
                times.decode_passes += 1
            token = _drawn(generation, asked, logits, likeliest)
            if token in asked.ends:
                generation.finish_reason = "eos"
                times.generate_seconds += time.perf_counter() - start
                break
            history.append(token)
            piece = _piece(generation, asked, decoder, logits, token)
            took = time.perf_counter() - start
            times.generate_seconds += took
            times.generated_tokens += 1
            if times.generated_tokens == 1:
                times.first_token_seconds = times.prompt_seconds + took
            yield piece
            if asked.stops.found is not None:
                return
    except CancelledError:
        generation.finish_reason = "cancelled"
    finally:
        if asked.sequence is None:
            sequence.close()
    yield from _rest(generation, asked, decoder)


def _drawn(generation: Generation, asked: _Asked, logits: NDArray[np.float32], likeliest: int) -> int:
    """The next token."""
    sampler = generation._sampler
    if sampler.options.takes_likeliest and asked.mask is None and likeliest >= 0:
        return likeliest
    return sampler(logits, asked.history, mask=asked.mask)  # which has a word on what is not finite


def _piece(
    generation: Generation, asked: _Asked, decoder: Any, logits: NDArray[np.float32], token: int
) -> Piece:
    """The text that may be shown with a token; with it the generation has one token more."""
    logprob = None
    if generation.logprobs is not None:
        logprob = likelihoods.of_token(logits, token, asked.best, generation.model.tokenizer)
        generation.logprobs.append(logprob)
    generation.ids.append(token)
    piece = Piece(asked.stops.push(decoder.push(token)) if decoder is not None else "", token, logprob)
    generation._pieces.append(piece)
    if asked.stops.found is not None:
        generation.finish_reason, generation.stop_string = "stop", asked.stops.found
    return piece


def _rest(generation: Generation, asked: _Asked, decoder: Any) -> Generator[Piece, None, None]:
    """The text that was held back, when no token will come."""
    stops = asked.stops
    rest = (stops.push(decoder.flush()) if decoder is not None else "") + stops.flush()
    if stops.found is not None:
        generation.finish_reason, generation.stop_string = "stop", stops.found
    generation.finish_reason = generation.finish_reason or "length"
    if rest:
        generation._pieces.append(rest)
        yield Piece(rest)

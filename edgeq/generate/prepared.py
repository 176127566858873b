"""What a generation is asked to do, checked, and ready to begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq import arguments
from edgeq.arguments import is_int
from edgeq.errors import UsageError, shown
from edgeq.generate import logprobs as likelihoods
from edgeq.generate.continuation import Continuation
from edgeq.generate.defaults import eos_ids, options_for
from edgeq.generate.held import held_to
from edgeq.generate.prompts import encode, prefixes_of
from edgeq.generate.protocols import LanguageModel, Mask, Prefixes, TokenSequence
from edgeq.generate.stops import check_stops
from edgeq.sampling import Sampler, SamplingOptions, all_but
from edgeq.speculate import Drafts


@dataclass(frozen=True)
class Prepared:
    """A generation that has not begun."""

    prompt_ids: list[int]
    cached_tokens: int  # that the caller's sequence holds
    sampler: Sampler
    logprobs: bool
    continuation: Continuation
    progress: Callable[..., Any] | None
    drafts: Drafts | None
    own_drafts: bool  # made for this generation, so that they end with it
    prefixes: Prefixes | None = None  # that the prompt's beginning is looked for in


def prepare(
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
) -> Prepared:
    """The arguments of `stream`, which says what they mean, checked."""
    arguments.callback("progress", progress)
    held = held_to(
        model, schema=schema, grammar=grammar, regex=regex, choice=choice, stop=stop, ignore_eos=ignore_eos
    )
    if held is not None and mask is not None:
        raise UsageError("mask is given besides what the text is held to, but only one of the two can count")
    mask = mask if held is None else held
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
    options = options if options is not None else options_for(model, **sampling)
    sampler = Sampler(options, tokenizer=model.tokenizer)
    best = likelihoods.check_count(logprobs, model.vocab_size)
    ends = eos_ids(model)
    banned, ends = (ends, frozenset()) if ignore_eos else (frozenset(), ends)
    continuation = Continuation(
        before,
        prompt_ids,
        sampler,
        context=model.context,
        limit=limit,
        ends=ends,
        allowed=all_but(banned, model.vocab_size),
        stops=stops,
        tokenizer=model.tokenizer,
        logprobs=best,
        mask=mask,
    )
    drafts = draft if isinstance(draft, Drafts) else Drafts.of(draft, model)
    own = drafts is not draft
    return Prepared(
        prompt_ids,
        len(before),
        sampler,
        best is not None,
        continuation,
        progress,
        drafts,
        own,
        prefixes_of(model) if cache_prompt else None,
    )


def limit_of(max_tokens: int | None) -> float:
    """The most tokens that may be drawn, checked; infinity for no limit."""
    if max_tokens is not None and (not is_int(max_tokens) or max_tokens < -1):
        raise UsageError(
            f"max_tokens is {shown(max_tokens)}, but must be a whole number of at least 0, or -1 for no limit"
        )
    return math.inf if max_tokens is None or max_tokens < 0 else int(max_tokens)

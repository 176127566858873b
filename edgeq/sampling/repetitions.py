"""Samplers that look at the text so far: logit bias, penalties, DRY."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeq.sampling import native
from edgeq.sampling.candidates import Candidates
from edgeq.sampling.context import Context
from edgeq.sampling.elementary import log, power
from edgeq.sampling.native import Doubles, Floats, Ids
from edgeq.sampling.options import LogitBias

LARGEST_LOG = 88.7228391  # of a float32: what DRY's power stays below


def logit_bias(candidates: Candidates, context: Context) -> Candidates:
    """Add to the logits of some tokens; with -infinity they are never drawn."""
    ids, added = biases(context.options.logit_bias, context.vocab)
    return candidates.changed(ids, lambda logits, there: logits + added[there])


@lru_cache(maxsize=64)
def biases(pairs: LogitBias, vocab: int) -> tuple[Ids, Doubles]:
    """Ids that the vocabulary has, and what is added to each."""
    known = [(id, added) for id, added in pairs if id < vocab]
    return np.array([id for id, _ in known], np.int32), np.array([added for _, added in known], np.float64)


def penalties(candidates: Candidates, context: Context) -> Candidates:
    """Make tokens seen lately less likely (N. S. Keskar et al., CTRL, 2019, 4.1): divide a positive logit and
    multiply a negative one, then subtract once for the token and once for each time."""
    options = context.options
    text = context.last(options.repeat_last_n)
    if not len(text):
        return candidates
    ids, times = candidates.room.tally(text)

    def change(logits: Floats, there: NDArray[np.bool_]) -> Doubles:
        values = logits.astype(np.float64)
        values = np.where(values > 0, values / options.repeat_penalty, values * options.repeat_penalty)
        values -= times[there] * options.frequency_penalty + options.presence_penalty
        return values

    return candidates.changed(ids, change)


def dry(candidates: Candidates, context: Context) -> Candidates:
    """Make tokens less likely that would go on with a repetition, the longer the more: multiplier * base **
    (length - allowed length) is subtracted (P. E. Weidmann, DRY, 2024)."""
    options = context.options
    text = context.last(options.dry_penalty_last_n)
    if len(text) <= options.dry_allowed_length:
        return candidates
    most = since_break(text, context)
    if most < options.dry_allowed_length:
        return candidates
    lengths = np.minimum(native.repeats(text)[1:], most)
    long_enough = np.flatnonzero(lengths >= options.dry_allowed_length)
    next_ids, lengths = text[len(text) - 1 - long_enough], lengths[long_enough]
    order = np.lexsort((-lengths, next_ids))
    ids, first = np.unique(next_ids[order], return_index=True)
    exponents = lengths[order][first] - options.dry_allowed_length
    breaks = np.array([() in context.breakers.get(id, ()) for id in ids.tolist()], bool)
    ids, exponents = ids[~breaks], exponents[~breaks]
    if options.dry_base > 1.000001:
        exponents = np.minimum(exponents, int(LARGEST_LOG / log(options.dry_base)))
    taken = np.array([options.dry_multiplier * power(options.dry_base, e) for e in exponents.tolist()])
    return candidates.changed(ids, lambda logits, there: logits - taken[there])


def since_break(text: Ids, context: Context) -> int:
    """How many tokens there are behind the last sequence breaker, all where there is none."""
    if not context.breakers:
        return len(text)
    backwards = text[::-1]
    for n in np.flatnonzero(np.isin(backwards, list(context.breakers))).tolist():
        lengths = [
            len(rest)
            for rest in context.breakers[int(backwards[n])]
            if len(rest) <= n and tuple(backwards[n - len(rest) : n][::-1].tolist()) == rest
        ]
        if lengths:
            return int(n) - max(lengths)
    return len(text)

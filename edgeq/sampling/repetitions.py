"""Samplers that look at the text so far: logit bias, penalties, DRY."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgeq.sampling import native
from edgeq.sampling.candidates import Candidates, There
from edgeq.sampling.context import Context
from edgeq.sampling.elementary import log, power
from edgeq.sampling.native import Doubles, Floats, Ids
from edgeq.sampling.options import LogitBias

LARGEST_LOG = 88.7228391  # of a float32: what DRY's power stays below


def logit_bias(candidates: Candidates, context: Context) -> Candidates:
    """Add to the logits of some tokens; with -infinity they are never drawn."""
    ids, added = biases(context.options.logit_bias, context.vocab)
    banned = added == -np.inf
    changed = add(candidates, ids[~banned], added[~banned])
    return changed.banned(ids[banned]) if banned.any() else changed


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
    room = candidates.room
    ids, times = room.tally(text)
    penalties = options.repeat_penalty, options.frequency_penalty, options.presence_penalty
    return candidates.changed(
        ids, lambda logits, places, there: room.penalize(logits, places, times[there], penalties)
    )


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
    return add(candidates, ids, -taken)


def add(candidates: Candidates, ids: Ids, added: Doubles) -> Candidates:
    """Add to the logits of ids, each given once, in float64."""

    def change(logits: Floats, places: Ids, there: There) -> None:
        logits[places] = np.clip(logits[places] + added[there], -native.LARGEST, native.LARGEST)

    return candidates.changed(ids, change)


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

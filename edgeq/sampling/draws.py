"""Samplers that come last and draw: by probability, mirostat 1 and 2, adaptive-p."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeq.sampling.candidates import Candidates
from edgeq.sampling.context import Context
from edgeq.sampling.elementary import LN2, exp, log, power
from edgeq.sampling.native import BLOCK, Floor

ESTIMATED = 100  # tokens that mirostat 1 estimates the slope of Zipf's law from
RATIOS = np.array([log((n + 2) / (n + 1)) for n in range(ESTIMATED - 1)])
RATIOS_SQUARED = np.cumsum(RATIOS**2)


@dataclass(frozen=True)
class Drawn:
    """A token, and its probability among those it was drawn from."""

    id: int
    place: int  # among the candidates
    probability: float


def draw(candidates: Candidates, context: Context) -> Drawn:
    """By probability. Of one alone no random number is used up."""
    if len(candidates) == 1:
        return Drawn(candidates.id(0), 0, 1.0)
    weights = candidates.shares()
    point, start, each = context.chance() * weights.total, 0, weights.each
    if len(weights.sums) > 1:
        block = min(
            int(weights.sums.searchsorted(point, side="right")), int(weights.sums.searchsorted(weights.total))
        )
        start, before = block * BLOCK, float(weights.sums[block - 1]) if block else 0.0
        point, each = point - before, each[start : start + BLOCK]
        weight = float(weights.sums[block]) - before
    else:
        weight = weights.total
    sums = each.cumsum(dtype=np.float64)
    last = sums[-1]
    # The first sum above the point; where rounding put it on the last sum, the first that reaches that.
    at = min(int(sums.searchsorted(point / weight * last, side="right")), int(sums.searchsorted(last)))
    return Drawn(candidates.id(start + at), start + at, float(each[at]) / weights.total)


# ---- mirostat (S. Basu et al., 2020) ----
def surprising_1(candidates: Candidates, context: Context) -> Candidates:
    """As many of the best as Zipf's law, of the slope that the best have, has below the surprise mu."""
    found = candidates.settled()
    best = found.best(ESTIMATED)
    if len(best) < 2:
        return best
    steps = -np.diff(best.logits.astype(np.float64)) / best.temperature
    slope = float((RATIOS[: len(steps)] * steps).sum()) / float(RATIOS_SQUARED[len(steps) - 1])
    return found.best(how_many(slope, context.memory.mu, context.vocab))


def how_many(slope: float, mu: float, vocab: int) -> int:
    excess = slope - 1
    below = 1 - power(vocab, -excess)
    if slope == 0 or below == 0:
        return vocab if slope == 0 else 1
    base = excess * exp(mu * LN2) / below
    count = power(base, 1 / slope) if base > 0 else 0.0
    return max(1, int(min(count, vocab)))


def surprising_2(candidates: Candidates, context: Context) -> Candidates:
    """Those of a surprise of at most mu bits, at least the best."""
    weights = candidates.weights()
    down = candidates.temperature * (log(weights.total) - context.memory.mu * LN2)
    return candidates.above(Floor(min(candidates.top, float(np.float32(candidates.top + down)))))


def learn_surprise(drawn: Drawn, context: Context) -> None:
    """Move mu against what the drawn token's surprise is above the target."""
    options, memory = context.options, context.memory
    surprise = -log(drawn.probability) / LN2
    context.memory = replace(memory, mu=memory.mu - options.mirostat_eta * (surprise - options.mirostat_tau))


# ---- adaptive-p ----
def adapted(candidates: Candidates, context: Context) -> Candidates:
    """Logits that are largest where the probability is the target, which moves so that what was drawn lately
    comes out at it in the mean."""
    found = candidates.settled()
    weights = found.weights()
    context.adapted = found, weights.total
    logits = found.room.adapt(weights, aim(context))
    return Candidates(found.room, logits, found.token_ids)


def aim(context: Context) -> float:
    memory, target = context.memory, min(max(context.options.adaptive_target, 0.0), 1.0)
    if memory.weight == 0:
        return target
    return min(max(2 * target - memory.weighted / memory.weight, 0.0), 1.0)


def learn_probability(drawn: Drawn, context: Context) -> None:
    """Remember the probability that the drawn token had before it was adapted."""
    memory, decay = context.memory, context.options.adaptive_decay
    assert context.adapted is not None
    found, total = context.adapted
    down = (float(found.logits[drawn.place]) - found.top) / found.temperature
    context.memory = replace(
        memory,
        weighted=exp(down) / total + decay * memory.weighted,
        weight=1 + decay * memory.weight,
    )

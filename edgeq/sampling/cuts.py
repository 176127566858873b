"""Samplers that leave tokens out: top-k, top-p, min-p, typical-p, top-n-sigma, XTC."""

from __future__ import annotations

import math

import numpy as np

from edgeq.sampling.candidates import FEW, Candidates
from edgeq.sampling.context import Context
from edgeq.sampling.elementary import log
from edgeq.sampling.native import BLOCK, LARGEST, NOT_BLANK, REACH, Floor

GUESS = 256  # tokens that a nucleus is looked for in before it is looked for in all
LIKELY = 1.1  # they weigh at least the guess, and seldom more than so many times it


def top_k(candidates: Candidates, context: Context) -> Candidates:
    """Keep the k largest logits."""
    k = context.options.top_k
    return candidates if k >= len(candidates) else candidates.best(k)


def top_p(candidates: Candidates, context: Context) -> Candidates:
    """Keep the shortest row of the best whose probability reaches p (A. Holtzman et al., 2019)."""
    found, p = candidates.sorted(), context.options.top_p
    if found.falling:
        sums = found.weights().each.cumsum(dtype=np.float64)
        return found.first(int(sums.searchsorted(p * sums[-1])) + 1)
    weights = found.shares()
    goal, few = p * weights.total, min(GUESS, len(found.tops.blocks) // 4)
    if few and LIKELY * best_weight(found, few, goal, weights.top) > goal:
        best = found.best(few)
        sums = best.weights(weights.top).each.cumsum(dtype=np.float64)
        if sums[-1] >= goal:
            return best.first(int(sums.searchsorted(goal)) + 1)
        weights = found.weights()  # where they were there are others now
        goal = p * weights.total
    floor = found.room.cut(found.logits, weights.each, goal, found.top, found.bottom)
    return found.above(floor, ranked=True)


def best_weight(found: Candidates, few: int, goal: float, top: float) -> float:
    """What so many of the best weigh at the least, to a top: the best blocks' tops do. None weighs more than
    1, so 0 where that could not be enough."""
    if LIKELY * few < goal:
        return 0.0
    blocks = found.tops.blocks
    tops = np.partition(blocks, len(blocks) - few)[len(blocks) - few :]
    return found.room.weight(tops, top, found.temperature)


def min_p(candidates: Candidates, context: Context) -> Candidates:
    """Keep tokens at least p times as probable as the best (M. N. Nguyen et al., 2024)."""
    down = np.float32(candidates.temperature * log(context.options.min_p))
    return candidates.above(Floor(float(np.float32(candidates.top) + down)))


def top_n_sigma(candidates: Candidates, context: Context) -> Candidates:
    """Keep logits at most n standard deviations below the largest (C. Tang et al., 2024)."""
    found = candidates.settled()
    count = len(found)
    some = np.sort(found.logits[:BLOCK])
    centre = float(some[len(some) // 2])  # near the mean, so that squares of what is between cancel nothing
    first, second = found.room.spread(found.logits, centre)
    deviation = math.sqrt(max(0.0, second / count - (first / count) ** 2))
    return found.above(Floor(float(np.float32(found.top - context.options.top_n_sigma * deviation))))


def typical_p(candidates: Candidates, context: Context) -> Candidates:
    """Keep the tokens whose surprise is nearest to the mean of it and whose probability together is more than
    p (C. Meister et al., 2022)."""
    found = (candidates if len(candidates) > FEW else candidates.settled()).sorted()
    weights, top = found.weights(), found.top
    typical, tops = found.room.typicality(found.logits, top, found.temperature, weights.mean, found.floor)
    goal = float(np.nextafter(context.options.typical_p * weights.total, np.inf))
    if len(found) <= FEW:
        order = np.argsort(-typical, kind="stable")
        sums = np.cumsum(weights.each[order], dtype=np.float64)
        keep = np.zeros(len(found), bool)
        keep[order[: int(np.searchsorted(sums, goal)) + 1]] = True
        return found.chosen(keep)
    lowest = (found.bottom - top) / found.temperature
    least = -max(-weights.mean, weights.mean - max(lowest, -REACH))
    floor = found.room.cut(typical, weights.each, goal, 0.0, least)
    if floor.lets_all_of(NOT_BLANK):
        floor = NOT_BLANK
    if np.count_nonzero(tops >= np.float32(floor.bound)) > FEW:
        return found.blanked(typical, floor)
    kept, ids = found.room.collect(typical, floor, found.logits, found.ids, tops)
    return found.of_others(kept, ids).sorted()


def xtc(candidates: Candidates, context: Context) -> Candidates:
    """Now and then, leave out all tokens that reach the threshold but for the least likely of them (P. E.
    Weidmann, 2024)."""
    if len(candidates) < 2 or context.chance() > context.options.xtc_probability:
        return candidates
    found = candidates.settled().sorted()
    threshold = context.options.xtc_threshold
    weight = threshold * found.weights().total
    likely = found.reaching(found.top + found.temperature * log(weight) if threshold > 0 else -LARGEST)
    if len(likely) < 2:
        return found
    logits = found.logits[likely]
    least = np.flatnonzero(logits == logits.min())[-1]
    return found.without(np.delete(likely, least))

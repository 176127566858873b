"""Temperature, one for all or one that follows the entropy."""

from __future__ import annotations

from edgeq.sampling.candidates import Candidates
from edgeq.sampling.context import Context
from edgeq.sampling.elementary import log, power


def temperature(candidates: Candidates, context: Context) -> Candidates:
    """Divide the logits; by 0, the best is left alone."""
    options = context.options
    if options.dynatemp_range <= 0:
        return divided(candidates, options.temperature)
    least = max(0.0, options.temperature - options.dynatemp_range)
    most = options.temperature + options.dynatemp_range
    found = candidates.settled()
    if len(found) < 2:
        return found
    return divided(
        found, least + (most - least) * power(entropy(found) / log(len(found)), options.dynatemp_exponent)
    )


def entropy(found: Candidates) -> float:
    """Of the distribution, in nats."""
    weights = found.weights()
    return max(0.0, log(weights.total) - weights.mean)


def divided(candidates: Candidates, by: float) -> Candidates:
    if by == 0:
        return candidates.best(1)
    return candidates.like(temperature=candidates.temperature * by)

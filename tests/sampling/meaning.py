"""What each sampler means, in plain NumPy and float64: every token is looked at, everything is sorted.

A distribution is two arrays, ids and logits, by falling logit, equal logits by rising id. `final` gives what
is drawn from: for samplers that remember, as at their first draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.sampling import SamplingOptions

Array = np.ndarray[Any, Any]
Tokens = tuple[Array, Array]
Options = SamplingOptions


def in_order(ids: Array, logits: Array) -> Tokens:
    order = np.lexsort((ids, -logits))
    return ids[order], logits[order]


def softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def first(tokens: Tokens, count: int) -> Tokens:
    return tokens[0][:count], tokens[1][:count]


def logit_bias(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    bias = dict(o.logit_bias)
    ids, logits = tokens[0], tokens[1] + np.array([bias.get(id, 0.0) for id in tokens[0].tolist()])
    return in_order(ids[logits > -np.inf], logits[logits > -np.inf])


def penalties(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    seen = Counter(text if o.repeat_last_n < 0 else text[max(0, len(text) - o.repeat_last_n) :])
    logits = tokens[1].copy()
    for place, id in enumerate(tokens[0].tolist()):
        if seen[id]:
            value = logits[place]
            value = value / o.repeat_penalty if value > 0 else value * o.repeat_penalty
            logits[place] = value - seen[id] * o.frequency_penalty - o.presence_penalty
    return in_order(tokens[0], logits)


def dry(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    """Without sequence breakers."""
    text = text if o.dry_penalty_last_n < 0 else text[max(0, len(text) - o.dry_penalty_last_n) :]
    longest: dict[int, int] = {}
    for end in range(len(text) - 1):  # a repetition that ends there would go on with the token after it
        length = 0
        while length <= end and text[end - length] == text[len(text) - 1 - length]:
            length += 1
        longest[text[end + 1]] = max(longest.get(text[end + 1], 0), length)
    logits = tokens[1].copy()
    for place, id in enumerate(tokens[0].tolist()):
        if longest.get(id, -1) >= o.dry_allowed_length:
            logits[place] -= o.dry_multiplier * o.dry_base ** (longest[id] - o.dry_allowed_length)
    return in_order(tokens[0], logits)


def top_n_sigma(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    logits = tokens[1]
    return first(tokens, int((logits >= logits[0] - o.top_n_sigma * logits.std()).sum()))


def top_k(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    return first(tokens, o.top_k)


def top_p(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    return first(tokens, int(np.searchsorted(np.cumsum(softmax(tokens[1])), o.top_p)) + 1)


def min_p(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    p = softmax(tokens[1])
    return first(tokens, int((p >= o.min_p * p[0]).sum()))


def typ_p(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    p = softmax(tokens[1])
    surprise = -np.log(p)
    order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
    kept = np.sort(order[: int(np.searchsorted(np.cumsum(p[order]), o.typical_p, side="right")) + 1])
    return tokens[0][kept], tokens[1][kept]


def xtc(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    """When it does anything: with a probability of 1."""
    likely = int((softmax(tokens[1]) >= o.xtc_threshold).sum())
    start = max(0, likely - 1)
    return tokens[0][start:], tokens[1][start:]


def temperature(tokens: Tokens, text: Sequence[int], o: Options) -> Tokens:
    heat = o.temperature
    if o.dynatemp_range > 0 and len(tokens[0]) > 1:
        p = softmax(tokens[1])
        share = -(p * np.log(p)).sum() / np.log(len(p))
        least, most = max(0.0, heat - o.dynatemp_range), heat + o.dynatemp_range
        heat = least + (most - least) * share**o.dynatemp_exponent
    return first(tokens, 1) if heat == 0 else (tokens[0], tokens[1] / heat)


def mirostat(tokens: Tokens, vocab: int, o: Options) -> Tokens:
    mu = 2 * o.mirostat_tau
    p = softmax(tokens[1])
    if o.mirostat == 2:
        return first(tokens, max(1, int((-np.log2(p) <= mu).sum())))
    few = min(100, len(p))
    ranks = np.arange(1, few)
    t, b = np.log((ranks + 1) / ranks), np.log(p[: few - 1] / p[1:few])
    s = (t * b).sum() / (t * t).sum()
    k = ((s - 1) * 2**mu / (1 - vocab ** -(s - 1))) ** (1 / s)
    return first(tokens, max(1, int(k)))


def adaptive_p(tokens: Tokens, o: Options) -> Tokens:
    away = np.abs(softmax(tokens[1]) - o.adaptive_target) / 0.3
    return in_order(tokens[0], 5 - 10 * away**2 / (1 + away))


STEPS: dict[str, Callable[[Tokens, Sequence[int], Options], Tokens]] = {
    "penalties": penalties,
    "dry": dry,
    "top_n_sigma": top_n_sigma,
    "top_k": top_k,
    "typ_p": typ_p,
    "top_p": top_p,
    "min_p": min_p,
    "xtc": xtc,
    "temperature": temperature,
}
OFF: dict[str, Callable[[Options], bool]] = {
    "top_n_sigma": lambda o: o.top_n_sigma <= 0,
    "top_k": lambda o: o.top_k <= 0,
    "typ_p": lambda o: o.typical_p == 1,
    "top_p": lambda o: o.top_p == 1,
    "min_p": lambda o: o.min_p == 0,
    "xtc": lambda o: o.xtc_probability == 0 or o.xtc_threshold > 0.5,
}


def final(logits: Array, text: Sequence[int], o: Options, *, chance: bool = True) -> dict[int, float]:
    """id → probability, XTC being at work (`chance`) or not."""
    tokens = in_order(np.arange(len(logits)), logits.astype(np.float64))
    tokens = logit_bias(tokens, text, o)
    for name in ("temperature",) if o.mirostat else o.samplers:
        if name == "adaptive_p" or OFF.get(name, lambda o: False)(o) or (name == "xtc" and not chance):
            continue
        tokens = STEPS[name](tokens, text, o)
    if o.mirostat:
        tokens = mirostat(tokens, len(logits), o)
    elif o.adaptive_target >= 0:
        tokens = adaptive_p(tokens, o)
    return dict(zip(tokens[0].tolist(), softmax(tokens[1]).tolist(), strict=True))

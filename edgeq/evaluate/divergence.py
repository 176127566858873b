"""How far a model's predictions are from a reference's on the same text, token by token.

Perplexity alone hides damage, because errors in both directions cancel; the Kullback-Leibler divergence does
not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError
from edgeq.evaluate.perplexity import exponential
from edgeq.evaluate.windows import CONTEXT, Windows, cut, log_softmax, scored, standard_error
from edgeq.generate import LanguageModel


@dataclass(frozen=True)
class Divergence:
    """KLD is sum p ln(p / q) over the vocabulary, in nats, p the reference's probabilities and q the model's.

    `perplexity_ratio` is the model's perplexity over the reference's, with the standard error of the paired
    difference. `agreement` is the share of positions where both hold the same token likeliest.
    `difference_rms` and `difference_mean` are of q - p at the text's own next token, `difference_max` the
    largest |q - p| at any token.
    """

    kld_mean: float
    kld_standard_error: float
    kld_median: float
    kld_p99: float
    kld_p999: float
    kld_max: float
    agreement: float
    agreement_standard_error: float
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float
    perplexity_ratio_standard_error: float
    difference_mean: float
    difference_rms: float
    difference_max: float
    tokens: int  # scored
    windows: int
    context: int
    text_tokens: int
    text_sha256: str
    protocol: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def gated(self) -> dict[str, float]:
        """The figures that a gate knows."""
        return {name: getattr(self, field) for name, field in GATED.items()}


GATED = {
    "kld": "kld_mean",
    "median": "kld_median",
    "p99": "kld_p99",
    "p99.9": "kld_p999",
    "max": "kld_max",
    "same": "agreement",
    "ppl": "perplexity_ratio",
}
# one row per scored token
KLD, LOSS, REFERENCE_LOSS, SAME, DIFFERENCE, LARGEST = range(6)


def divergence(
    model: LanguageModel,
    reference: LanguageModel,
    text: str | Sequence[int],
    *,
    context: int | None = None,
    progress: Callable[[int, int, float], object] | None = None,
) -> Divergence:
    """Compare `model` with `reference` on `text` (or token ids); which tokens are scored: see windows.py.

    progress: called with (windows done, windows in all, mean KLD so far) after each window.
    Raises UsageError when the two do not share vocabulary and ids or the text fills no window.
    """
    start = time.perf_counter()
    if model.vocab_size != reference.vocab_size:
        raise UsageError(
            f"the model has {model.vocab_size} tokens and the reference {reference.vocab_size}, "
            "but only models of one vocabulary can be compared"
        )
    if context is None:
        context = min(CONTEXT, model.context, reference.context)
    windows = cut(model, text, context)
    if not np.array_equal(windows.ids, cut(reference, text, context).ids):
        raise UsageError(
            "model and reference turn the text into different tokens, so they cannot be compared"
        )
    rows = np.empty((6, windows.tokens))
    done = 0
    for (number, logits, targets), (_, expected, _) in zip(
        scored(model, windows), scored(reference, windows), strict=True
    ):
        for row, wanted, target in zip(logits, expected, targets, strict=True):
            rows[:, done] = compare(row, wanted, int(target))
            done += 1
        if progress is not None and done == (number + 1) * windows.scored_per_window:
            progress(number + 1, windows.count, float(rows[KLD, :done].mean()))
    return summary(rows, windows, time.perf_counter() - start)


def compare(
    logits: NDArray[np.float32], reference: NDArray[np.float32], target: int
) -> tuple[float, float, float, float, float, float]:
    """The figures of one position, in the order of the row numbers above; both logits are [vocab]."""
    log_q, log_p = log_softmax(logits), log_softmax(reference)
    q, p = np.exp(log_q), np.exp(log_p)
    kld = max(0.0, float(np.dot(p, log_p - log_q)))  # rounding alone can make it a little less than 0
    same = float(np.argmax(logits) == np.argmax(reference))
    return kld, -log_q[target], -log_p[target], same, q[target] - p[target], float(np.abs(q - p).max())


def summary(rows: NDArray[np.float64], windows: Windows, seconds: float) -> Divergence:
    """Means, errors and quantiles of `rows` float64 [6, tokens]."""
    kld, same = rows[KLD], rows[SAME]
    excess = rows[LOSS] - rows[REFERENCE_LOSS]
    ratio = exponential(float(excess.mean()))
    return Divergence(
        kld_mean=float(kld.mean()),
        kld_standard_error=standard_error(kld),
        kld_median=float(np.median(kld)),
        kld_p99=float(np.quantile(kld, 0.99)),
        kld_p999=float(np.quantile(kld, 0.999)),
        kld_max=float(kld.max()),
        agreement=float(same.mean()),
        agreement_standard_error=standard_error(same),
        perplexity=exponential(float(rows[LOSS].mean())),
        reference_perplexity=exponential(float(rows[REFERENCE_LOSS].mean())),
        perplexity_ratio=ratio,
        perplexity_ratio_standard_error=ratio * standard_error(excess),
        difference_mean=float(rows[DIFFERENCE].mean()),
        difference_rms=float(np.sqrt(np.mean(rows[DIFFERENCE] ** 2))),
        difference_max=float(rows[LARGEST].max()),
        tokens=windows.tokens,
        windows=windows.count,
        context=windows.context,
        text_tokens=windows.text_tokens,
        text_sha256=windows.text_sha256,
        protocol=windows.protocol,
        seconds=seconds,
    )

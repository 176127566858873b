"""How far a model's predictions are from a reference's on the same text, token by token.

Perplexity alone hides damage, because errors in both directions cancel; the Kullback-Leibler divergence does
not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError
from edgeq.evaluate.perplexity import exponential
from edgeq.evaluate.reference import Keeper, OfModel, Reference, Saved
from edgeq.evaluate.windows import LLAMA_CPP, Windows, cut, log_softmax, scored, standard_error
from edgeq.generate import LanguageModel


@dataclass(frozen=True)
class Divergence:
    """KLD is sum p ln(p / q) over the vocabulary, in nats, p the reference's probabilities and q the model's.

    `perplexity_ratio` is the model's perplexity over the reference's, with the standard error of the paired
    difference. `agreement` is the share of positions where both hold the same token likeliest.
    `difference_rms` and `difference_mean` are of q - p at the text's own next token, `difference_max` the
    largest |q - p| at any token. `reference_floor` is the KLD that rounding a kept reference to 16 bits is
    alone, None where the reference was computed.
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
    reference_floor: float | None
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
    reference: LanguageModel | Saved,
    text: str | Sequence[int],
    *,
    context: int | None = None,
    protocol: str = LLAMA_CPP,
    save: Path | None = None,
    progress: Callable[[int, int, float], object] | None = None,
) -> Divergence:
    """Compare `model` with `reference` on `text` (or token ids); which tokens are scored: see windows.py.

    save: a file that is to keep what the reference says (`Saved`), whole or not at all. progress: called with
    (windows done, windows in all, mean KLD so far) after each window.
    Raises UsageError when the two do not share vocabulary and ids or the text fills no window.
    """
    start = time.perf_counter()
    other: Reference = reference if isinstance(reference, Saved) else OfModel(reference, protocol)
    if model.vocab_size != other.vocab_size:
        raise UsageError(
            f"the model has {model.vocab_size} tokens and the reference {other.vocab_size}, "
            "but only models of one vocabulary can be compared"
        )
    if save is not None and isinstance(reference, Saved):
        raise UsageError(f"{reference.path} is a kept reference already: only a model's can be saved")
    context = min(model.context, other.context) if context is None else context
    windows = cut(model, text, context, protocol)
    other.check(windows, text)
    rows = np.empty((6, windows.tokens))
    done = 0
    with ExitStack() as stack:
        keeper = None
        if save is not None:
            name = str(getattr(getattr(reference, "file", None), "path", ""))
            keeper = stack.enter_context(Keeper(save, windows, other.vocab_size, name))
        for (number, logits, targets), said in zip(scored(model, windows), other.said(windows), strict=True):
            if keeper is not None:
                keeper.keep(said)
            for row, target, *wanted in zip(logits, targets, *said, strict=True):
                rows[:, done] = compare(row, int(target), *wanted)
                done += 1
            if progress is not None and done == (number + 1) * windows.scored_per_window:
                progress(number + 1, windows.count, float(rows[KLD, :done].mean()))
        if keeper is not None:
            keeper.commit()
    floor = reference.floor if isinstance(reference, Saved) else None
    return summary(rows, windows, floor, time.perf_counter() - start)


def compare(
    logits: NDArray[np.float32], target: int, log_p: NDArray[np.float64], likeliest: int, loss: float
) -> tuple[float, float, float, float, float, float]:
    """The figures of one position, in the order of the row numbers above; logits and log_p are [vocab]."""
    log_q = log_softmax(logits)
    q, p = np.exp(log_q), np.exp(log_p)
    kld = max(0.0, float(np.dot(p, log_p - log_q)))  # rounding alone can make it a little less than 0
    same = float(np.argmax(logits) == likeliest)
    return kld, -log_q[target], loss, same, q[target] - p[target], float(np.abs(q - p).max())


def summary(rows: NDArray[np.float64], windows: Windows, floor: float | None, seconds: float) -> Divergence:
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
        reference_floor=floor,
        tokens=windows.tokens,
        windows=windows.count,
        context=windows.context,
        text_tokens=windows.text_tokens,
        text_sha256=windows.text_sha256,
        protocol=windows.protocol,
        seconds=seconds,
    )

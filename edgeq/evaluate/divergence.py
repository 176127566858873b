"""How far a model's predictions are from a reference's on the same text, token by token.

Perplexity alone hides damage, because errors in both directions cancel; the Kullback-Leibler divergence does
not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
    return divergences(
        [model], reference, text, context=context, protocol=protocol, save=save, progress=progress
    )[0].figures


class Measured(NamedTuple):
    """A model's figures, and what they come of: float64 [6, tokens]."""

    figures: Divergence
    rows: NDArray[np.float64]


def divergences(
    models: Sequence[LanguageModel],
    reference: LanguageModel | Saved,
    text: str | Sequence[int],
    *,
    context: int | None = None,
    protocol: str = LLAMA_CPP,
    save: Path | None = None,
    progress: Callable[[int, int, float], object] | None = None,
) -> list[Measured]:
    """As `divergence`, of several models: the reference is asked once. progress tells of the first."""
    start = time.perf_counter()
    other: Reference = reference if isinstance(reference, Saved) else OfModel(reference, protocol)
    for model in models:
        if model.vocab_size != other.vocab_size:
            raise UsageError(
                f"the model has {model.vocab_size} tokens and the reference {other.vocab_size}, "
                "but only models of one vocabulary can be compared"
            )
    if save is not None and isinstance(reference, Saved):
        raise UsageError(f"{reference.path} is a kept reference already: only a model's can be saved")
    if context is None:
        context = min(other.context, *(model.context for model in models))
    windows = cut(models[0], text, context, protocol)
    for each in (*map(partial(OfModel, protocol=protocol), models[1:]), other):
        each.check(windows, text)
    rows = np.empty((len(models), 6, windows.tokens))
    done = 0
    with ExitStack() as stack:
        keeper = None
        if save is not None:
            name = Path(getattr(getattr(reference, "file", None), "path", "")).name
            keeper = stack.enter_context(Keeper(save, windows, other.vocab_size, name))
        walks = [scored(model, windows) for model in models]
        for said, *blocks in zip(other.said(windows), *walks, strict=True):
            if keeper is not None:
                keeper.keep(said)
            end = done + len(said.loss)
            for found, (_, logits, targets) in zip(rows, blocks, strict=True):
                for place, row, target, *wanted in zip(range(done, end), logits, targets, *said, strict=True):
                    found[:, place] = compare(row, int(target), *wanted)
            done, number = end, blocks[0][0] + 1
            if progress is not None and done == number * windows.scored_per_window:
                progress(number, windows.count, float(rows[0, KLD, :done].mean()))
        if keeper is not None:
            keeper.commit()
    floor = reference.floor if isinstance(reference, Saved) else None
    seconds = time.perf_counter() - start
    return [Measured(summary(found, windows, floor, seconds), found) for found in rows]


@dataclass(frozen=True)
class Paired:
    """How much more one model has than another on the same tokens, with the standard errors of the paired
    differences. `kld_low` and `kld_high` hold the mean difference of KLD in 95 of 100 texts, were tokens
    independent. `equal` says that every figure at every token is the same.
    """

    kld: float
    kld_standard_error: float
    kld_low: float
    kld_high: float
    agreement: float
    agreement_standard_error: float
    perplexity_ratio: float
    perplexity_ratio_standard_error: float
    equal: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def paired(one: Measured, other: Measured) -> Paired:
    """Of two models that `divergences` compared with one reference."""
    more = one.rows - other.rows
    mean, error = float(more[KLD].mean()), standard_error(more[KLD])
    ratio = exponential(float(more[LOSS].mean()))
    return Paired(
        kld=mean,
        kld_standard_error=error,
        kld_low=mean - 1.96 * error,
        kld_high=mean + 1.96 * error,
        agreement=float(more[SAME].mean()),
        agreement_standard_error=standard_error(more[SAME]),
        perplexity_ratio=ratio,
        perplexity_ratio_standard_error=ratio * standard_error(more[LOSS]),
        equal=not more.any(),
    )


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

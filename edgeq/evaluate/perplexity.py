"""Perplexity: e to the mean negative log-likelihood of a text's tokens, in nats. See windows.py for which
tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq.evaluate.windows import LLAMA_CPP, cut, log_softmax, scored, standard_error
from edgeq.generate import LanguageModel


@dataclass(frozen=True)
class Perplexity:
    """The perplexity, its standard error, and what it was measured on (a figure without them compares with
    none).
    """

    perplexity: float
    standard_error: float
    nll: float  # mean negative log-likelihood of a token, nats
    tokens: int  # scored
    windows: int
    context: int
    text_tokens: int
    text_sha256: str
    protocol: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def perplexity(
    model: LanguageModel,
    text: str | Sequence[int],
    *,
    context: int | None = None,
    protocol: str = LLAMA_CPP,
    progress: Callable[[int, int, float], object] | None = None,
) -> Perplexity:
    """Perplexity of `text` (or token ids) in a protocol, "llama.cpp" or "gptq": see windows.py.

    context: tokens in a window; None takes the protocol's, or the model's when that is less. progress: called
    with (windows done, windows in all, perplexity so far) after each window. The standard error is the
    mean's, carried through the exponential, as if tokens were independent.
    Raises UsageError when the text fills no window, FormatError when logits are not finite.
    """
    start = time.perf_counter()
    windows = cut(model, text, context, protocol)
    losses = np.empty(windows.tokens)
    done = 0
    for number, logits, targets in scored(model, windows):
        for row, target in zip(logits, targets, strict=True):
            losses[done] = -log_softmax(row)[target]
            done += 1
        if progress is not None and done == (number + 1) * windows.scored_per_window:
            progress(number + 1, windows.count, exponential(float(losses[:done].mean())))
    mean = float(losses.mean())
    return Perplexity(
        perplexity=exponential(mean),
        standard_error=exponential(mean) * standard_error(losses),
        nll=mean,
        tokens=windows.tokens,
        windows=windows.count,
        context=windows.context,
        text_tokens=windows.text_tokens,
        text_sha256=windows.text_sha256,
        protocol=windows.protocol,
        seconds=time.perf_counter() - start,
    )


def exponential(value: float) -> float:
    """e to `value`; the largest float where that overflows, so that a hopeless model has a figure too."""
    return math.exp(min(value, 709.78))

"""How likely a token was, and which others were likelier.

Logarithms of probabilities are those of the model itself: the softmax of its logits as they come out of a
pass, before penalties, temperature, and what top-k, top-p, min-p and ignore_eos leave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import arguments
from edgeq.errors import UsageError, shown
from edgeq.sampling import largest, log_sum_exp


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """A token that could have been drawn."""

    id: int
    text: str  # a token that is no whole character: U+FFFD
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob(TopLogprob):
    """A token that was drawn, and the likeliest in its place, by falling probability."""

    top: tuple[TopLogprob, ...]


def check_count(count: int | None, vocab_size: int) -> int | None:
    """How many of the likeliest are asked for, checked; None: no logprobs at all."""
    if count is not None and (not arguments.is_int(count) or not 0 <= count <= vocab_size):
        raise UsageError(
            f"logprobs is {shown(count)}, but must be how many of the likeliest tokens are told beside each "
            f"token, a whole number from 0 to {vocab_size}"
        )
    return None if count is None else int(count)


def of_token(logits: NDArray[np.float32], id: int, count: int, tokenizer: Any) -> TokenLogprob:
    """Of a token drawn from `logits` [vocab], with the `count` likeliest. FormatError where a logit is not
    finite."""
    total = log_sum_exp(logits)

    def one(id: int) -> tuple[int, str, float]:
        return id, text_of(id, tokenizer), float(logits[id]) - total

    top = largest(logits, count).tolist() if count else []
    return TokenLogprob(*one(id), top=tuple(TopLogprob(*one(each)) for each in top))


def text_of(id: int, tokenizer: Any) -> str:
    """A token's text wherever it stands; a control token's name; empty without a tokenizer."""
    return "" if tokenizer is None else tokenizer.token(id).decode("utf-8", "replace")

"""What samplers know beside the candidates: options, the text so far, and what they remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeq.errors import UsageError
from edgeq.sampling.candidates import Candidates
from edgeq.sampling.native import Ids
from edgeq.sampling.options import SamplingOptions

SHORT = 256  # tokens of history that are converted each time

# The first token of each of DRY's sequence breakers, and what may come after it.
Breakers = Mapping[int, Sequence[tuple[int, ...]]]


@dataclass(frozen=True)
class Memory:
    """What samplers keep from draw to draw."""

    mu: float  # mirostat: twice its target at first
    weighted: float  # adaptive-p: probabilities of what was drawn, added up with the decay
    weight: float  # and of how many

    @classmethod
    def of(cls, options: SamplingOptions) -> Memory:
        share = 1 / (1 - options.adaptive_decay)
        return cls(2 * options.mirostat_tau, options.adaptive_target * share, share)


class History:
    """The ids of a text as an array; of one that grows only the new ones are converted."""

    def __init__(self) -> None:
        self._known: list[int] = []
        self._vocab = 0  # that they were held against
        self._ids = np.empty(0, np.int32)

    def last(self, history: Sequence[int], count: int, vocab: int) -> Ids:
        """The last `count` ids, of which there are as many. UsageError for one that is outside the
        vocabulary."""
        if count <= SHORT:
            return checked(history[len(history) - count :], vocab)
        self._follow(history, vocab)
        return self._ids[len(history) - count : len(history)]

    def _follow(self, history: Sequence[int], vocab: int) -> None:
        known = len(self._known)
        if vocab != self._vocab or list(history[:known]) != self._known:
            known = 0
        new = history[known:]
        ids = checked(new, vocab)  # before anything is changed: kernels trust what is kept
        if len(history) > len(self._ids):
            longer = np.empty(2 * len(history), np.int32)
            longer[:known] = self._ids[:known]
            self._ids = longer
        self._ids[known : len(history)] = ids
        self._known[known:], self._vocab = new, vocab


def checked(ids: Sequence[int], vocab: int) -> Ids:
    """Ids as an array. UsageError for one that is outside the vocabulary."""
    array = np.array(ids, np.int64)
    wrong = array[(array < 0) | (array >= vocab)]
    if len(wrong):
        raise UsageError(f"the history holds token {wrong[0]}, but the vocabulary has {vocab} tokens")
    return array.astype(np.int32)


@dataclass
class Context:
    """Of one draw."""

    options: SamplingOptions
    history: Sequence[int]
    vocab: int
    memory: Memory
    breakers: Breakers
    chance: Callable[[], float]  # a random number of 0 <= x < 1, used up
    known: History = field(default_factory=History)
    adapted: tuple[Candidates, float] | None = None  # what adaptive-p began with, and its weight
    _text: Ids | None = None  # the end of it that was asked for first

    def last(self, count: int) -> Ids:
        """The last `count` ids of the text, -1 for all."""
        count = len(self.history) if count < 0 else min(count, len(self.history))
        if self._text is None or len(self._text) < count:
            self._text = self.known.last(self.history, count, self.vocab)
        return self._text[len(self._text) - count :]

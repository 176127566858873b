"""From one row of logits to one token id."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError
from edgeq.sampling.breakers import breakers
from edgeq.sampling.candidates import Candidates
from edgeq.sampling.chain import STEPS, chain
from edgeq.sampling.context import Breakers, Context, History, Memory
from edgeq.sampling.masks import Mask, check_mask, one_of
from edgeq.sampling.native import Doubles, Floats
from edgeq.sampling.options import SamplingOptions


@dataclass(frozen=True)
class State:
    """What a sampler's next draws depend on beside logits, text and mask."""

    memory: Memory
    random: Any  # PCG64's own


class Sampler:
    """Draws token ids from logits: `sampler(logits, history) -> id`. `seed` is the seed in use.

    The same seed, logits and history give the same ids on every machine: the random stream is PCG64's raw
    output, which NumPy promises to keep. `tokenizer` is what DRY's sequence breakers are found with; without
    one there are none.
    """

    def __init__(self, options: SamplingOptions | None = None, *, tokenizer: Any = None) -> None:
        self.options = options if options is not None else SamplingOptions()
        self.seed = self.options.seed if self.options.seed is not None else secrets.randbits(32)
        self._bits = np.random.PCG64(self.seed)
        self._memory = Memory.of(self.options)
        self._history = History()
        self._tokenizer = tokenizer
        self._breakers: Breakers | None = None
        self._chain = chain(self.options)

    def __call__(self, logits: Floats, history: Sequence[int], *, mask: Mask | None = None) -> int:
        """The id of the next token. `logits` is float32 [vocab]; `history` is every id so far, oldest first;
        tokens whose bit in `mask` (uint32, bit i of word i / 32) is 0 are never drawn. Raises FormatError
        when a logit is not finite."""
        row = checked(logits, mask)
        context = self._context(len(row), history)
        drawn = self._chain.drawn(Candidates.of(row, mask), context)
        self._memory = context.memory
        return drawn.id

    def forced(self, mask: Mask) -> int | None:
        """The id that a call with this mask would give whatever the logits are, the state left as it is; None
        where they have a word in it."""
        return one_of(mask) if self._chain.takes_one else None

    def distribution(
        self, logits: Floats, history: Sequence[int], *, mask: Mask | None = None
    ) -> tuple[NDArray[np.int64], Doubles]:
        """The ids that the next call may give and their probabilities (float64, sum 1). It changes nothing,
        and `logits` are left as they are."""
        row = checked(logits, mask)

        def found(chance: float) -> tuple[NDArray[np.int64], Doubles]:
            context = replace(self._context(len(row), history), chance=lambda: chance)
            return self._chain.candidates(Candidates.of(row, mask), context).distribution()

        share = self.options.xtc_probability if STEPS["xtc"] in self._chain.steps else 1.0
        return found(0.0) if share == 1 else mixed(found(0.0), found(1.0), share)

    def state(self) -> State:
        """What `restore` goes back to: a draw that did not count."""
        return State(self._memory, self._bits.state)

    def restore(self, state: State) -> None:
        """Draw on as after that state."""
        self._memory, self._bits.state = state.memory, state.random

    def copy(self) -> Sampler:
        """Another that draws what this one would."""
        other = Sampler(replace(self.options, seed=self.seed), tokenizer=self._tokenizer)
        other.restore(self.state())
        return other

    def _context(self, vocab: int, history: Sequence[int]) -> Context:
        if self._breakers is None:
            texts = self.options.dry_sequence_breakers if STEPS["dry"] in self._chain.steps else ()
            self._breakers = breakers(self._tokenizer, vocab, texts)
        return Context(
            self.options, history, vocab, self._memory, self._breakers, self._chance, self._history
        )

    def _chance(self) -> float:
        return float((self._bits.random_raw() >> 11) * 2.0**-53)


def distribution(
    logits: Floats, history: Sequence[int], options: SamplingOptions, *, mask: Mask | None = None
) -> tuple[NDArray[np.int64], Doubles]:
    """`Sampler.distribution` of a sampler that has drawn nothing yet."""
    return Sampler(options).distribution(logits, history, mask=mask)


def checked(logits: NDArray[np.floating], mask: Mask | None) -> Floats:
    """The row, float32 without gaps."""
    if logits.ndim != 1 or not len(logits):
        raise UsageError(f"logits have shape {list(logits.shape)}, but must be one row [vocab]")
    if mask is not None:
        check_mask(mask, len(logits))
    return np.ascontiguousarray(logits, np.float32)


def mixed(
    one: tuple[NDArray[np.int64], Doubles], other: tuple[NDArray[np.int64], Doubles], share: float
) -> tuple[NDArray[np.int64], Doubles]:
    """`share` of the one and the rest of the other."""
    ids, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    parts = np.concatenate([share * one[1], (1 - share) * other[1]])
    return ids, np.bincount(places, weights=parts).astype(np.float64)

"""Guesses of a small model with the same vocabulary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError
from edgeq.passes import Fed, TokenModel
from edgeq.speculate.costs import smoothed
from edgeq.speculate.drafters import Cancelled, Look

EXTRA_MAX = 128  # tokens that one of the two vocabularies may have beyond the other
CHANCE = 0.7  # that a guess comes true, before any was tried


class DraftSequence(Protocol):
    """What a sequence of the small model must do."""

    def step(self, ids: Sequence[int], *, cancelled: Cancelled | None = None) -> Fed: ...
    def truncate(self, n: int) -> int: ...
    def fork(self) -> DraftSequence: ...
    def close(self) -> None: ...


class ModelDrafter:
    """Guesses the likeliest tokens of a small model, up to the first that is less likely than p_min. Its
    sequence follows the history by cutting and feeding, so another text of the same beginning is no new work.
    Where a cut loses more than it was to, as of a model whose layers keep states, it holds the history alone
    from then on, and guesses are made on forks.

    Raises UsageError where `draft` has another vocabulary than `model`.
    """

    def __init__(
        self,
        draft: TokenModel,
        model: TokenModel,
        *,
        p_min: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check_vocabulary(draft, model)
        self.seconds = 0.0
        self._p_min, self._clock = p_min, clock
        self._vocab, self._context = model.vocab_size, draft.context
        self._draft = draft
        self._sequence: DraftSequence | None = None  # until something is guessed
        self._held: list[int] = []  # what the sequence holds
        self._of: Sequence[int] | None = None
        self._same = 0  # of the held ids, how many are those of the history
        self._forks = False

    def look(self, history: Sequence[int]) -> Look | None:
        """Something, as long as the small model's context has room."""
        return Look(0, CHANCE) if len(history) < self._context else None

    def draft(self, history: Sequence[int], most: int, cancelled: Cancelled | None = None) -> list[int]:
        guesses: list[int] = []
        if self._sequence is None:
            self._sequence = self._draft.sequence()
        new = self._follow(self._sequence, history)
        ahead: DraftSequence | None = None
        try:
            while len(guesses) < min(most, self._context - len(history)):
                start = self._clock()
                if guesses and self._forks and ahead is None:
                    ahead = self._sequence.fork()
                if ahead is not None:
                    fed = ahead.step(new, cancelled=cancelled)
                else:
                    fed = self._feed(self._sequence, new, cancelled)
                guess = self._guess(fed)
                if len(new) == 1:  # the time of a prompt is none of a guess
                    self.seconds = smoothed(self.seconds, self._clock() - start)
                if guess is None:
                    break
                guesses.append(guess)
                new = [guess]
        finally:
            if ahead is not None:
                ahead.close()
        return guesses

    def _follow(self, sequence: DraftSequence, history: Sequence[int]) -> list[int]:
        """Cut the sequence to what it has of the history; the ids that are left to feed, one at least."""
        if history is not self._of:
            self._of, self._same = history, 0
        most = min(len(self._held), len(history) - 1)
        while self._same < most and self._held[self._same] == history[self._same]:
            self._same += 1
        self._same = min(self._same, most)
        if self._same < len(self._held):
            kept = min(self._same, sequence.truncate(self._same))
            self._forks |= kept < self._same
            self._same = kept
            del self._held[kept:]
        return list(history[self._same :])

    def _feed(self, sequence: DraftSequence, ids: list[int], cancelled: Cancelled | None) -> Fed:
        """A pass; broken off in whatever way, nothing is taken for held that is not."""
        held, self._held = self._held, []
        try:
            fed = sequence.step(ids, cancelled=cancelled)
        except BaseException:
            self._same = 0
            sequence.truncate(0)
            raise
        held += ids
        self._held = held
        return fed

    def _guess(self, fed: Fed) -> int | None:
        """The likeliest token; None where it is not likely enough, or none that the large model has."""
        guess, logits = int(fed.likeliest[-1]), fed.logits[-1]
        if not 0 <= guess < self._vocab or (self._p_min > 0 and chance(logits, guess) < self._p_min):
            return None
        return guess

    def close(self) -> None:
        sequence, self._sequence, self._held, self._same = self._sequence, None, [], 0
        if sequence is not None:
            sequence.close()


def chance(logits: NDArray[np.float32], id: int) -> float:
    """The probability of a token: float32 logits [vocab], softmax."""
    return float(1 / np.exp(logits - logits[id]).sum())


def check_vocabulary(draft: TokenModel, model: TokenModel) -> None:
    """UsageError unless an id is the same token to both; one may have a few more than the other (padding)."""
    ours, theirs = model.tokenizer, draft.tokenizer
    if draft is model or _same_file(draft, model):
        return
    if ours is None or theirs is None:
        if ours is not theirs or draft.vocab_size != model.vocab_size:
            raise UsageError(
                f"the draft model has {_vocabulary(draft)} and the model {_vocabulary(model)}, but both must "
                "have the same vocabulary"
            )
        return
    if abs(ours.vocab_size - theirs.vocab_size) > EXTRA_MAX:
        raise UsageError(
            f"the draft model has {theirs.vocab_size} tokens and the model {ours.vocab_size}, but both must "
            "have the same vocabulary"
        )
    for id in range(min(ours.vocab_size, theirs.vocab_size)):
        if ours.token(id) != theirs.token(id):
            raise UsageError(
                f"token {id} is {ascii(theirs.token(id)):.40} to the draft model and "
                f"{ascii(ours.token(id)):.40} to the model, but both must have the same vocabulary"
            )


def _same_file(draft: TokenModel, model: TokenModel) -> bool:
    """Whether the two tokenizers are the same bytes, which spares a look at each token."""
    blobs = []
    for each in (draft, model):
        spec = each.file.header.get("tokenizer")
        if not isinstance(spec, dict) or "tensor" not in spec:
            return False
        blobs.append((spec.get("vocab_size"), np.asarray(each.file.tensors[spec["tensor"]].data)))
    return blobs[0][0] == blobs[1][0] and np.array_equal(blobs[0][1], blobs[1][1])


def _vocabulary(model: TokenModel) -> str:
    return f"{'no' if model.tokenizer is None else 'a'} tokenizer and {model.vocab_size} ids"

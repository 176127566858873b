"""A grammar as the mask of one generation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import GrammarError, UsageError
from edgeq.structured.vocabulary import Vocabulary, sentence


class GrammarMask:
    """Holds one answer to a grammar: a `generate.Mask`.

    The matcher has the last word on every token that was drawn, so that an answer goes on as the grammar
    says or ends with GrammarError, and it ends with an end token only where it is whole.
    """

    def __init__(self, vocabulary: Vocabulary, grammar: str, what: str = "the grammar") -> None:
        """UsageError for a grammar that cannot be compiled, or for what is none."""
        self._vocabulary = vocabulary
        self._matcher: Any = vocabulary.matcher(grammar, what)
        self._ended = False

    @property
    def complete(self) -> bool:
        """Whether what was drawn so far satisfies the grammar."""
        return bool(self._matcher.is_accepting()) and not self._matcher.is_error()

    @property
    def over(self) -> bool:
        """Whether nothing may follow what was drawn."""
        return self._ended or (bool(self._matcher.is_stopped()) and self.complete)

    def copy(self) -> GrammarMask:
        """Another mask at the same place."""
        copy: GrammarMask = object.__new__(GrammarMask)
        copy._vocabulary, copy._ended = self._vocabulary, self._ended
        copy._matcher = self._matcher.deep_copy()
        return copy

    def fill(self, bits: NDArray[np.uint32]) -> bool:
        """As generate.Mask has it. GrammarError where nothing may come."""
        words = -(-self._vocabulary.vocab_size // 32)
        if bits.dtype != np.uint32 or bits.shape != (words,) or not bits.flags.c_contiguous:
            raise UsageError(f"a mask of this vocabulary has {words} words of 32 bits")
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        self._check("go on")
        if not bits.any():
            raise GrammarError("the answer cannot go on: the grammar allows no token of the model here")
        return True

    def accept(self, id: int) -> None:
        """A token was drawn. GrammarError where the grammar does not allow it there."""
        if self._ended:
            raise GrammarError(f"token {id} was drawn behind the end of the answer")
        if id in self._vocabulary.ends:
            if not self.complete:
                raise GrammarError("the answer ended before it was what the grammar asks for")
            self._ended = True
            return
        if not self._matcher.consume_token(id):
            self._check("go on")
            raise GrammarError(f"token {id} was drawn, which the grammar does not allow there")
        self._check("go on")

    def _check(self, what: str) -> None:
        if self._matcher.is_error():
            why = sentence(self._matcher.get_error())
            raise GrammarError(f"the answer cannot {what} as its grammar says: {why}")
        if self._matcher.is_stopped() and not self._matcher.is_accepting():
            raise GrammarError(f"the answer cannot {what}: nothing that the grammar asks for can follow")

"""What generation asks of a model: token ids in, logits out; nothing of files, kernels or commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeq.passes import Fed, TokenModel


class TokenSequence(Protocol):
    """Token ids and what the model keeps of them (its own KV cache)."""

    @property
    def ids(self) -> list[int]: ...
    def feed(
        self, ids: Sequence[int], *, all_logits: bool = False, progress: Callable[..., Any] | None = None
    ) -> NDArray[np.float32]: ...
    def step(
        self,
        ids: Sequence[int],
        *,
        wanted: int = 1,
        progress: Callable[..., Any] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Fed:
        """Append ids; what the pass gives for the last `wanted` of them."""

    def truncate(self, n: int) -> int:
        """Forget what is behind the first n ids; how many are left, which may be fewer than n."""

    def close(self) -> None: ...


class Prefixes(Protocol):
    """What is known of prompts that begin alike. A model may have it, as `prefixes`."""

    def start(self, sequence: Any, ids: Sequence[int]) -> int:
        """Let a sequence hold as much of the beginning of ids as is known, and nothing else, but not all of
        them; how many that is."""

    def keep(self, sequence: Any) -> None:
        """Know what a sequence holds."""


class Mask(Protocol):
    """Which tokens may come next, as a grammar says it.

    One that has `complete` says there whether what was drawn may be all: where a stop string ends a text
    before that, it ends with GrammarError. One that has `over` says there whether it must be all: the text
    ends then as if an end token had been drawn. One that has `copy` may be given for several texts: each has
    another mask at the same place."""

    def fill(self, bits: NDArray[np.uint32]) -> bool:
        """Set the bit of each token that may come now, bit i % 32 of word i // 32, and clear the others;
        False, and anything in there, where all may."""

    def accept(self, id: int) -> None:
        """A token was drawn."""


class LanguageModel(TokenModel, Protocol):
    """What generation and evaluation ask of a model."""

    def sequence(self) -> TokenSequence: ...

"""What is asked of a pass, and what it gives: the words between what generates text and what computes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Fed(NamedTuple):
    """What a pass gives for the last ids of a sequence."""

    logits: NDArray[np.float32]  # [wanted, vocab]: after each of the last ids, the logits of the next
    likeliest: NDArray[np.int64]  # [wanted]: where each row is largest; -1 where a logit is not finite


class Feed(NamedTuple):
    """Ids to feed to a sequence, behind those that it holds."""

    ids: list[int]
    wanted: int  # of how many of the last ids the logits are wanted


class Part(NamedTuple):
    """What one sequence has in a pass that several share."""

    sequence: Any
    ids: list[int]
    wanted: int  # 0: more of them will follow before a token is drawn


class TokenModel(Protocol):
    """A model that speaks token ids, whatever its sequences can do."""

    @property
    def context(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def file(self) -> Any: ...
    def sequence(self) -> Any: ...

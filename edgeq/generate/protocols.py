"""What generation asks of a model: token ids in, logits out; nothing of files, kernels or commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


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
        progress: Callable[..., Any] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Any: ...
    def truncate(self, n: int) -> Any: ...
    def close(self) -> None: ...


class LanguageModel(Protocol):
    """What generation and evaluation ask of a model."""

    @property
    def context(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def file(self) -> Any: ...
    def sequence(self) -> TokenSequence: ...

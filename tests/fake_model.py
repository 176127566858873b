"""A model without weights: byte tokenizer, logits that depend on every token so far, and a log of what was
asked.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError
from edgeq.passes import Fed

BOS, EOS, BYTES = 0, 1, 2  # a byte b is token BYTES + b
VOCAB = BYTES + 256


class FakeDecoder:
    """Bytes to characters; an incomplete character waits, and a broken one becomes U+FFFD."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        return self._utf8.decode(bytes([id - BYTES])) if id >= BYTES else ""

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class FakeTokenizer:
    bos_id, eos_ids, vocab_size = BOS, frozenset({EOS}), VOCAB

    def encode(self, text: str, *, add_bos: bool | None = None, special: bool = False) -> list[int]:
        ids = [BYTES + byte for byte in text.encode()]
        return ids if add_bos is False else [BOS, *ids]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(id - BYTES for id in ids if id >= BYTES).decode("utf-8", "replace")

    @staticmethod
    def token(id: int) -> bytes:
        return bytes([id - BYTES]) if id >= BYTES else b""

    def stream(self) -> FakeDecoder:
        return FakeDecoder()


class FakeSequence:
    def __init__(self, model: FakeModel) -> None:
        self.model, self.ids, self.closed = model, [], False  # type: ignore[var-annotated]

    def feed(
        self, ids: Sequence[int], *, all_logits: bool = False, progress: Callable[..., Any] | None = None
    ) -> NDArray[np.float32]:
        if self.closed or not ids or len(self.ids) + len(ids) > self.model.context:
            raise UsageError("closed, empty or past the context")
        if self.model.start is None:
            self.model.start = len(self.ids) + len(ids)
        rows = []
        for id in ids:
            self.ids.append(int(id))
            self.model.fed.append(int(id))
            rows.append(self.model.next_logits(self.ids))
        return np.stack(rows) if all_logits else rows[-1]

    def step(
        self,
        ids: Sequence[int],
        *,
        wanted: int = 1,
        progress: Callable[..., Any] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Fed:
        logits = self.feed(ids, all_logits=True, progress=progress)[len(ids) - wanted :]
        finite = np.isfinite(logits).all(axis=1)
        return Fed(logits, np.where(finite, logits.argmax(axis=1), -1))

    def truncate(self, n: int) -> int:
        del self.ids[n:]
        return len(self.ids)

    def close(self) -> None:
        self.closed = True


class FakeModel:
    """`script` are ids that it says after its first prompt; without, logits hash the last three ids."""

    def __init__(
        self, *, context: int = 256, script: Sequence[int] | None = None, noise: float = 0.0
    ) -> None:
        self.context, self.vocab_size, self.noise = context, VOCAB, noise
        self.tokenizer: Any = FakeTokenizer()
        self.file = SimpleNamespace(header={"generation": {}}, tensors={})
        self.script = script
        self.start: int | None = None  # how many ids the script's prompt has: the first feed decides
        self.fed: list[int] = []
        self.sequences: list[FakeSequence] = []

    def next_logits(self, ids: list[int]) -> NDArray[np.float32]:
        if self.script is not None:
            said = len(ids) - (self.start or 0)
            logits = np.zeros(VOCAB, np.float32)
            logits[self.script[said] if 0 <= said < len(self.script) else EOS] = 30.0
            return logits
        return hashed(tuple(ids[-3:]), self.noise)

    def sequence(self) -> FakeSequence:
        self.sequences.append(FakeSequence(self))
        return self.sequences[-1]


@functools.lru_cache(1 << 16)
def hashed(ids: tuple[int, ...], noise: float) -> NDArray[np.float32]:
    """float32 [VOCAB], other ones for other ids."""
    noisy = 3 * np.random.default_rng(ids).standard_normal(VOCAB)
    if noise:
        noisy += noise * np.random.default_rng([7, *ids]).standard_normal(VOCAB)
    logits = noisy.astype(np.float32)
    logits.flags.writeable = False
    return logits


def script(text: str | bytes) -> list[int]:
    """The ids that say `text`."""
    return [BYTES + byte for byte in (text.encode() if isinstance(text, str) else text)]

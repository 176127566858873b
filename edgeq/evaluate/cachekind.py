"""Which kind of KV cache a model needs: the first that stays near to one of float32 on a text.

Keys are what a cache of few bits may not hold. Where they are a product of normed rows alone they have about
one size; a bias or a norm's weight may make some dimensions a hundred times larger than what tells tokens
apart. So a model with either is asked (`asks`), with TOKENS tokens, and others are not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.engine import Model
from edgeq.evaluate.windows import kld_of_rows
from edgeq.formats import ModelFile

TRIED = ("q8", "f16")  # in this order; one of float32 is what they are held against
EXACT = "f32"
BOUND = 0.002  # nats that a kind may cost at the most: between what weights in 5 and in 4 bits do
TOKENS = 256  # of the text; the second half is scored
LARGE_KEYS = ("k_bias", "k_norm")  # a block's tensors that may make keys of any size

Load = Callable[..., Any]


@dataclass(frozen=True)
class Choice:
    """A kind, and the mean KLD, in nats, of those that were tried from a cache of float32; None where logits
    are not finite.
    """

    kind: str
    divergence: dict[str, float | None]
    tokens: int
    text_sha256: str

    def words(self) -> dict[str, Any]:
        """What a file's header says of it."""
        return {
            "kind": self.kind,
            "divergence": {kind: value and float(f"{value:.3g}") for kind, value in self.divergence.items()},
            "bound": BOUND,
            "tokens": self.tokens,
            "text_sha256": self.text_sha256,
        }


def asks(file: ModelFile) -> bool:
    """Whether a model's keys may be of any size, and it has a tokenizer to be asked with."""
    names = (f"blocks.0.{name}" for name in LARGE_KEYS)
    return file.header.get("tokenizer") is not None and any(name in file.tensors for name in names)


def choose(path: str | os.PathLike[str], text: str, load: Load = Model) -> Choice | None:
    """The first kind of TRIED whose divergence is not above BOUND, else EXACT; `text` is cut to TOKENS
    tokens. None for a model whose logits are not finite with any kind. load(path, kv=…) opens the model.
    """
    ids, exact = _logits(path, EXACT, text, load)
    if not np.isfinite(exact).all():
        return None
    found: dict[str, float | None] = {}
    for kind in TRIED:
        _, logits = _logits(path, kind, ids, load)
        kld = float(kld_of_rows(exact, logits).mean()) if np.isfinite(logits).all() else None
        found[kind] = kld
        if kld is not None and kld <= BOUND:
            return Choice(kind, found, len(ids), _sha256(ids))
    return Choice(EXACT, found, len(ids), _sha256(ids))


def _logits(
    path: str | os.PathLike[str], kind: str, text: str | Sequence[int], load: Load
) -> tuple[list[int], np.ndarray]:
    """The ids of the text, and float32 [n, vocab] after each of their second half."""
    with load(path, kv=kind) as model:
        ids = model.tokenizer.encode(text) if isinstance(text, str) else list(text)
        ids = ids[: min(TOKENS, model.context)]
        sequence = model.sequence()
        half = len(ids) // 2
        if half:
            sequence.feed(ids[:half])
        return ids, sequence.feed(ids[half:], all_logits=True).copy()


def _sha256(ids: Sequence[int]) -> str:
    """As `Windows.text_sha256` of ids."""
    return hashlib.sha256(np.array(ids, "<i8").tobytes()).hexdigest()

"""Which tokens may be drawn, as a bit each: bit i of word i / 32, uint32."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import UsageError

Mask = NDArray[np.uint32]


def words(vocab: int) -> int:
    """How many words a mask has."""
    return -(-vocab // 32)


def all_but(banned: Collection[int], vocab: int) -> Mask | None:
    """A mask without those ids; None where there are none among the vocabulary's."""
    ids = [id for id in banned if 0 <= id < vocab]
    if not ids:
        return None
    mask = np.full(words(vocab), 2**32 - 1, np.uint32)
    for id in ids:
        mask[id // 32] &= ~np.uint32(1 << id % 32)
    return mask


def only(ids: Collection[int], vocab: int) -> Mask:
    """A mask of those ids. UsageError for one that is outside the vocabulary."""
    mask = np.zeros(words(vocab), np.uint32)
    for id in ids:
        if not 0 <= id < vocab:
            raise UsageError(f"token {id} is allowed, but the vocabulary has {vocab} tokens")
        mask[id // 32] |= np.uint32(1 << id % 32)
    return mask


def one_of(mask: Mask) -> int | None:
    """The one id whose bit a mask has; None where it has more, or none."""
    if np.count_nonzero(mask) != 1:
        return None
    word = int(mask.argmax())
    bits = int(mask[word])
    return None if bits & (bits - 1) else 32 * word + bits.bit_length() - 1


def check_mask(mask: object, vocab: int) -> None:
    """UsageError for what is no mask of a vocabulary."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint32 or mask.shape != (words(vocab),):
        raise UsageError(
            f"mask is {type(mask).__name__} {getattr(mask, 'dtype', '')} {list(getattr(mask, 'shape', ()))}, "
            f"but must be an array of {words(vocab)} uint32, a bit for each of {vocab} tokens"
        )

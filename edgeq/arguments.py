"""What callers pass, checked where it comes in: each refusal is one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from edgeq.errors import UsageError, shown

INTEGERS = (int, np.integer)  # written once: a union of types is made anew wherever it is read
ROWS = (Sequence, np.ndarray)


def is_int(value: object) -> bool:
    """Whether it is a whole number, Python's or NumPy's; True and False are none."""
    return isinstance(value, INTEGERS) and not isinstance(value, bool)


def whole(name: str, value: Any) -> int:
    """value, checked to be a positive whole number."""
    number = int(value) if is_int(value) else 0
    if number < 1:
        raise UsageError(f"{name} is {shown(value)}, but a positive whole number is needed.")
    return number


def one_of(name: str, value: object, words: Sequence[str]) -> str:
    """value, checked to be one of the words."""
    if not isinstance(value, str) or value not in words:
        raise UsageError(f"{name} is {shown(value)}, but must be one of {', '.join(words)}.")
    return value


def callback(name: str, value: object) -> None:
    """UsageError unless value can be called or is None."""
    if value is not None and not callable(value):
        raise UsageError(f"{name} is {shown(value)}, but must be a function.")


def token_ids(ids: Any, vocab_size: int, most: int | None = None) -> np.ndarray:
    """A copy of ids, int64 [at least 1], of which nobody else knows. UsageError where they are no sequence of
    whole numbers, one is outside the vocabulary, or there are more than `most`, which is told before anything
    is copied.
    """
    if not isinstance(ids, ROWS) and hasattr(ids, "__array__"):
        with contextlib.suppress(TypeError, ValueError):
            ids = np.asarray(ids)  # another library's
    if isinstance(ids, np.ndarray):
        ids = ids.view(np.ndarray)  # without what a subclass says of itself
    array = isinstance(ids, np.ndarray)
    if (ids.ndim != 1 or ids.dtype.kind not in "iu") if array else not is_sequence(ids):
        what = f"an array of {ids.dtype} with {ids.ndim} dimensions" if array else f"a {type(ids).__name__}"
        raise UsageError(f"ids are {what}, but must be a list or a row of at least one token id.")
    try:
        count = len(ids)
    except OverflowError:  # a range
        raise UsageError("ids are more than any context holds.") from None
    if not count:
        raise UsageError("ids are empty, but must be a list of at least one token id.")
    if most is not None and count > most:
        raise UsageError(f"{count} tokens do not fit in the context of {most}.")
    new: Any = np.array(ids) if array else _listed(ids, count)
    low, high = (int(new.min()), int(new.max())) if array else (min(new), max(new))
    if low < 0 or high >= vocab_size:
        raise UsageError(
            f"token id {shown(low if low < 0 else high)} is outside the vocabulary of {vocab_size}."
        )
    return np.array(new, np.int64)


def is_sequence(ids: object) -> bool:
    """Whether it is something with a length and an order, and no text."""
    return isinstance(ids, Sequence) and not isinstance(ids, str | bytes | bytearray)


def _listed(ids: Sequence[Any], count: int) -> list[int]:
    """The `count` items, each checked to be a whole number and read once."""
    items = list(islice(ids, count))  # no more, however many come
    if len(items) < count:
        raise UsageError(f"ids became fewer than {count} while they were read.")
    for item in items:
        if not is_int(item):
            raise UsageError(f"ids hold {shown(item)}, but must be a list of whole numbers.")
    return list(map(int, items))  # a subclass may say another number each time

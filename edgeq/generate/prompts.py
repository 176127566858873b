"""A prompt's token ids, and how much of them a sequence holds already."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from edgeq import arguments
from edgeq.errors import UsageError
from edgeq.generate.protocols import LanguageModel, Prefixes, TokenSequence


def encode(
    model: LanguageModel,
    prompt: str | Sequence[int],
    *,
    first: bool = True,
    special: bool = False,
    most: int | None = None,
) -> list[int]:
    """The prompt's token ids, checked; a text at the beginning of a sequence begins as the tokenizer says
    (BOS).

    Raises UsageError when there is no tokenizer for a text, no token at all, an id outside the vocabulary, or
    more than `most` ids are given.
    """
    if isinstance(prompt, str):
        if model.tokenizer is None:
            raise UsageError(
                "the model file holds no tokenizer, so the prompt must be token ids: for texts convert the "
                "model anew, from a source that has one"
            )
        prompt, most = model.tokenizer.encode(prompt, add_bos=None if first else False, special=special), None
        if not prompt:
            raise UsageError("the prompt is empty, but generation needs at least one token to begin with")
    listed: list[int] = arguments.token_ids(prompt, model.vocab_size, most).tolist()
    return listed


def prefixes_of(model: LanguageModel) -> Prefixes | None:
    """What a model knows of prompts; None for one that keeps nothing."""
    return getattr(model, "prefixes", None)


class Salted:
    """What is known of prompts to those alone who know the salt."""

    def __init__(self, prefixes: Any, salt: str) -> None:
        self._prefixes, self._salt = prefixes, salt

    def start(self, sequence: Any, ids: Sequence[int]) -> int:
        return int(self._prefixes.start(sequence, ids, self._salt))

    def keep(self, sequence: Any) -> None:
        self._prefixes.keep(sequence, self._salt)


def let_go(sequence: TokenSequence, prefixes: Prefixes | None) -> None:
    """Close a sequence; what it holds is known from now on."""
    with contextlib.closing(sequence):
        if prefixes is not None:
            prefixes.keep(sequence)


def reused(model: LanguageModel, sequence: TokenSequence, ids: Sequence[int]) -> list[int]:
    """As `remaining`, where the sequence may come to hold more of them: what the model knows of prompts that
    begin alike."""
    prefixes = prefixes_of(model)
    return remaining(sequence, ids) if prefixes is None else list(ids[prefixes.start(sequence, ids) :])


def remaining(sequence: TokenSequence, ids: Sequence[int]) -> list[int]:
    """Keep what `sequence` holds of `ids` from their beginning, forget the rest, and return the ids left to
    feed.

    At least one id is left, since the next token's logits come out of feeding it.
    """
    held = list(sequence.ids)
    keep = max(0, min(alike(held, ids), len(ids) - 1))
    if keep < len(held):
        keep = sequence.truncate(keep)
    return list(ids[keep:])


def alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids of the two are the same from the beginning."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))

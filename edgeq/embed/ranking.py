"""Scores of documents for a query: how likely a model finds that a document answers it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import arguments
from edgeq.errors import UsageError, shown

from .pooling import PLACES, Pooling
from .reading import Cancelled, Progress, last_row, most_tokens, read

PLACE = re.compile(rf"\{{({'|'.join(PLACES)})\}}")


def rerank(
    model: Any,
    query: str,
    documents: Sequence[str],
    *,
    instruction: str | None = None,
    truncate: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> NDArray[np.float32]:
    """float32 [documents], from 0 to 1: how well each document answers the query.

    instruction: what is to be judged, in place of the model's usual words. truncate: of a document that is
    too long only the beginning is read, else it is refused. What documents have before them is read once.
    progress(done, total) is called with tokens; cancelled() is asked between pieces of work.

    UsageError, OutOfMemoryError and CancelledError as from `Sequence.feed`, and UsageError for a model that
    does not rank and a document that is too long.
    """
    arguments.callback("progress", progress)
    arguments.callback("cancelled", cancelled)
    how = model.pooling
    if how is None or how.kind != "rank":
        raise UsageError("the model was not made to rank documents: its file has no words on that.")
    if model.tokenizer is None:
        raise UsageError("the model's file has no tokenizer, without which nothing can be ranked.")
    if instruction is not None and "{instruction}" not in how.template:
        raise UsageError("an instruction is given, but the model's template has no place for one.")
    if not arguments.is_sequence(documents):
        raise UsageError(f"documents are {shown(documents)}, but must be a list of texts.")
    for name, text in (("query", query), *((f"document {n}", text) for n, text in enumerate(documents))):
        if not isinstance(text, str):
            raise UsageError(f"{name} is {shown(text)}, but must be a text.")
    words = {"instruction": how.instruction if instruction is None else instruction, "query": query}
    ids = [_ids(model, how, n, {**words, "document": text}, truncate) for n, text in enumerate(documents)]
    scores = np.zeros(len(ids), np.float32)
    if not ids:
        return scores
    weights, shared = model.classifier, common(ids)
    for seen in read(model, ids, last_row, shared=shared, progress=progress, cancelled=cancelled):
        if seen.whole:
            scores[seen.number] = score(weights, seen.rows[0])
    return scores


def common(texts: Sequence[list[int]]) -> int:
    """How many tokens several texts begin with alike, so that each has at least one of its own."""
    if len(texts) == 1:
        return 0
    first, last = min(texts), max(texts)
    alike = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(alike, *(len(each) - 1 for each in texts))


def score(weights: NDArray[np.float32], row: NDArray[np.float32]) -> float:
    """The share of the first label, of one label its own likelihood: weights are [labels, hidden_size]."""
    logits = weights.astype(np.float64) @ row.astype(np.float64)
    others = logits[1:] if len(logits) > 1 else np.zeros(1)
    with np.errstate(over="ignore"):
        return float(1 / (1 + np.exp(others - logits[0]).sum()))


def _ids(model: Any, how: Pooling, number: int, words: dict[str, str], truncate: bool) -> list[int]:
    """The template with its words, as token ids. Only its own text may become control tokens."""
    text, theirs = "", dict[str, tuple[int, int]]()
    for literal, place in _pieces(how.template):
        text += literal
        if place:
            theirs[place] = len(text), len(text) + len(words[place])
            text += words[place]

    def encode(first: int, last: int) -> list[int]:
        def trusted(start: int, end: int) -> bool:
            return all(first + end <= a or b <= first + start for a, b in theirs.values())

        parts = model.tokenizer.split(text[first:last], trusted)
        found: list[int] = model.tokenizer.encode_parts(parts, add_bos=None if first == 0 else False)
        return found

    limit = most_tokens(model, how.tokens)
    ids = encode(0, len(text))
    if len(ids) <= limit:
        return ids
    begin, end = theirs["document"]
    behind = encode(end, len(text))
    room = limit - len(behind)
    if not truncate:
        raise UsageError(
            f"document {number} has {len(ids)} tokens with the query and all around them, but at most "
            f"{limit} are read: shorten it, or have it truncated (truncate=True, --truncate)."
        )
    if room <= len(encode(0, begin)):
        raise UsageError(f"the query leaves no room for a document among {limit} tokens: shorten it.")
    return encode(0, end)[:room] + behind


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Text and the place behind it, "" at the end."""
    found = PLACE.split(template)
    yield from zip(found[::2], [*found[1::2], ""], strict=True)

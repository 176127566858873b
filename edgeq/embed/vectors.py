"""Vectors of texts: the rows that a model leaves of their tokens, made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import arguments
from edgeq.errors import UsageError, near, shown

from .pooling import VECTORS, Pooling
from .reading import Cancelled, Progress, Wanted, all_rows, first_row, last_row, most_tokens, read

Vectors = NDArray[np.float32]
WANTED: dict[str, Wanted] = {"last": last_row, "mean": all_rows, "cls": first_row}


def embed(
    model: Any,
    texts: Sequence[str | Sequence[int]],
    *,
    prompt: str | None = None,
    pooling: str | None = None,
    normalize: bool | None = None,
    dimensions: int | None = None,
    truncate: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Vectors:
    """float32 [texts, width]: a vector for each text, one text alone included.

    A text may be token ids, which are taken as they are. prompt: the name of one of the model's prompts
    ("query", "document"), which is put before each text; without it the model's usual one, mostly none.
    pooling: "last", "mean" or "cls" in place of what the model says, and needed where it says nothing.
    normalize: whether vectors have the length 1, by default as the model says. dimensions: only so many of
    the first numbers, for models that were made for that. truncate: of a text that is too long only the
    beginning is read, else it is refused. progress(done, total) is called with tokens; cancelled() is asked
    between pieces of work.

    UsageError, OutOfMemoryError and CancelledError as from `Sequence.feed`, and UsageError for a model that
    ranks or says nothing of vectors, a prompt that it does not have, and a text that is empty or too long.
    """
    arguments.callback("progress", progress)
    arguments.callback("cancelled", cancelled)
    how = _how(model.pooling, pooling)
    width = model.config.hidden_size
    kept = width if dimensions is None else arguments.whole("dimensions", dimensions)
    if kept > width:
        raise UsageError(f"dimensions is {kept}, but vectors of this model have {width} numbers.")
    before = _prompt(how, prompt)
    several = [texts] if isinstance(texts, str) else texts
    if not arguments.is_sequence(several):
        raise UsageError(f"texts are {shown(texts)}, but must be a list of texts.")
    ids = [_ids(model, how, n, text, before, truncate) for n, text in enumerate(several)]
    vectors = np.zeros((len(ids), width), np.float32)
    sums = np.zeros((len(ids), width), np.float64) if how.kind == "mean" else None
    for seen in read(model, ids, WANTED[how.kind], progress=progress, cancelled=cancelled) if ids else ():
        if sums is None:
            vectors[seen.number] = seen.rows[0] if len(seen.rows) else vectors[seen.number]
            continue
        for row in seen.rows:  # one by one: the sum is the same however a text was cut into passes
            sums[seen.number] += row
        if seen.whole:
            vectors[seen.number] = sums[seen.number] / len(ids[seen.number])
    vectors = vectors[:, :kept]
    return unit(vectors) if (how.normalize if normalize is None else normalize) else vectors


def unit(vectors: Vectors) -> Vectors:
    """The vectors with the length 1; one of zeros stays."""
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(1, keepdims=True))
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def _how(pooling: Pooling | None, kind: str | None) -> Pooling:
    """The file's word, with another kind where one is asked for."""
    if kind is not None:
        arguments.one_of("pooling", kind, VECTORS)
        return replace(pooling or Pooling(kind), kind=kind)
    if pooling is None:
        raise UsageError(
            "the model's file does not say how a text becomes a vector: name pooling, one of "
            f"{', '.join(VECTORS)}."
        )
    if pooling.kind == "rank":
        raise UsageError("the model ranks documents for a query and gives no vectors: use rerank.")
    return pooling


def _prompt(how: Pooling, name: str | None) -> str:
    """What is put before each text."""
    name = how.prompt if name is None else name
    if name is None:
        return ""
    if not isinstance(name, str) or name not in how.prompts:
        known = ", ".join(how.prompts) or "none"
        raise UsageError(f"the model has no prompt {shown(name)}{near(name, how.prompts)}; it has {known}.")
    return how.prompts[name]


def _ids(model: Any, how: Pooling, number: int, text: Any, before: str, truncate: bool) -> list[int]:
    """The token ids of a text, as the model reads them. Its own characters become no control tokens, those of
    a prompt may."""
    limit = most_tokens(model, how.tokens)
    if not isinstance(text, str):
        ids, behind = [int(i) for i in arguments.token_ids(text, model.vocab_size)], list[int]()
    elif model.tokenizer is None:
        raise UsageError("the model's file has no tokenizer: give token ids in place of texts.")
    else:
        parts = model.tokenizer.split(before + text, lambda start, end: end <= len(before))
        ids, behind = model.tokenizer.encode_parts(parts), list(model.tokenizer.spec.behind)
    count = len(ids) + len(behind)
    if not count:
        raise UsageError(f"text {number} is empty, but a vector is made of at least one token.")
    if count > limit:
        if not truncate:
            raise UsageError(
                f"text {number} has {count} tokens, but at most {limit} are read: shorten it, or have it "
                "truncated (truncate=True, --truncate)."
            )
        ids = ids[: max(0, limit - len(behind))]
    return [*ids, *behind][:limit]

"""Scores of documents against transformers asked as the model's authors ask it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.embed.ranking import common, score
from edgeq.errors import UsageError

from .conftest import TEXTS, Loaded, expected


def test_scores(loaded: Loaded) -> None:
    model, theirs = loaded("reranker"), expected("reranker")
    ours = model.rerank(TEXTS[0], TEXTS[1:5])
    assert ours.dtype == np.float32 and np.abs(ours - theirs["scores"]).max() < 1e-5
    assert np.ptp(ours) > 0.05
    alone = [model.rerank(TEXTS[0], [text])[0] for text in TEXTS[1:5]]
    assert (ours == alone).all()  # what they share is computed once, to the same bits
    other = model.rerank(TEXTS[0], TEXTS[1:5], instruction="Find the same question")
    assert np.abs(other - theirs["other"]).max() < 1e-5 and np.abs(other - ours).max() > 1e-4
    assert model.rerank(TEXTS[0], []).shape == (0,) and not model.pool.used


def test_a_document_that_is_too_long(loaded: Loaded) -> None:
    model = loaded("reranker")
    long = "a lot of words " * 40
    with pytest.raises(UsageError, match=r"document 1 has \d+ tokens .* at most 640"):
        model.rerank("q", ["short", long])
    first, second = model.rerank("q", ["short", long], truncate=True)
    assert 0 < first < 1 and 0 < second < 1
    with pytest.raises(UsageError, match="leaves no room"):
        model.rerank("q" * 700, ["short"], truncate=True)


def test_what_is_read(loaded: Loaded) -> None:
    """Only the template's own marks are control tokens, whatever query and document say."""
    from edgeq.embed.ranking import _ids

    model = loaded("reranker")
    how = model.pooling
    assert how is not None
    words = {"instruction": how.instruction, "query": "<|im_end|>", "document": "{query}<think>"}
    ids = _ids(model, how, 0, words, False)
    assert model.tokenizer.decode(ids, special=True) == how.template.replace(
        "{instruction}", how.instruction
    ).replace("{query}", "<|im_end|>").replace("{document}", "{query}<think>")
    spelled = [model.tokenizer.spelling(id) for id in ids]
    assert spelled.count("<|im_end|>") == 2 and spelled.count("<think>") == 1


@pytest.mark.parametrize(
    ("query", "documents", "words"),
    [(1, ["a"], "query is 1"), ("a", "b", "documents are 'b'"), ("a", ["b", None], "document 1 is None")],
)
def test_what_is_refused(loaded: Loaded, query: Any, documents: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        loaded("reranker").rerank(query, documents)
    with pytest.raises(UsageError, match="gives no vectors"):
        loaded("reranker").embed(["a"])


def test_the_arithmetic() -> None:
    row = np.array([2.0, 0.0], np.float32)
    two = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert score(two, row) == pytest.approx(np.exp(2) / (np.exp(2) + 1))
    assert score(two[:1], row) == pytest.approx(1 / (1 + np.exp(-2)))
    assert score(two * 1e4, -row) == 0.0
    assert common([[1, 2, 3], [1, 2], [1, 2, 3, 4]]) == 1 and common([[5, 6]]) == 0
    assert common([[1, 2], [1, 2]]) == 1 and common([[1, 2], [3]]) == 0

"""Vectors of texts, and scores of documents for a query, of models that were made for that.

    vectors = embed(model, ["one text", "another"])
    scores = rerank(model, "a question", ["an answer", "something else"])

`pooling` is what a file says of it, `reading` brings many texts through passes of the model.
"""

from __future__ import annotations

from .pooling import Pooling
from .ranking import rerank
from .vectors import embed

__all__ = ["Pooling", "embed", "rerank"]

"""OpenAI's embeddings, of models that were made for vectors."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from edgeq.errors import CancelledError
from edgeq.serve import fields
from edgeq.serve.errors import ApiError, wrong
from edgeq.serve.served import Served

TEXTS_MAX = 256


class Embeddings(Struct, kw_only=True):
    input: str | list[Any]
    model: Annotated[str, Meta(max_length=512)] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1, le=2**31)] | None = None


def texts_of(served: Served, given: str | list[Any]) -> list[list[int] | str]:
    """Texts, or lists of ids: one that a client tokenized for another model is told so."""
    listed = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    if not 0 < len(listed) <= TEXTS_MAX:
        raise wrong("input", f"input has {len(listed)} texts, but 1 to {TEXTS_MAX} are taken")
    for text in listed:
        if isinstance(text, str) and text:
            continue
        if not isinstance(text, list) or not text or not all(type(id) is int for id in text):
            raise wrong(
                "input", "input must be a text, a list of texts, or lists of token ids; none is empty"
            )
        if not 0 <= min(text) <= max(text) < served.model.vocab_size:
            raise wrong(
                "input",
                f"input has ids of another vocabulary than the model's {served.model.vocab_size}: send texts "
                "(in LangChain, check_embedding_ctx_length=False)",
            )
    return listed


def embeddings(served: Served, data: Mapping[str, Any], left: Callable[[], bool]) -> dict[str, Any] | None:
    """The vectors; None where the client has left meanwhile."""
    read = fields.read(Embeddings, data)
    if served.model.pooling is None:
        raise ApiError(501, "the model was not made for vectors: serve one that was", param="model")
    texts = texts_of(served, read.input)
    options = {} if read.dimensions is None else {"dimensions": read.dimensions}
    try:
        vectors = served.model.embed(texts, cancelled=left, **options)
    except CancelledError:
        return None
    tokens = sum(len(text if isinstance(text, list) else served.tokenizer.encode(text)) for text in texts)
    rows = []
    for n, vector in enumerate(vectors):
        data_of = vector.astype("<f4").tobytes()
        told = base64.b64encode(data_of).decode() if read.encoding_format == "base64" else vector.tolist()
        rows.append({"object": "embedding", "index": n, "embedding": told})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": served.name, "usage": usage}

"""Embeddings, of models that were made for vectors: as OpenAI's clients ask for them, and as ollama's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from edgeq.serve import fields
from edgeq.serve.errors import ApiError, wrong
from edgeq.serve.served import Served

TEXTS_MAX = 256

Left = Callable[[], bool]  # whether the client has
Name = Annotated[str, Meta(max_length=512)]
Dimensions = Annotated[int, Meta(ge=1, le=2**31)]


class Embeddings(Struct, kw_only=True):
    """OpenAI's."""

    input: str | list[Any]
    model: Name | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Dimensions | None = None


class Embed(Struct, kw_only=True):
    """ollama's. Only where truncate is said, and not by default, a text is cut."""

    input: str | list[Any]
    model: Name | None = None
    truncate: bool = False
    dimensions: Dimensions | None = None


class EmbedOne(Struct, kw_only=True):
    """ollama's, as it was at first."""

    prompt: str
    model: Name | None = None


def texts_of(served: Served, given: str | list[Any], where: str = "input") -> list[list[int] | str]:
    """Texts, or lists of ids: one that a client tokenized for another model is told so."""
    listed = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    if not 0 < len(listed) <= TEXTS_MAX:
        raise wrong(where, f"{where} has {len(listed)} texts, but 1 to {TEXTS_MAX} are taken")
    for text in listed:
        if isinstance(text, str) and text:
            continue
        if not isinstance(text, list) or not text or not all(type(id) is int for id in text):
            raise wrong(
                where, f"{where} must be a text, a list of texts, or lists of token ids; none is empty"
            )
        if not 0 <= min(text) <= max(text) < served.model.vocab_size:
            raise wrong(
                where,
                f"{where} has ids of another vocabulary than the model's {served.model.vocab_size}: send "
                "texts (in LangChain, check_embedding_ctx_length=False)",
            )
    return listed


def vectors_of(
    served: Served, given: str | list[Any], left: Left, where: str = "input", **options: Any
) -> tuple[Any, int]:
    """(float32 [texts, width], how many tokens they have). ApiError for what cannot be had, and
    CancelledError where the client has left."""
    if served.model.pooling is None:
        raise ApiError(501, "the model was not made for vectors: serve one that was", param="model")
    texts = texts_of(served, given, where)
    given_options = {name: value for name, value in options.items() if value is not None}
    vectors = served.model.embed(texts, cancelled=left, **given_options)
    tokens = sum(len(text if isinstance(text, list) else served.tokenizer.encode(text)) for text in texts)
    return vectors, tokens


def embeddings(served: Served, data: Mapping[str, Any], left: Left) -> dict[str, Any]:
    """/v1/embeddings"""
    read = fields.read(Embeddings, data)
    vectors, tokens = vectors_of(served, read.input, left, dimensions=read.dimensions)
    rows = []
    for n, vector in enumerate(vectors):
        data_of = vector.astype("<f4").tobytes()
        told = base64.b64encode(data_of).decode() if read.encoding_format == "base64" else vector.tolist()
        rows.append({"object": "embedding", "index": n, "embedding": told})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": served.name, "usage": usage}


def embed(served: Served, data: Mapping[str, Any], left: Left) -> dict[str, Any]:
    """/api/embed"""
    began = time.monotonic_ns()
    read = fields.read(Embed, data)
    vectors, tokens = vectors_of(served, read.input, left, truncate=read.truncate, dimensions=read.dimensions)
    return {
        "model": served.name,
        "embeddings": vectors.tolist(),
        "total_duration": time.monotonic_ns() - began,
        "load_duration": 0,
        "prompt_eval_count": tokens,
    }


def embed_one(served: Served, data: Mapping[str, Any], left: Left) -> dict[str, Any]:
    """/api/embeddings"""
    read = fields.read(EmbedOne, data)
    vectors, _ = vectors_of(served, read.prompt, left, "prompt")
    return {"embedding": vectors[0].tolist()}

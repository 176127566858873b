"""A server of a model that makes vectors and predicts no token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.converters import convert
from tests.serve.live import TEMPLATE, Live

ENCODER = Path(__file__).resolve().parents[1] / "golden" / "vectors" / "encoder"
HI: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("encoder") / "encoder.edgeq"
    convert(ENCODER, path, scheme="f32")
    with edgeq.load(path, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def server(encoder: Any) -> Iterator[Live]:
    server = Live(encoder, template=TEMPLATE)
    yield server
    server.stop()


def test_it_embeds_as_openai_and_ollama_ask(server: Live, encoder: Any) -> None:
    texts = ["a cat", "the capital"]
    wanted = encoder.embed(texts)
    found = server.post("/v1/embeddings", {"input": texts}).json
    assert np.array_equal(np.asarray([row["embedding"] for row in found["data"]], np.float32), wanted)
    found = server.post("/api/embed", {"model": "x", "input": texts, "keep_alive": "5m"}).json
    assert np.array_equal(np.asarray(found["embeddings"], np.float32), wanted) and found["total_duration"] > 0
    one = server.post("/api/embed", {"input": texts[0], "dimensions": 4}).json["embeddings"]
    assert np.array_equal(np.asarray(one, np.float32), encoder.embed(texts[0], dimensions=4))
    found = server.post("/api/embeddings", {"model": "x", "prompt": texts[1]}).json
    assert np.array_equal(np.asarray(found["embedding"], np.float32), wanted[1])


def test_a_long_text_is_cut_only_where_that_is_asked(server: Live, encoder: Any) -> None:
    long = "cat " * 5000
    refused = server.post("/api/embed", {"input": long})
    assert refused.status == 400 and "at most" in refused.json["error"]
    found = server.post("/api/embed", {"input": long, "truncate": True}).json["embeddings"]
    assert np.array_equal(np.asarray(found, np.float32), encoder.embed(long, truncate=True))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/chat/completions", {"messages": HI}),
        ("/v1/messages", {"messages": HI, "max_tokens": 5}),
        ("/api/chat", {"messages": HI}),
        ("/api/generate", {"prompt": "Hi"}),
        ("/completion", {"prompt": "Hi"}),
    ],
)
def test_it_says_that_it_predicts_nothing(server: Live, path: str, body: Any) -> None:
    refused = server.post(path, body)
    assert refused.status == 501 and b"predicts no token" in refused.body
    server.wait_idle()


def test_it_tells_what_it_can(server: Live) -> None:
    assert server.post("/api/show", {"model": "x"}).json["capabilities"] == ["embedding"]
    assert server.get("/health").status == 200

"""What clients sent, posted again without them: every request is answered, in the shape of its path.

The recordings are those of tests/serve/clients/golden. One of them was written by hand: what Open WebUI's
routers send (0.12.4), which is read out of its source.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.converters import convert
from tests.serve.clients.wire import Sent, goldens
from tests.serve.live import TEMPLATE, Live, Response
from tests.serve.test_encoder import ENCODER

CONTEXT = 4096  # of recorded prompts the longest have some hundred tokens, with tools
VECTORS = ("/v1/embeddings", "/api/embed", "/api/embeddings")
VOCABULARY = 512  # of the bundled model
SHORT = 4  # tokens of an answer that has no form: that it is answered counts


def cases() -> Iterator[Any]:
    """The requests of each client's test, but those that were seen before."""
    seen: list[Sent] = []
    for client, tests in goldens().items():
        for test, requests in tests.items():
            fresh = [sent for n, sent in enumerate(requests) if sent not in [*seen, *requests[:n]]]
            seen += fresh
            if fresh:
                yield pytest.param(fresh, id=f"{client}-{test}")


@pytest.fixture(scope="module")
def chats(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The bundled model, its context made long: what it says does not count here."""
    folder = tmp_path_factory.mktemp("long")
    shutil.copytree(demo_checkpoint, folder / "stories")
    config = json.loads((demo_checkpoint / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = CONTEXT
    (folder / "stories/config.json").write_text(json.dumps(config), encoding="utf-8")
    convert(folder / "stories", folder / "stories.edgeq", scheme="q4")
    with edgeq.load(folder / "stories.edgeq", threads=1) as model:
        server = Live(model, template=TEMPLATE, models=("smollm2",))
        yield server
        server.stop()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    path = tmp_path_factory.mktemp("encoder") / "encoder.edgeq"
    convert(ENCODER, path, scheme="f32")
    with edgeq.load(path, threads=1) as model:
        server = Live(model)
        yield server
        server.stop()


@pytest.mark.parametrize("requests", list(cases()))
def test_recorded_requests_are_answered(requests: list[Sent], chats: Live, vectors: Live) -> None:
    for sent in requests:
        server = vectors if sent["path"] in VECTORS else chats
        body = sent["body"] and shortened(sent["body"])
        response = server.ask(sent["method"], sent["path"], body, sent["headers"])
        assert response.status == 200, (sent, response.body)
        check(sent["path"], body or {}, response)


def shortened(body: dict[str, Any]) -> dict[str, Any]:
    """The same request for a few tokens, but where a form has to come to its end; token ids are made some of
    the vocabulary that there is."""
    if any(name in body for name in ("tools", "format", "output_config", "response_format")):
        return body
    found = dict(body)
    if isinstance(body.get("prompt"), list):
        found["prompt"] = [
            [id % VOCABULARY for id in each] if isinstance(each, list) else each for each in body["prompt"]
        ]
    if "tokens" in body:
        found["tokens"] = [id % VOCABULARY for id in body["tokens"]]
    for name in ("max_tokens", "max_completion_tokens"):
        if name in body:
            found[name] = min(SHORT, body[name])
    if "input" not in body and not {"max_tokens", "max_completion_tokens"} & body.keys():
        found["max_tokens"] = SHORT
    if "options" in body:
        found["options"] = {**body["options"], "num_predict": SHORT}
    return found


def check(path: str, body: dict[str, Any], response: Response) -> None:
    """AssertionError where an answer has not the shape that clients of its path read."""
    name = path.removeprefix("/v1")
    if path.startswith("/api/") and "messages" in body or path == "/api/generate":
        lines = [json.loads(line) for line in response.body.splitlines()]
        assert lines[-1]["done"] is True and not any(line["done"] for line in lines[:-1])
        assert all("message" in line or "response" in line for line in lines)
    elif name == "/messages" and body.get("stream"):
        assert response.body.startswith(b"event: message_start\n")
        assert b"event: message_stop\n" in response.body and b"event: error" not in response.body
    elif body.get("stream"):
        events = response.events
        assert events[-1] == "[DONE]" and not any("error" in event for event in events[:-1])
    else:
        assert KEYS[name] in response.json, response.body


KEYS = {
    "/chat/completions": "choices",
    "/completions": "choices",
    "/messages": "content",
    "/messages/count_tokens": "input_tokens",
    "/models": "data",
    "/models/smollm2": "id",
    "/embeddings": "data",
    "/api/embed": "embeddings",
    "/api/embeddings": "embedding",
    "/api/tags": "models",
    "/api/ps": "models",
    "/api/show": "capabilities",
    "/api/version": "version",
    "/tokenize": "tokens",
    "/detokenize": "prompt",
    "/tokenizer_info": "eos_token",
}

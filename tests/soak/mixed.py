"""Requests of many kinds, each judged by what came back: what programs send, and what goes wrong."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from tests.serve.spawned import Spawned

WORDS = [
    "Tom",
    "Lily",
    "cat",
    "dog",
    "ball",
    "sun",
    "tree",
    "big",
    "red",
    "ran",
    "saw",
    "liked",
    "mom",
    "jump",
]
SHARED = "You tell stories to children. They are short, and nobody is sad when they end. " * 3
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"deep": {"type": "boolean"}}}}
BUSY = (429, 503)
NAP_S = 0.02  # of a slow reader between its reads, of which there are few
NAPS = 25


class Wrong(AssertionError):
    """What a server must not answer."""


def text(rng: random.Random, most: int = 40) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


def body(rng: random.Random, **fields: Any) -> dict[str, Any]:
    """A prompt; one of five begins as others do."""
    prompt = (SHARED if rng.random() < 0.2 else "") + text(rng)
    return {"prompt": prompt, "max_tokens": rng.randint(1, 24), "seed": rng.randrange(1000), **fields}


def chatted(rng: random.Random, **fields: Any) -> dict[str, Any]:
    found = body(rng, **fields)
    messages = [{"role": "user", "content": found.pop("prompt")}]
    return {"messages": messages, **found}


def asked(server: Spawned, path: str, sent: Any, expected: int = 200) -> Any:
    """The object of an answer, or None where the server is busy. Wrong for another status."""
    status, data = server.post(path, sent)
    if status in BUSY and expected not in BUSY:
        return None
    if status != expected:
        raise Wrong(f"{path} is answered with {status}: {data[:300]!r}")
    return json.loads(data)


def check(is_right: bool, what: str, found: Any) -> None:
    if not is_right:
        raise Wrong(f"{what}: {str(found)[:300]}")


# what is answered -------------------------------------------------------------------------------------


def chat(server: Spawned, rng: random.Random) -> None:
    found = asked(server, "/v1/chat/completions", chatted(rng))
    check(found is None or found["choices"][0]["finish_reason"] in ("stop", "length"), "chat", found)


def completions(server: Spawned, rng: random.Random) -> None:
    n = rng.randint(1, 3)
    found = asked(server, "/v1/completions", body(rng, n=n, temperature=rng.random()))
    check(found is None or len(found["choices"]) == n, "completions", found)


def echo(server: Spawned, rng: random.Random) -> None:
    found = asked(server, "/v1/completions", body(rng, max_tokens=0, echo=True, logprobs=2))
    if found is not None:
        told = found["choices"][0]["logprobs"]["token_logprobs"]
        check(told[0] is None and all(each <= 0 for each in told[1:]), "log-probabilities", told)


def schema(server: Spawned, rng: random.Random) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    sent = chatted(rng, max_tokens=60, response_format=form)
    found = asked(server, "/v1/chat/completions", sent)
    if found is not None and found["choices"][0]["finish_reason"] == "stop":
        jsonschema.validate(json.loads(found["choices"][0]["message"]["content"]), SCHEMA)


def tools(server: Spawned, rng: random.Random) -> None:
    wanted = {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"}
    found = asked(server, "/v1/chat/completions", chatted(rng, **{**wanted, "max_tokens": 40}))
    if found is not None and found["choices"][0]["finish_reason"] == "tool_calls":
        for call in found["choices"][0]["message"]["tool_calls"]:
            check(isinstance(json.loads(call["function"]["arguments"]), dict), "a call", call)


def others(server: Spawned, rng: random.Random) -> None:
    """The dialects of Anthropic, ollama and llama-server."""
    messages = [{"role": "user", "content": text(rng)}]
    path, sent = rng.choice(
        [
            ("/v1/messages", {"messages": messages, "max_tokens": 8}),
            ("/api/chat", {"messages": messages, "stream": False, "options": {"num_predict": 8}}),
            ("/completion", {"prompt": text(rng), "n_predict": 8}),
            ("/tokenize", {"content": text(rng)}),
            ("/v1/messages/count_tokens", {"messages": messages}),
        ]
    )
    asked(server, path, sent)


def looks(server: Spawned, rng: random.Random) -> None:
    path = rng.choice(["/health", "/metrics", "/v1/models", "/props", "/", "/api/tags"])
    status, data = server.get(path)
    check(status == 200, path, (status, data))


def stream(server: Spawned, rng: random.Random) -> None:
    is_chat = rng.random() < 0.5
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    sent = chatted(rng, stream=True) if is_chat else body(rng, stream=True, logprobs=1)
    status, data = server.post(path, sent)
    check(status in BUSY or (status == 200 and data.endswith(b"data: [DONE]\n\n")), "a stream", data[-300:])


# what is refused ---------------------------------------------------------------------------------------


def embeddings(server: Spawned, rng: random.Random) -> None:
    asked(server, "/v1/embeddings", {"input": text(rng)}, 501)


def errors(server: Spawned, rng: random.Random) -> None:
    path, sent, expected = rng.choice(
        [
            ("/v1/chat/completions", b'{"messages": [', 400),
            ("/v1/completions", {"prompt": "a", "temperature": -1}, 400),
            ("/v1/completions", {"prompt": "Tom " * 2000}, 400),
            ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "a"}]}, 400),
            ("/v1/nothing", {}, 404),
            ("/health", {}, 405),
        ]
    )
    asked(server, path, sent, expected)


# what clients do ---------------------------------------------------------------------------------------


def sent_to(server: Spawned, sent: dict[str, Any], buffer: int = 0) -> socket.socket:
    """A request whose answer is not read yet."""
    data = json.dumps(sent).encode()
    connection = socket.socket()
    connection.settimeout(60)
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", server.port))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def leaves(server: Spawned, rng: random.Random) -> None:
    """Goes away at once, after the first bytes, or in the middle of its own request."""
    sent = body(rng, stream=rng.random() < 0.7, max_tokens=400, logit_bias={"2": -100})
    if rng.random() < 0.2:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
            connection.sendall(head[: rng.randint(5, len(head))])
        return
    with sent_to(server, sent) as connection:
        if sent["stream"] and rng.random() < 0.8:
            connection.recv(rng.choice([1, 500, 5000]))


def slow(server: Spawned, rng: random.Random) -> None:
    """Reads little at a time, and goes away before the end."""
    sent = body(rng, stream=True, max_tokens=400, logprobs=5, logit_bias={"2": -100})
    with sent_to(server, sent, buffer=4096) as connection:
        for _ in range(NAPS):
            if not connection.recv(1024):
                return
            time.sleep(NAP_S)


Kind = Callable[[Spawned, random.Random], None]
KINDS: dict[Kind, int] = {
    chat: 15, completions: 20, echo: 10, schema: 7, tools: 3, others: 7, looks: 5, stream: 15,
    embeddings: 1, errors: 5, leaves: 10, slow: 2,
}  # fmt: skip


def one(server: Spawned, rng: random.Random) -> str | None:
    """Make one request; what was wrong with it."""
    (kind,) = rng.choices([*KINDS], [*KINDS.values()])
    try:
        kind(server, rng)
    except Exception as error:
        return f"{kind.__name__}: {type(error).__name__}: {error}"
    return None

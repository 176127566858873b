"""Random requests: each is answered or refused by a sentence, none is a fault of ours, and nothing is left.

EDGEQ_TEST_FUZZ says how many."""

# ruff: noqa: E501  (a case stands on few lines)

from __future__ import annotations

import json
import os
import random
from typing import Any

from tests.serve.conftest import Start
from tests.serve.live import Live

COUNT = int(os.environ.get("EDGEQ_TEST_FUZZ", "600"))
MESSAGE = {"role": "user", "content": "Hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SEEDS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": [MESSAGE, {"role": "assistant", "content": None, "tool_calls": [CALL]}, MESSAGE],
        "max_tokens": 3, "n": 2, "stop": ["x"], "logprobs": True, "top_logprobs": 2, "seed": 1, "stream": True,
        "stream_options": {"include_usage": True}, "logit_bias": {"5": 1}, "response_format": {"type": "text"},
        "chat_template_kwargs": {"a": [1]}, "reasoning": {"effort": "low"}, "temperature": 0.5, "top_k": 3,
    },
    "/v1/completions": {
        "prompt": ["a", "b"], "max_tokens": 3, "n": 2, "logprobs": 3, "echo": True, "stream": True,
        "stop": "x", "best_of": None, "min_p": 0.1, "repeat_penalty": 1.1, "mirostat": 0, "typical_p": 0.9,
    },
    "/completion": {"prompt": [5, 6], "n_predict": 3, "n_probs": 2, "stream": True, "samplers": "top_k"},
    "/v1/messages": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_tokens": 3,
        "system": [{"type": "text", "text": "b"}], "thinking": {"type": "enabled"}, "stream": True,
        "tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "none"},
    },
    "/v1/messages/count_tokens": {"messages": [MESSAGE], "system": "x"},
    "/api/chat": {"messages": [MESSAGE], "options": {"num_predict": 3, "num_ctx": 99}, "think": True},
    "/api/generate": {"prompt": "a", "system": "b", "raw": False, "options": {"num_predict": 3}, "format": ""},
    "/api/show": {"model": "x"},
    "/v1/embeddings": {"input": ["a", "b"], "dimensions": 4},
    "/tokenize": {"content": "a<s>", "with_pieces": True},
    "/detokenize": {"tokens": [5, 6]},
    "/apply-template": {"messages": [MESSAGE], "chat_template_kwargs": {}},
}  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.5, 1e308, -0.0, 2**31, 2**63, 2**64, -(2**63) - 1, "", "a", "\0", "\ud7ff",
    "<s>", "é" * 300, "x" * 5000, [], [[]], [None], [1, "a"], {}, {"": None}, {"type": "text"}, {"role": "user"},
    [MESSAGE], {"content": [{"type": "text", "text": None}]}, "1", "none", "json", [0] * 600, {"a": {"b": [{}]}},
)  # fmt: skip


def mutant(rng: random.Random, value: Any) -> Any:
    """The value with something in it put in place of another, left out, or moved."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        changed = dict(value)
        name = rng.choice([*value])
        if rng.random() < 0.15:
            del changed[name]
        elif rng.random() < 0.1:
            changed[rng.choice(["nonsense", "tools", "grammar", "suffix", "images", "model"])] = rng.choice(
                VALUES
            )
        else:
            changed[name] = mutant(rng, value[name])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        copy = list(value)
        n = rng.randrange(len(copy))
        copy[n] = mutant(rng, copy[n])
        return copy if rng.random() < 0.9 else copy * rng.choice([0, 2, 50])
    return rng.choice(VALUES)


def bytes_of(rng: random.Random, body: Any) -> bytes:
    data = json.dumps(body).encode()
    if rng.random() < 0.1:
        at = rng.randrange(len(data))
        data = data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(3))) + data[at + 1 :]
    return data


def judged(live: Live, path: str, data: bytes) -> str | None:
    response = live.ask("POST", path, data)
    if response.status == 200:
        if b'"server_error"' in response.body or b"its log says" in response.body:
            return "a stream broke off"
        return None
    if response.status not in (400, 404, 413, 429, 501):
        return f"status {response.status}"
    error = response.json["error"]
    text = error if isinstance(error, str) else error["message"]
    if not text or "\n" in text or len(text) > 500 or "Traceback" in text or "object at" in text:
        return f"told {text!r}"
    return None


def test_no_request_is_a_fault(start: Start) -> None:
    server = start(parallel=2, queue=200)
    wrong = []
    for number in range(COUNT):
        rng = random.Random(number)
        path = rng.choice([*SEEDS])
        body: Any = SEEDS[path]
        for _ in range(rng.choice([1, 1, 2, 4])):
            body = mutant(rng, body)
        data = bytes_of(rng, body)
        if problem := judged(server, path, data):
            wrong.append((number, path, data[:300], problem))
    faults = [line for line in server.lines if "a request failed" in line]
    assert not wrong, "\n".join([*map(str, wrong[:10]), *faults[:3]])
    assert not faults, "\n".join(faults[:3])
    server.wait_idle()

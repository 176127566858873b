"""Requests are hostile input: each limit to both sides, and nothing that is wrong is ever a fault of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeq.serve import fields
from edgeq.serve.errors import ApiError
from tests.serve.live import Live

BOUNDS = {
    "temperature": (0, 5), "top_p": (0, 1), "min_p": (0, 1), "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}  # fmt: skip
WHOLE = {
    "top_k": (-1, 2**31 - 1),
    "n": (1, 8),
    "seed": (-(2**63), 2**63 - 1),
    "repeat_last_n": (-1, 2**31 - 1),
}


def cases() -> list[tuple[str, Any, int]]:
    found: list[tuple[str, Any, int]] = []
    for name, (low, high) in {**BOUNDS, **WHOLE}.items():
        found += [(name, low, 200), (name, high, 200), (name, low - 1, 400), (name, high + 1, 400)]
        found += [(name, None, 200), (name, "1", 400), (name, True, 400), (name, [1], 400), (name, {}, 400)]
    for name, (low, high) in BOUNDS.items():
        found += [(name, low - 1e-9, 400), (name, high + 1e-9, 400), (name, (low + high) / 2, 200)]
    found += [(name, 1.5, 400) for name in WHOLE]
    for name in ("repeat_penalty", "repetition_penalty"):
        found += [(name, 0, 400), (name, 1e-3, 200), (name, 10, 200), (name, 10.01, 400), (name, None, 200)]
    found += [("logit_bias", {"5": 100}, 200), ("logit_bias", {"5": 100.1}, 400), ("logit_bias", {}, 200)]
    found += [
        ("logit_bias", {"5": -100.1}, 400),
        ("logit_bias", {"x": 1}, 400),
        ("logit_bias", {"512": 1}, 400),
    ]
    found += [("logit_bias", {"511": 1}, 200), ("logit_bias", {"-1": 1}, 400), ("logit_bias", [1], 400)]
    found += [
        ("logit_bias", {"5": None}, 400),
        ("logit_bias", {"5": "1"}, 400),
        ("logit_bias", {"٣": 1}, 400),
    ]
    found += [("logit_bias", {str(n): 1 for n in range(1025)}, 400)]
    found += [("stop", "", 200), ("stop", [], 200), ("stop", ["a"] * 16, 200), ("stop", ["a"] * 17, 400)]
    found += [
        ("stop", "a" * 256, 200),
        ("stop", "a" * 257, 400),
        ("stop", ["a" * 257], 400),
        ("stop", 5, 400),
    ]
    found += [("stop", [5], 400), ("stop", [None], 400), ("stop", None, 200)]
    found += [("stream", None, 200), ("stream", 1, 400), ("stream", "true", 400)]
    found += [("stream_options", None, 200), ("stream_options", {}, 200), ("stream_options", [], 400)]
    found += [("stream_options", {"include_usage": None}, 200), ("stream_options", {"include_usage": 1}, 400)]
    found += [("cache_prompt", False, 200), ("cache_prompt", 0, 400), ("user", "me", 200), ("user", 5, 200)]
    found += [("model", "any", 200), ("model", 5, 400), ("model", "x" * 513, 400), ("nonsense", {}, 200)]
    found += [("mirostat", 2, 200), ("mirostat", 3, 400), ("xtc_threshold", 2, 400), ("typical_p", 0.5, 200)]
    found += [("response_format", {"type": "text"}, 200), ("response_format", {"type": "xml"}, 400)]
    found += [("response_format", {}, 400), ("response_format", "text", 400), ("lora", [{"id": 0}], 400)]
    return found


COMMON = cases()
CALL = {"id": "c", "function": {"name": "f", "arguments": "{bad"}}
RESULT = {"role": "tool", "tool_call_id": None, "content": "x"}
CHAT: list[tuple[str, Any, int]] = [
    ("max_tokens", 0, 400), ("max_tokens", 1, 200), ("max_tokens", 2**31 + 1, 400), ("max_tokens", -1, 400),
    ("max_completion_tokens", 0, 400), ("max_completion_tokens", 2, 200),
    ("max_completion_tokens", None, 200),
    ("logprobs", True, 200), ("logprobs", None, 200), ("logprobs", 1, 400), ("top_logprobs", 1, 400),
    ("top_logprobs", None, 200), ("best_of", 1, 200), ("best_of", 2, 400), ("functions", [], 400),
    ("function_call", "auto", 400), ("functions", None, 200), ("audio", {}, 400),
    ("modalities", ["text"], 200),
    ("modalities", ["text", "audio"], 400), ("previous_response_id", "x", 400), ("tools", None, 200),
    ("tools", [], 200), ("tools", {}, 400), ("tools", [1], 400), ("tools", [{}] * 129, 400),
    ("tool_choice", "none", 200), ("tool_choice", "required", 400), ("parallel_tool_calls", True, 400),
    ("chat_template_kwargs", {"a": 1}, 200), ("chat_template_kwargs", {"messages": 1}, 400),
    ("chat_template_kwargs", {str(n): n for n in range(17)}, 400), ("reasoning_effort", "low", 200),
    ("reasoning", {"effort": "high"}, 200), ("think", False, 200), ("enable_thinking", True, 200),
    ("continue_final_message", True, 400), ("add_generation_prompt", False, 200),
    ("cache_salt", "x" * 128, 200), ("cache_salt", "x" * 129, 400),
    ("messages", [], 400), ("messages", None, 400), ("messages", "hi", 400), ("messages", [5], 400),
    ("messages", [{"role": "user"}], 400), ("messages", [{"content": "hi"}], 400),
    ("messages", [{"role": "robot", "content": "hi"}], 400),
    ("messages", [{"role": "user", "content": 5}], 400),
    ("messages", [{"role": "user", "content": None}], 400),
    ("messages", [{"role": "user", "content": []}], 200),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], 400),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], 400),
    ("messages", [{"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT], 200),
    ("messages", [{"role": "assistant", "content": None, "tool_calls": ["x"]}], 400),
    ("messages", [{"role": "user", "content": "hi", "images": ["x"]}], 400),
]  # fmt: skip
COMPLETION: list[tuple[str, Any, int]] = [
    ("max_tokens", 0, 400), ("max_tokens", 1, 200), ("max_tokens", 2**31 + 1, 400), ("max_tokens", None, 200),
    ("logprobs", 0, 200), ("logprobs", 20, 200), ("logprobs", 21, 400), ("logprobs", -1, 400),
    ("logprobs", True, 400), ("suffix", "x", 400), ("suffix", None, 200), ("suffix", "", 200),
    ("best_of", 1, 200), ("best_of", 2, 400), ("best_of", None, 200), ("echo", True, 200), ("echo", 1, 400),
    ("prompt", None, 400), ("prompt", "", 200), ("prompt", [], 400), ("prompt", [[]], 400),
    ("prompt", 5, 400),
    ("prompt", [511], 200), ("prompt", [512], 400), ("prompt", [-1], 400), ("prompt", [1.5], 400),
    ("prompt", [True], 400), ("prompt", ["a", [5]], 400), ("prompt", ["a"] * 64, 200),
    ("prompt", ["a"] * 65, 400), ("prompt", [[5], ["a"]], 400), ("prompt", {"a": 1}, 400),
    ("add_special_tokens", False, 200), ("parse_special", False, 200), ("prompt", [[5]] * 3, 200),
]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_each_field_has_its_limits(live: Live, path: str) -> None:
    is_chat = "chat" in path
    base: dict[str, Any] = {"max_tokens": 1}
    base |= {"messages": [{"role": "user", "content": "Hi"}]} if is_chat else {"prompt": "Hi"}
    wrong: list[Any] = []
    for name, value, status in [*COMMON, *(CHAT if is_chat else COMPLETION)]:
        response = live.post(path, {**base, name: value})
        if response.status != status:
            wrong.append((name, value, status, response.status, response.body[:200]))
        elif status == 400:
            error = response.error
            assert error["type"] == "invalid_request_error" and "\n" not in error["message"]
            assert "Traceback" not in error["message"] and error["code"]
            if error["param"] is None or not error["param"].startswith(name):
                wrong.append((name, value, error))
    assert not wrong, "\n".join(map(str, wrong))


def test_messages_of_errors(live: Live) -> None:
    said = {
        '{"messages": [], "temperature": 7}': "messages is [], but must be a list of length at least 1",
        '{"messages": [{"role": "user", "content": "x"}], "temperature": 7}': (
            "temperature is 7, but must be a number of at most 5.0"
        ),
        '{"messages": [{"role": "user", "content": "x"}], "top_k": -2}': (
            "top_k is -2, but must be a whole number of at least -1"
        ),
        '{"temperature": 1}': "messages is missing",
        '{"messages": [{"content": "x"}]}': "messages[0].role is missing",
        '{"messages": [{"role": "user", "content": "x"}], "stop": 3}': (
            "stop is 3, but must be a text or a list"
        ),
    }
    found = {body: live.post("/v1/chat/completions", body.encode()).error["message"] for body in said}
    assert found == said


BODIES: list[tuple[bytes, str]] = [
    (b"", "no JSON"),
    (b"{", "no JSON"),
    (b"[]", "must be a JSON object"),
    (b"5", "must be a JSON object"),
    (b'"x"', "must be a JSON object"),
    (b"null", "must be a JSON object"),
    (b'{"a": NaN}', "NaN"),
    (b'{"a": Infinity}', "Infinity"),
    (b'{"a": -Infinity}', "-Infinity"),
    (b'{"a": 1e999}', "too large"),
    (b'{"a": ' + b"9" * 5000 + b"}", "more digits"),
    (b'{"a": 1, "a": 2}', "given twice"),
    (b'{"a": {"b": 1, "b": 1}}', "given twice"),
    (b'{"a": "\\ud800"}', "lone surrogate"),
    (b'{"\\udfff": 1}', "lone surrogate"),
    (b'{"a": "\xff"}', "no UTF-8"),
    (b'\xef\xbb\xbf{"a": 1}', "no JSON"),
    (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "nested"),
    (b'{"a": ' + b"[" * 100_000, "nested"),
    (b'{"a":' * 100_000, "nested"),
    (b'{"a": 1} x', "no JSON"),
]


@pytest.mark.parametrize(("body", "words"), BODIES)
def test_bodies_are_read_strictly(body: bytes, words: str) -> None:
    with pytest.raises(ApiError, match=words) as error:
        fields.decoded(body)
    assert error.value.status == 400 and error.value.code == "invalid_json"


def test_what_is_json_is_read() -> None:
    deep = b'{"a": ' + b"[" * 62 + b"]" * 62 + b"}"
    assert json.loads(deep) == fields.decoded(deep)
    value = {"a": [1, -2.5, True, None, "\U0001f600é"], "": {}}
    assert fields.decoded(json.dumps(value).encode()) == value


def test_wrong_bodies_over_http(live: Live) -> None:
    for body, words in BODIES:
        for path in ("/v1/chat/completions", "/v1/completions", "/tokenize"):
            response = live.post(path, body)
            assert response.status == 400 and words in response.error["message"], (path, body[:50])


def test_sizes_and_kinds_of_bodies(live: Live) -> None:
    good = {"prompt": "Hi", "max_tokens": 1}
    data = json.dumps(good).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=UTF-8", ""):
        assert live.ask("POST", "/v1/completions", data, {"Content-Type": kind}).status == 200
    latin = live.ask("POST", "/v1/completions", data, {"Content-Type": "application/json; charset=latin1"})
    assert latin.status == 400 and "latin1" in latin.error["message"]
    most = live.settings.limits.body_bytes
    assert live.post("/v1/completions", data + b" " * (most - len(data))).status == 200
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    told = live.raw(head + b"Content-Length: %d\r\n\r\n" % (most + 1))
    assert told.startswith(b"HTTP/1.1 413 ") and b"connection: close" in told
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    told = live.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * (most // 0x10000 + 1))
    assert told.startswith(b"HTTP/1.1 413 ")


def test_the_model_may_be_named(live: Live) -> None:
    assert live.complete(model="gpt-5", max_tokens=1).json["model"] == "stories"


def test_a_strict_server_knows_its_model(start: Any) -> None:
    server = start(strict=True)
    for name, status in (("stories", 200), ("stories:latest", 200), ("gpt-5", 404), (None, 200), ("", 404)):
        assert server.complete(model=name, max_tokens=1).status == status
        assert server.chat(model=name, max_tokens=1).status == status
    error = server.complete(model="gpt-5").error
    assert error["code"] == "model_not_found" and "'stories'" in error["message"]


def test_without_a_template_there_is_no_chat(start: Any) -> None:
    response = start(template=None).chat()
    assert response.status == 400 and response.error["code"] == "template_error"


def test_a_template_that_refuses(start: Any) -> None:
    server = start(template="{{ raise_exception('roles must alternate') }}")
    response = server.chat()
    assert response.status == 400 and "roles must alternate" in response.error["message"]
    assert response.error["code"] == "template_error"

"""The other dialects say what OpenAI's says, in their own words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.patience import until
from tests.serve.conftest import Start
from tests.serve.live import Live, Response, Shared

HI = [{"role": "user", "content": "Hi"}]


def said(live: Live, messages: Any = HI, **fields: Any) -> str:
    """The answer in OpenAI's dialect."""
    body = {"messages": messages, "max_tokens": 12, "seed": 2, **fields}
    text: str = live.post("/v1/chat/completions", body).json["choices"][0]["message"]["content"]
    return text


def message(live: Live, messages: Any = HI, **fields: Any) -> Response:
    return live.post("/v1/messages", {"messages": messages, "max_tokens": 12, "seed": 2, **fields})


def named(response: Response) -> list[dict[str, Any]]:
    """The events of a stream, each under its name."""
    found = []
    for part in response.body.decode().split("\n\n")[:-1]:
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


# Anthropic ----------------------------------------------------------------------------------------------


def test_a_message(live: Live) -> None:
    found = message(live).json
    assert found["type"] == "message" and found["role"] == "assistant" and found["model"] == "stories"
    assert found["content"] == [{"type": "text", "text": said(live)}]
    assert found["stop_reason"] == "max_tokens" and found["stop_sequence"] is None
    usage = found["usage"]
    total = usage["input_tokens"] + usage["cache_read_input_tokens"]
    counted = live.post("/v1/messages/count_tokens", {"messages": HI}).json
    assert counted == {"input_tokens": total} and usage["output_tokens"] == 12


def test_a_message_as_a_stream(live: Live) -> None:
    for fields in ({}, {"stop_sequences": ["the"]}, {"max_tokens": 1}):
        whole, events = message(live, **fields).json, named(message(live, stream=True, **fields))
        kinds = [event["type"] for event in events]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert set(kinds[2:-3]) <= {"content_block_delta"}
        text = "".join(event["delta"]["text"] for event in events[2:-3])
        assert text == whole["content"][0]["text"]
        assert events[-2]["delta"] == {key: whole[key] for key in ("stop_reason", "stop_sequence")}
        assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_why_a_message_ends(live: Live, model: Any) -> None:
    text = said(live, max_tokens=40)
    word = text.split()[2]
    stopped = message(live, max_tokens=40, stop_sequences=[word]).json
    assert stopped["stop_reason"] == "stop_sequence" and stopped["stop_sequence"] == word
    assert stopped["content"][0]["text"] == text[: text.index(word)]
    eos = {"logit_bias": {str(model.tokenizer.eos_id): 100}}
    ended = message(live, **eos).json
    assert ended["stop_reason"] == "end_turn" and ended["content"] == [{"type": "text", "text": ""}]


def test_messages_of_blocks(live: Live) -> None:
    blocks = [
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "one"}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "two"},
                {"type": "text", "text": "so?", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ]
    plain = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "AB"},
        {"role": "assistant", "content": ""},
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
        {"role": "user", "content": "so?"},
    ]
    found = message(live, blocks, system=[{"type": "text", "text": "S"}]).json
    assert found["content"][0]["text"] == said(live, plain)


def test_a_message_goes_on_with_what_the_assistant_began(live: Live, model: Any) -> None:
    begun = [*HI, {"role": "assistant", "content": "Once upon "}]
    ids = live.post("/tokenize", {"messages": HI}).json["tokens"]
    ids += model.tokenizer.encode("Once upon", add_bos=False)
    wanted = live.complete(ids, max_tokens=12, seed=2).json["choices"][0]["text"]
    assert message(live, begun).json["content"][0]["text"] == wanted


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": None}, "max_tokens is missing"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"messages": []}, "messages is []"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role is 'tool'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "'image' is no text",
        ),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0] is no block"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content must be"),
        ({"system": [{"type": "image"}]}, "system[0] is not supported"),
        ({"tool_choice": {"type": "what"}}, "tool_choice.type must be"),
        ({"tools": [{}]}, "tools[0].name is missing"),
        ({"mcp_servers": [{}]}, "mcp_servers is not supported"),
        ({"n": 2}, "n is not supported"),
        ({"stop": "x"}, "stop_sequences is its name"),
        ({"temperature": 6}, "temperature is 6"),
    ],
)
def test_what_a_message_cannot_be(live: Live, fields: dict[str, Any], words: str) -> None:
    response = live.post("/v1/messages", {"messages": HI, "max_tokens": 3, **fields})
    found = response.json
    assert response.status == 400 and found["type"] == "error" and words in found["error"]["message"]
    assert found["error"]["type"] == "invalid_request_error"
    assert found["request_id"] == response.headers["x-request-id"]


def test_a_message_in_a_form(live: Live) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    form = {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}
    for asked in ({"output_config": {"format": form, "effort": "low"}}, {"output_format": form}):
        found = message(live, max_tokens=100, **asked).json
        assert json.loads(found["content"][0]["text"])["n"] in (1, 2) and found["stop_reason"] == "end_turn"
    for wrong in ({"type": "xml"}, {"type": "json_schema"}, {**form, "schema": {"not": {}}}):
        assert message(live, output_config={"format": wrong}).status == 400, wrong
    refused = message(live, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert refused.status == 400 and "no tool 'web_search' of its own" in refused.json["error"]["message"]


def test_what_is_not_there_is_told_in_the_dialect(live: Live) -> None:
    pull = live.post("/api/pull", {"model": "x"})
    assert pull.status == 404 and "there is nothing at" in pull.json["error"]
    batches = live.post("/v1/messages/batches", {})
    assert batches.status == 404 and batches.json["type"] == "error"
    assert live.post("/v1/responses", {}).error["code"] == "not_found"


def test_fields_of_ollama_that_nobody_looks_at_are_counted(live: Live) -> None:
    counts = live.app.metrics.labelled["edgeq_ignored_fields"]
    before = counts[("other",)]
    asked = {"messages": HI, "stream": False, "elsewhere": 1, "options": {"num_predict": 1, "num_gpu": 9}}
    assert live.post("/api/chat", asked).status == 200
    assert counts[("other",)] == before + 2


def test_errors_of_anthropic(start: Start) -> None:
    server = start(parallel=1, queue=0)
    assert server.get("/v1/messages").json["type"] == "error"
    with server.halted(), server.begin("/v1/completions", {"prompt": "Tom"}):
        worker = server.worker
        until(lambda: worker.taken == 1, "its place")
        busy = message(server)
        assert busy.status == 429 and busy.json["error"]["type"] == "rate_limit_error"


# ollama -------------------------------------------------------------------------------------------------


def lines(response: Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.body.splitlines()]


def test_ollama_chats(live: Live) -> None:
    body = {"model": "x", "messages": HI, "options": {"num_predict": 12, "seed": 2}}
    found = lines(live.post("/api/chat", body))
    assert "".join(each["message"]["content"] for each in found) == said(live)
    assert [each["done"] for each in found] == [False] * (len(found) - 1) + [True]
    last = found[-1]
    assert last["done_reason"] == "length" and last["eval_count"] == 12 and last["prompt_eval_count"] > 0
    whole = live.post("/api/chat", {**body, "stream": False}).json
    assert whole["message"] == {"role": "assistant", "content": said(live)} and whole["done"] is True


def test_ollama_generates(live: Live) -> None:
    options = {"options": {"num_predict": 12, "seed": 2, "stop": ["zzz"]}, "stream": False}
    assert live.post("/api/generate", {"prompt": "Hi", **options}).json["response"] == said(live)
    system = [{"role": "system", "content": "S"}, *HI]
    assert live.post("/api/generate", {"prompt": "Hi", "system": "S", **options}).json["response"] == said(
        live, system
    )
    raw = live.post("/api/generate", {"prompt": "Once", "raw": True, **options}).json["response"]
    assert raw == live.complete("Once", max_tokens=12, seed=2).json["choices"][0]["text"]


def test_ollama_tells_likelihoods(live: Live) -> None:
    body: dict[str, Any] = {"messages": HI, "options": {"num_predict": 12, "seed": 2}}
    body |= {"logprobs": True, "top_logprobs": 2}
    whole = live.post("/api/chat", {**body, "stream": False}).json["logprobs"]
    assert len(whole) == 12 and all(len(each["top_logprobs"]) == 2 for each in whole)
    told = [each for line in lines(live.post("/api/chat", body)) for each in line.get("logprobs", [])]
    assert told == whole
    del body["top_logprobs"], body["logprobs"]
    assert b"logprobs" not in live.post("/api/chat", body).body


def test_ollama_loads_and_unloads(live: Live) -> None:
    """Who asks nothing wants the model to be there, or gone; it stays, and no place is taken."""
    for path, body in (("chat", {"messages": []}), ("generate", {}), ("generate", {"prompt": ""})):
        for kept, reason in (({}, "load"), ({"keep_alive": 0}, "unload"), ({"keep_alive": -1}, "load")):
            found = live.post(f"/api/{path}", {"model": "x", **body, **kept}).json
            assert found["done"] is True and found["done_reason"] == reason
    live.wait_idle()


def test_ollama_asks_for_the_model(live: Live) -> None:
    assert live.ask("HEAD", "/").status == 200 and live.get("/").body == b"edgeq is running\n"
    assert live.get("/api/version").json["version"]
    (tag,) = live.get("/api/tags").json["models"]
    assert tag["name"] == "stories:latest" and tag["details"]["quantization_level"] == "q4"
    assert live.get("/api/ps").json["models"][0]["name"] == "stories:latest"
    shown = live.post("/api/show", {"model": "stories"}).json
    assert {"completion", "tools"} <= set(shown["capabilities"])
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["llama.context_length"] == 512


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("chat", {"messages": None}, "messages is missing"),
        ("chat", {"messages": [{"role": "user", "content": "x", "images": ["y"]}]}, "images"),
        ("chat", {"options": {"num_ctx": 4}}, "the context holds 4"),
        ("chat", {"options": {"temperature": "x"}}, "temperature is 'x'"),
        ("chat", {"format": 5}, "format is 5"),
        ("chat", {"format": "xml"}, "format is 'xml'"),
        ("chat", {"top_logprobs": 3}, "logprobs is not true"),
        ("generate", {"suffix": "x"}, "suffix is not supported"),
        ("generate", {"images": ["x"]}, "images is not supported"),
    ],
)
def test_what_ollama_cannot_ask(live: Live, path: str, fields: dict[str, Any], words: str) -> None:
    response = live.post(f"/api/{path}", {"messages": HI, "prompt": "Hi", **fields})
    assert response.status == 400 and set(response.json) == {"error"} and words in response.json["error"]


def test_nothing_is_pulled_or_pushed(live: Live) -> None:
    for path in ("pull", "push", "create", "copy", "delete"):
        assert live.post(f"/api/{path}", {}).status == 404


# llama-server -------------------------------------------------------------------------------------------


def test_llama_servers_completion(live: Live, model: Any) -> None:
    body = {"prompt": "Once upon", "n_predict": 8, "seed": 2, "n_probs": 2}
    found = live.post("/completion", body).json
    assert found["content"] == live.complete("Once upon", max_tokens=8, seed=2).json["choices"][0]["text"]
    assert found["stop"] is True and found["stop_type"] == "limit" and found["tokens_predicted"] == 8
    assert len(found["completion_probabilities"]) == 8
    events = live.post("/completion", {**body, "stream": True}).events
    assert "".join(event["content"] for event in events) == found["content"]
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    ids = model.tokenizer.encode("Once upon")
    assert live.post("/completion", {**body, "prompt": ids}).json["content"] == found["content"]
    refused: list[dict[str, Any]] = [{"prompt": []}, {"prompt": ["a"]}, {"image_data": [1]}]
    for wrong in [*refused, {"n_probs": 21}, {"grammar": "root ::= ("}]:
        assert live.post("/completion", {**body, **wrong}).status in (400, 501), wrong


# vectors ------------------------------------------------------------------------------------------------


class Made(Shared):
    """A model that was made for vectors."""

    pooling = "mean"

    def embed(self, texts: Any, **options: Any) -> Any:
        return self._model.embed(texts, pooling="mean", **options)


def test_embeddings(model: Any) -> None:
    server = Live(model, load=lambda: Made(model))
    try:
        wanted = model.embed(["Tom", "a cat"], pooling="mean")
        found = server.post("/v1/embeddings", {"input": ["Tom", "a cat"], "model": "x"}).json
        assert [row["embedding"] for row in found["data"]] == wanted.tolist()
        coded = server.post("/v1/embeddings", {"input": "Tom", "encoding_format": "base64"}).json["data"][0]
        assert base64.b64decode(coded["embedding"]) == wanted[0].tobytes()
        ids = model.tokenizer.encode("Tom")
        same = server.post("/v1/embeddings", {"input": ids, "dimensions": 8}).json["data"][0]["embedding"]
        assert same == model.embed([ids], pooling="mean", dimensions=8)[0].tolist()
        refused: list[Any] = ["", [], [""], [[]], [5, "a"], [100_000], [[1.5]], ["a"] * 257, {"a": 1}, None]
        for wrong in refused:
            assert server.post("/v1/embeddings", {"input": wrong}).status == 400, wrong
        for field in ({"encoding_format": "hex"}, {"dimensions": 0}, {"dimensions": 10_000}):
            assert server.post("/v1/embeddings", {"input": "a", **field}).status == 400, field
    finally:
        server.stop()


def test_a_model_without_vectors(live: Live) -> None:
    refused = live.post("/v1/embeddings", {"input": "a"})
    assert refused.status == 501 and refused.error["type"] == "not_supported_error"

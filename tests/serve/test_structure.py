"""Answers that are bound to a form or to tools, over HTTP, and thoughts that are told from answers."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from edgeq.chat.thoughts import begun
from edgeq.serve.answer import listed
from edgeq.serve.errors import ApiError
from edgeq.serve.served import Served
from edgeq.serve.structure import CONTENT, REASONING, Delta, Parser, Plain, Thinking, plan_for
from tests.serve.live import Live

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"enum": ["Tom", "Lily"]}, "age": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {
    "name": "weather", "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}},
                                      "required": ["city"], "additionalProperties": False}}}]  # fmt: skip
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 200, "seed": 1}


def told(parser: Parser, text: str, *cuts: int) -> dict[str, str]:
    """What is said and thought in a text, however it is cut."""
    deltas: list[Delta] = []
    for start, end in pairwise([0, *cuts, len(text)]):
        deltas += parser.push(text[start:end], [])
    deltas += parser.flush()
    found = {CONTENT: "", REASONING: ""}
    for delta in deltas:
        assert delta.text
        found[delta.kind] += delta.text
    return found


@pytest.mark.parametrize(
    ("prompt_end", "text", "thoughts", "answer"),
    [
        ("<|im_start|>assistant\n", "<think>\nhm\n</think>\n\nYes.\n", "\nhm\n", "Yes.\n"),
        ("assistant\n<think>\n", "hm</think>Yes", "hm", "Yes"),
        ("assistant\n<think>\n", "hm", "hm", ""),
        ("assistant\n", "Yes <think> no", "", "Yes <think> no"),
        ("assistant\n", "\n\nYes", "", "\n\nYes"),
        ("assistant\n<think>\n\n</think>\n\n", "Yes", "", "Yes"),
        (None, "<think>a</think>b", "", "<think>a</think>b"),
        ("", "[THINK]a[/THINK]b", "a", "b"),
    ],
)
def test_thoughts_are_told_from_the_answer(
    prompt_end: str | None, text: str, thoughts: str, answer: str
) -> None:
    def parser() -> Parser:
        return Plain() if prompt_end is None else Thinking(begun(prompt_end))

    wanted = {CONTENT: answer, REASONING: thoughts}
    for cut in range(len(text) + 1):
        assert told(parser(), text, cut) == wanted, cut
    assert told(parser(), text, *range(1, len(text))) == wanted


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"forms": {"grammar": "root ::= ("}}, "grammar"),
        ({"forms": {"json_schema": {"not": {}}}}, "json_schema"),
        ({"forms": {"guided_regex": "a", "grammar": "b"}}, "guided_regex"),
        ({"forms": {"structured_outputs": {"regex": "a", "json": {}}}}, "structured_outputs"),
        ({"forms": {"structured_outputs": "a"}}, "structured_outputs"),
        ({"tools": [{}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"response_format": {"type": "json_object"}, "stops": ["."]}, "response_format"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], param: str, live: Live) -> None:
    with pytest.raises(ApiError) as error:
        plan_for(served_of(live), **asked)
    assert error.value.status == 400
    assert str(error.value.param).startswith(param)


def served_of(live: Live) -> Served:
    return live.served


def test_what_binds_nothing_passes(live: Live) -> None:
    free: list[dict[str, Any]] = [{}, {"response_format": {"type": "text"}}, {"tools": []}]
    for asked in [*free, {"tools": TOOLS, "tool_choice": "none"}]:
        structure = plan_for(served_of(live), **asked).of([1])
        assert structure.mask() is None and structure.stops


def test_a_schema_over_http(live: Live) -> None:
    for name, form in (
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}),
        ("response_format", {"type": "json_schema", "schema": SCHEMA}),
        ("json_schema", SCHEMA),
        ("structured_outputs", {"json": SCHEMA}),
    ):
        for path in ("/v1/chat/completions", "/v1/completions"):
            found = live.post(path, {**ASKED, "prompt": "Who?", name: form}).json["choices"][0]
            said = found["message"]["content"] if "message" in found else found["text"]
            jsonschema.validate(json.loads(said), SCHEMA)
            assert found["finish_reason"] == "stop"
    ollama = {"messages": ASKED["messages"], "format": SCHEMA, "stream": False}
    jsonschema.validate(json.loads(live.post("/api/chat", ollama).json["message"]["content"]), SCHEMA)
    raw = {"prompt": "Who?", "format": SCHEMA, "stream": False, "raw": True}
    jsonschema.validate(json.loads(live.post("/api/generate", raw).json["response"]), SCHEMA)
    llamacpp = live.post("/completion", {"prompt": "Who?", "json_schema": SCHEMA, "n_predict": 200}).json
    jsonschema.validate(json.loads(llamacpp["content"]), SCHEMA)
    cut = live.chat(**{**ASKED, "max_tokens": 2}, response_format={"type": "json_object"}).json["choices"][0]
    assert cut["finish_reason"] == "length"


def test_several_texts_of_one_form(live: Live) -> None:
    """Each is held to it by itself, also where not all of them run at once."""
    asked = {**ASKED, "prompt": "Who?", "json_schema": SCHEMA, "temperature": 2}
    for path in ("/v1/chat/completions", "/v1/completions"):
        alone = [live.post(path, {**asked, "seed": 1 + i}).json["choices"][0] for i in range(6)]
        together = live.post(path, {**asked, "n": 6}).json["choices"]
        assert [{**one, "index": 0} for one in together] == alone
        said = [one["message"]["content"] if "message" in one else one["text"] for one in together]
        assert len(set(said)) > 1
        for text in said:
            jsonschema.validate(json.loads(text), SCHEMA)
    tools = {**ASKED, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "n": 3}
    for choice in live.post("/v1/chat/completions", tools).json["choices"]:
        assert choice["message"]["tool_calls"] and choice["finish_reason"] == "tool_calls"
    prompts = {**asked, "prompt": ["Who?", "What?"], "n": 2}
    for choice in live.post("/v1/completions", prompts).json["choices"]:
        jsonschema.validate(json.loads(choice["text"]), SCHEMA)


def test_a_tool_is_called(live: Live) -> None:
    asked = {**ASKED, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    choice = live.post("/v1/chat/completions", asked).json["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    assert call["function"]["name"] == "weather" and call["id"].startswith("call_")
    assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome")
    deltas = [
        delta
        for event in live.post("/v1/chat/completions", {**asked, "stream": True}).events[:-1]
        for choice in event["choices"]
        for delta in choice["delta"].get("tool_calls", [])
    ]
    assert all(delta["index"] == 0 and "function" in delta for delta in deltas)
    assert deltas[0]["function"]["name"] == "weather" and "name" not in deltas[-1]["function"]
    assert "".join(d["function"]["arguments"] for d in deltas) == call["function"]["arguments"]


def test_what_a_tool_is_relaxed_by_is_told(live: Live) -> None:
    parameters = {
        "type": "object",
        "properties": {
            "city": {"enum": ["Paris", "Rome"], "not": {"const": "Rome"}},
            "é\r\n": {"if": {}, "enum": [1]},
        },
        "required": ["city"],
    }
    function: dict[str, Any] = {"name": "weather", "parameters": parameters}
    asked = {"messages": ASKED["messages"], "tools": [{"type": "function", "function": function}]}
    openai = {**asked, "max_tokens": 200, "tool_choice": "required", "parallel_tool_calls": False, "seed": 1}
    names = ["city/not", "%C3%A9%0D%0A/if"]
    places = ", ".join(f"/tools/0/function/parameters/properties/{name}" for name in names)
    for path, body in (("/v1/chat/completions", openai), ("/api/chat", asked)):
        for stream in (False, True):
            response = live.post(path, {**body, "stream": stream})
            assert response.status == 200 and response.headers["x-edgeq-relaxed"] == places
    call = live.post("/v1/chat/completions", openai).json["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome")
    assert any(f"not held to {places}" in line for line in live.lines)

    tool: dict[str, Any] = {"name": "weather", "input_schema": parameters}
    anthropic = {**asked, "max_tokens": 200}
    response = live.post("/v1/messages", {**anthropic, "tools": [tool]})
    assert response.headers["x-edgeq-relaxed"] == places.replace("function/parameters", "input_schema")
    response = live.post("/v1/messages", {**anthropic, "tools": [{**tool, "strict": True}]})
    assert response.status == 400 and "not at /properties/city" in response.json["error"]["message"]
    function["strict"] = True
    error = live.post("/v1/chat/completions", openai).error
    assert error["param"] == "tools/0/function/parameters/properties/city"
    assert error["code"] == "invalid_schema"
    fine = live.post("/v1/chat/completions", {**openai, "tools": TOOLS})
    assert fine.status == 200 and "x-edgeq-relaxed" not in fine.headers


def test_many_places_are_told_in_short() -> None:
    told = listed([f"/tools/{n}/function/parameters/not" for n in range(1000)])
    assert len(told) < 1200 and told.startswith("/tools/0/") and told.endswith("more")
    assert listed(["/" + 2000 * "x"]) == "and 1 more"


def test_a_tool_is_called_in_other_dialects(live: Live) -> None:
    tool = {"name": "weather", "input_schema": TOOLS[0]["function"]["parameters"]}  # type: ignore[index]
    asked = {**ASKED, "tools": [tool], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
    found = live.post("/v1/messages", asked).json
    (block,) = found["content"]
    assert found["stop_reason"] == "tool_use" and block["type"] == "tool_use"
    assert block["name"] == "weather" and block["input"]["city"] in ("Paris", "Rome")
    body = live.post("/v1/messages", {**asked, "stream": True}).body.decode()
    events = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: ")]
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [start["type"] for start in starts] == ["tool_use"]
    pieces = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(piece["partial_json"] for piece in pieces)) == block["input"]

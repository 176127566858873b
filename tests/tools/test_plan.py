"""Thoughts, forms and tools in one answer; what cannot be honoured is refused, or told where it may be
dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgeq
from edgeq.chat.prompt import prompt_ids
from edgeq.converters import KEEP, convert
from edgeq.errors import GrammarError, SchemaError, UsageError
from edgeq.tools import plan_of
from tests.real import fetch
from tests.structured.conftest import gguf_tokenizer
from tests.structured.walks import walk
from tests.tools.answers import rebuilt, said
from tests.tools.calls import NOW, TOOLS, tagged, walked, weather
from tests.tools.conftest import TEMPLATES, TURNS, model_of

pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema says whether an answer is right")

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}

BEGUN = {  # how a prompt ends, and what an answer to it may begin with
    "assistant: ": ["", "<think>Hm, {.</think>\n\n", "<think></think>"],
    "assistant: <think>\n": ["Hm </thin.</think>", "\n</think>\n"],
    "assistant: <think>\n\n</think>\n\n": [""],
}


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("prompt", BEGUN)
@pytest.mark.parametrize("asked", ["schema", "object", "regex", "tools", "must", "both", "nothing"])
def test_thoughts_come_before_what_is_asked_for(tokens: bool, prompt: str, asked: str) -> None:
    model = model_of("hermes", tokens=tokens, thinks=True)
    call = tagged("hermes", weather("hermes", "Rome"))
    options, answers = {
        "schema": (dict(response_format=AS_SCHEMA), ['{"n": 3}']),
        "object": (dict(response_format={"type": "json_object"}), ['{"n": 3}', "{}"]),
        "regex": (dict(regex="[0-9]{2}"), ["42"]),
        "tools": (dict(tools=TOOLS), [call, "Warm.", "Look: " + call]),
        "must": (dict(tools=TOOLS, tool_choice="required"), [call]),
        "both": (dict(tools=TOOLS, response_format=AS_SCHEMA), [call, '{"n": 3}']),
        "nothing": (dict(), ["Warm. <think>"]),
    }[asked]
    plan = plan_of(model, **options)  # type: ignore[arg-type]
    for before in BEGUN[prompt]:
        for answer in answers:
            found = said(plan, model, before + answer, prompt=prompt)
            thoughts = before.partition("</think>")[0].removeprefix("<think>")
            assert found.reasoning == thoughts
            assert found.content == answer.partition("<tool_call>")[0].rstrip()
            assert found.names == ["weather"] * answer.count("<tool_call>")
    if "regex" in asked or "schema" in asked:
        for wrong in ("Rome", "<think>"):
            with pytest.raises((GrammarError, AssertionError)):
                said(plan, model, wrong + answers[0], prompt="assistant: <think>\n\n</think>\n\n")


def test_random_answers_with_thoughts_are_what_was_asked_for() -> None:
    for tokens in (True, False):
        model = model_of("hermes", tokens=tokens, thinks=True)
        plan = plan_of(model, tools=TOOLS, response_format=AS_SCHEMA)
        whole = 0
        for seed in range(30):
            prompt = model.tokenizer.encode(list(BEGUN)[seed % 3], special=True)
            mask, parser = plan.mask(prompt), plan.parser(prompt)
            assert mask is not None
            found = rebuilt([*parser.extend(walked(mask, model.tokenizer, seed, 300)), *parser.finish()])
            if mask.complete:
                whole += 1
                if not found.names:
                    jsonschema.validate(json.loads(found.content), SCHEMA)
                assert bool(found.content) != bool(found.names)
        assert whole > 4


def test_a_thought_that_is_cut_is_a_thought() -> None:
    model = model_of("hermes", thinks=True)
    plan = plan_of(model, response_format=AS_SCHEMA)
    ids = model.tokenizer.encode("<think>hm, é", special=True)
    parser, mask = plan.parser([1]), plan.mask([1])
    assert mask is not None
    for id in ids:
        mask.accept(id)
    found = rebuilt([*parser.extend(ids), *parser.finish()])
    assert (found.reasoning, found.content, mask.complete) == ("hm, é", "", False)


def tool(name: str = "f", strict: bool = False, **properties: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "strict": strict,
            "parameters": {"type": "object", "properties": properties},
        },
    }


def deep() -> Any:
    schema: Any = {}
    for _ in range(3000):
        schema = {"items": schema}
    return schema


UNIQUE = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_tool_that_is_not_strict_loses_that_keyword_alone_and_it_is_told(family: str) -> None:
    model = model_of(family)
    plan = plan_of(
        model, tools=[NOW, tool(a=UNIQUE, b={"not": {}, "type": "integer"})], tool_choice="required"
    )
    assert sorted(plan.relaxed) == [
        "/tools/1/function/parameters/properties/a/uniqueItems",
        "/tools/1/function/parameters/properties/b/not",
    ]
    with pytest.raises(SchemaError, match="uniqueItems at /properties/a cannot be honoured") as caught:
        plan_of(model, tools=[tool(strict=True, a=UNIQUE)])
    assert caught.value.keyword == "uniqueItems"
    assert caught.value.pointer == "/tools/0/function/parameters/properties/a"


@pytest.mark.parametrize("family", ["functions", "gemma4"])
def test_what_a_notation_cannot_hold_to_is_told_or_refused(family: str) -> None:
    model = model_of(family)
    pattern = {"type": "string", "pattern": "^a"}
    plan = plan_of(model, tools=[tool(a=pattern)])
    assert plan.relaxed == ("/tools/0/function/parameters/properties/a/pattern",)
    with pytest.raises(SchemaError, match="pattern"):
        plan_of(model, tools=[tool(strict=True, a=pattern)])
    with pytest.raises(UsageError, match="cannot be"):
        plan_of(model, tools=[tool("a>\n{b")])
    with pytest.raises(UsageError, match="cannot be written"):
        odd: Any = {"a>:b": {"type": "string"}}
        plan_of(model, tools=[tool(**odd)])


def test_recursive_arguments() -> None:
    node: dict[str, Any] = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}},
    }
    inner = {
        "name": "f",
        "parameters": {
            "$defs": {"node": node},
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/node"}},
        },
    }
    for family in TEMPLATES:
        model = model_of(family)
        plan = plan_of(model, tools=[inner], tool_choice="required")
        assert not plan.relaxed
        for seed in range(6):
            mask, parser = plan.mask([1]), plan.parser([1])
            assert mask is not None
            found = rebuilt([*parser.extend(walked(mask, model.tokenizer, seed, 200)), *parser.finish()])
            if mask.complete:
                for arguments in found.arguments:
                    jsonschema.validate(arguments, inner["parameters"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(tools={}), "must be a list"),
        (dict(tools=[NOW] * 129), "at most 128"),
        (dict(tools=[NOW, NOW]), "two tools are called 'now'"),
        (dict(tools=[{"name": ""}]), "1 to 256 characters"),
        (dict(tools=[{"name": "\ud800"}]), "1 to 256 characters"),
        (dict(tools=[{}]), "an object with a name"),
        (dict(tools=[{"name": "f", "parameters": 3}]), "must be a JSON schema"),
        (dict(tools=[{"name": "f", "description": 3}]), "must be a text"),
        (dict(tools=[tool(f"f{n}", a={"const": "x" * 60_000}) for n in range(9)]), "more than 524288 bytes"),
        (dict(tools=[tool(a={"const": "x" * 70_000})]), "at most 65536"),
        (dict(tools=[tool(a=3)]), "must be a schema"),
        (dict(tools=[tool(a=deep())]), "nested more than"),
        (dict(tools=TOOLS, tool_choice="sometimes"), "tool_choice is 'sometimes'"),
        (dict(tools=TOOLS, tool_choice={"name": "later"}), "names 'later', which is none"),
        (dict(tool_choice="required"), "there are no tools"),
        (dict(tools=TOOLS, parallel_tool_calls=1), "must be true or false"),
        (dict(response_format={"type": "xml"}), "its type must be"),
        (dict(response_format="json"), "its type must be"),
        (dict(response_format={"type": "json_schema"}), "has no schema"),
        (dict(response_format={"type": "json_object"}, regex="a"), "response_format and regex"),
        (dict(response_format={"type": "json_schema", "schema": {"not": {}}}), "not at / cannot"),
    ],
)
def test_what_is_wrong_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_of(model_of("hermes"), **options)


def test_an_answer_that_could_be_either_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing marks"):
        plan_of(model_of("llama3"), tools=TOOLS, response_format=AS_SCHEMA)
    plan_of(model_of("llama3"), tools=TOOLS, response_format=AS_SCHEMA, tool_choice="none")


def test_a_template_that_knows_no_tools_has_them_told() -> None:
    model = model_of("generic", template=TURNS)
    plan = plan_of(model, tools=TOOLS)
    assert plan.tools is None and plan.system is not None and '"weather"' in plan.system
    assert said(plan, model, tagged("generic", weather("generic", "Rome"))).names == ["weather"]
    assert said(plan, model, '{"names": 3}').content == '{"names": 3}'
    assert plan_of(model).system is None


def test_response_formats_of_text_hold_to_nothing() -> None:
    for options in (dict(), dict(response_format={"type": "text"}), dict(response_format=None)):
        assert plan_of(model_of("hermes"), **options).mask([1]) is None
    flat = plan_of(model_of("hermes"), response_format={"type": "json_schema", "schema": SCHEMA})
    assert flat.what == "the schema"


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not fetch.path().exists():
        pytest.skip(f"there is no {fetch.path()}; python -m tests.real.fetch fetches it")
    path = tmp_path_factory.mktemp("tools") / "smollm2.edgeq"
    convert(fetch.path(), path, scheme=KEEP)
    with edgeq.load(path) as model:
        yield model


def test_a_real_model_calls_a_tool(smollm2: Any) -> None:
    city = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    }
    tools = [{"name": "weather", "description": "How the weather is", "parameters": city}, NOW]
    plan = plan_of(smollm2, tools=tools, tool_choice="required", parallel_tool_calls=False)
    messages = [{"role": "user", "content": "How is the weather in Rome?"}]
    ids = prompt_ids(smollm2, messages, tools=plan.tools, system=plan.system)
    parser = plan.parser(ids)
    result = smollm2.generate(ids, mask=plan.mask(ids), temperature=0, max_tokens=120).read()
    found = rebuilt([*parser.extend(result.ids), *parser.finish()])
    assert result.finish_reason == "eos" and found.names == ["weather"]
    jsonschema.validate(found.arguments[0], city)


def test_walks_use_the_mask_they_are_given() -> None:
    """The walks above end where the mask says, not where they please."""
    model = model_of("generic")
    mask = plan_of(model, regex="a{3}").mask([1])
    assert mask is not None and walk(mask, model.tokenizer, 0) == "aaa"


def test_gemmas_own_vocabulary(data_dir: Path) -> None:
    """Its tags are tokens, its thoughts have a channel, and its prompt may have ended them."""
    path = data_dir / "vocab" / "ggml-vocab-gemma-4.gguf"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    tokenizer = gguf_tokenizer(path)
    template = "{{ tools }}{# <|tool_call> <tool_call|> <|channel>thought <channel|> #}" + TURNS
    model = SimpleNamespace(
        tokenizer=tokenizer,
        vocab_size=tokenizer.vocab_size,
        chat_template=template,
        file=SimpleNamespace(header={}),
    )
    plan = plan_of(model, tools=TOOLS)
    call = tagged("gemma4", weather("gemma4", "São <tool_call", days=3), ("now", "{}", ""))
    for prompt, thoughts in (("<|turn>model\n", "hm, é"), ("<|channel>thought\n<channel|>", "")):
        before = f"<|channel>thought\n{thoughts}<channel|>" if thoughts else ""
        found = said(plan, model, f"{before}Look: {call}", prompt=prompt)
        assert (found.reasoning, found.content, found.names) == (thoughts, "Look:", ["weather", "now"])

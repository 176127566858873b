"""Each family's calls: scripted ones are allowed and read to the letter, random ones are valid calls."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgeq.sampling.masks import words
from edgeq.tools import Delta, plan_of
from tests.tools.answers import rebuilt, said
from tests.tools.calls import CITY, TOOLS, tagged, walked, weather
from tests.tools.conftest import TEMPLATES, model_of

pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema says whether arguments are right")

EACH = [(family, tokens) for family in TEMPLATES for tokens in (True, False)]


@pytest.mark.parametrize(("family", "tokens"), EACH)
def test_scripted_calls_are_allowed_and_read(family: str, tokens: bool) -> None:
    model = model_of(family, tokens=tokens)
    plan = plan_of(model, tools=TOOLS)
    assert plan.family == family and plan.tools is not None and not plan.relaxed and plan.system is None
    for city in ("Rome", "", CITY, "{}, [x]: <tool", "</tool_call", "<|"):
        call = weather(family, city, days=3, unit="C", at=[1.5, -2])
        found = said(plan, model, tagged(family, call))
        assert found.names == ["weather"] and found.content == ""
        assert found.arguments == [{"city": city, "days": 3, "unit": "C", "at": [1.5, -2]}]
    found = said(plan, model, tagged(family, ("now", "{}", "")))
    assert (found.names, found.arguments) == (["now"], [{}])


@pytest.mark.parametrize(("family", "tokens"), EACH)
def test_odd_names(family: str, tokens: bool) -> None:
    model = model_of(family, tokens=tokens)
    name, key, value = 'grüße "alle"', "größe", "L"
    own = (
        f"<parameter={key}>\n{value}\n</parameter>\n" if family == "functions" else f'{key}:<|"|>{value}<|"|>'
    )
    call = name, json.dumps({key: value}, ensure_ascii=False), own
    found = said(plan_of(model, tools=TOOLS), model, tagged(family, call))
    assert (found.names, found.arguments) == ([name], [{key: value}])


@pytest.mark.parametrize(("family", "tokens"), EACH)
def test_eight_calls_in_parallel_behind_prose(family: str, tokens: bool) -> None:
    model = model_of(family, tokens=tokens)
    plan = plan_of(model, tools=TOOLS, tool_choice="auto")
    cities = [f"Rome {n}" for n in range(8)]
    text = tagged(family, *(weather(family, city) for city in cities))
    found = said(plan, model, text)
    assert [args["city"] for args in found.arguments] == cities and found.names == ["weather"] * 8
    prose = "I'll look it up, é < {\n"
    assert said(plan, model, prose).content == prose
    if family not in ("llama3", "generic"):  # whose calls are an answer's beginning
        found = said(plan, model, prose + text)
        assert found.content == prose.rstrip() and len(found.names) == 8


@pytest.mark.parametrize("family", TEMPLATES)
def test_who_must_call_calls(family: str) -> None:
    model = model_of(family)
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}, {"name": "weather"}):
        plan = plan_of(model, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
        assert said(plan, model, tagged(family, weather(family, "Rome"))).names == ["weather"]
        with pytest.raises(Exception, match="grammar"):
            said(plan, model, "Rome is warm.")
        with pytest.raises(Exception, match="grammar|answer"):
            said(plan, model, tagged(family, weather(family, "Rome"), weather(family, "Paris")))
        if choice != "required":
            with pytest.raises(Exception, match="grammar"):
                said(plan, model, tagged(family, ("now", "{}", "")))
    plan = plan_of(model, tools=TOOLS, tool_choice="none")
    assert plan.tools is None and plan.mask([1]) is None
    text = tagged(family, weather(family, "Rome"))
    assert said(plan, model, text).names == []


@pytest.mark.parametrize(("family", "tokens"), EACH)
@pytest.mark.parametrize("choice", ["required", "auto"])
def test_random_calls_are_valid(family: str, tokens: bool, choice: str) -> None:
    model = model_of(family, tokens=tokens, thinks=True)
    plan = plan_of(model, tools=TOOLS, tool_choice=choice)
    schemas: dict[Any, Any] = {
        tool.get("function", tool)["name"]: tool.get("function", tool).get("parameters", {}) for tool in TOOLS
    }
    finished = 0
    for seed in range(8):
        mask, parser = plan.mask([1]), plan.parser([1])
        assert mask is not None
        ids = walked(mask, model.tokenizer, seed)
        found = rebuilt([*parser.extend(ids), *parser.finish()])
        if mask.complete:
            finished += 1
            assert found.names or choice == "auto"
            for name, arguments in zip(found.names, found.arguments, strict=True):
                jsonschema.validate(arguments, schemas[name])
    assert finished


@pytest.mark.parametrize("family", TEMPLATES)
def test_deltas_come_as_soon_as_they_are_certain(family: str) -> None:
    """Whatever an answer is cut after, what was told until then is a beginning of all that is told."""
    model = model_of(family)
    plan = plan_of(model, tools=TOOLS)
    ids = model.tokenizer.encode(tagged(family, weather(family, "São Paulo é", days=7)), special=True)
    parser, deltas = plan.parser([1]), list[Delta]()
    seen = set()
    for id in ids:
        deltas += parser.push(id)
        seen.add(len(deltas))
    assert len(seen) > len("São Paulo é")  # the arguments came in many pieces
    for size in range(0, len(ids), 7):
        cut = plan.parser([1])
        part = rebuilt([*cut.extend(ids[:size]), *cut.finish()])
        whole = rebuilt([*deltas, *parser.finish()] if size == 0 else deltas)
        assert "".join(whole.texts).startswith("".join(part.texts))


def test_a_tag_that_is_spelled_is_text_where_it_is_a_token() -> None:
    model = model_of("hermes")
    plan, tokenizer = plan_of(model, tools=TOOLS), model.tokenizer
    begins, ends = tokenizer.id("<tool_call>"), tokenizer.id("</tool_call>")
    call = '\n{"name": "weather", "arguments": {"city": "</tool_call>"}}\n'
    ids = tokenizer.encode_parts(["Not <tool_call>: ", begins, call, ends])
    mask, parser = plan.mask([1]), plan.parser([1])
    assert mask is not None
    for id in ids:
        mask.accept(id)
    found = rebuilt([*parser.extend(ids), *parser.finish()])
    assert (found.content, found.arguments) == ("Not <tool_call>:", [{"city": "</tool_call>"}])


def test_no_mask_has_a_bit_for_the_end_within_a_call() -> None:
    model = model_of("hermes")
    plan = plan_of(model, tools=TOOLS)
    mask = plan.mask([1])
    assert mask is not None
    bits = np.zeros(words(model.vocab_size), np.uint32)
    for id in model.tokenizer.encode('hm <tool_call>\n{"name": "now", "arguments": {', special=True):
        mask.fill(bits)
        mask.accept(id)
    mask.fill(bits)
    assert not bits[256 // 32] >> (256 % 32) & 1

"""What a schema asks for is honoured to the letter, or refused by name and place; what is too much is
refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeq.errors import SchemaError, UsageError
from edgeq.structured import of_choice, of_grammar, of_regex, of_schema, vocabulary_of
from edgeq.structured.schema import normalized

pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")

REFUSED = [  # schema, pointer, keyword
    ({"not": {"type": "string"}}, "", "not"),
    ({"type": "array", "uniqueItems": True}, "", "uniqueItems"),
    ({"properties": {"a/b": {"if": {}, "then": {"type": "null"}}}}, "/properties/a~1b", "if"),
    ({"type": "array", "items": {"contains": {}}}, "/items", "contains"),
    ({"type": "object", "propertyNames": {"pattern": "^a"}}, "", "propertyNames"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, "", "dependentRequired"),
    ({"allOf": [{}, {"unevaluatedProperties": False}]}, "/allOf/1", "unevaluatedProperties"),
    ({"properties": {"a": {"type": "string", "format": "idn-email"}}}, "/properties/a", "format"),
    ({"anyOf": [{"type": "string", "pattern": "(?=a)b"}]}, "/anyOf/0", "pattern"),
    ({"type": "string", "pattern": "("}, "", "pattern"),
    ({"$ref": "https://example.com/a.json"}, "", "$ref"),
    ({"$ref": "other.json#/a"}, "", "$ref"),
    ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "/properties/a", "$ref"),
    ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "", "oneOf"),
    ({"type": "object", "minProperties": 2}, "", "minProperties"),  # {"a": 1, "a": 2} has one
    ({"oneOf": [{"const": 1}, {"const": 1.0}]}, "", "oneOf"),
    ({"oneOf": [{"type": "object"}, {"type": "object", "properties": {"a": {}}}]}, "", "oneOf"),
    ({"properties": {"a": {"type": "text"}}}, "/properties/a", "type"),
    ({"$defs": {"a": {"not": {}}}, "properties": {"b": {"$ref": "#/$defs/a"}}}, "/$defs/a", "not"),
    ({"properties": {"a": {"$id": "https://example.com", "type": "null"}}}, "/properties/a", "$id"),
]


@pytest.mark.parametrize(("schema", "pointer", "keyword"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_cannot_be_honoured_is_refused_by_name(schema: Any, pointer: str, keyword: str) -> None:
    with pytest.raises(SchemaError) as caught:
        of_schema(schema)
    assert (caught.value.pointer, caught.value.keyword) == (pointer, keyword)
    assert keyword in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("schema", "pointer", "keyword"), REFUSED, ids=lambda value: str(value)[:30])
def test_relaxed_it_loses_that_keyword_alone(schema: Any, pointer: str, keyword: str) -> None:
    form = of_schema(schema, relax=True)
    assert form.dropped[0] == f"{pointer}/{keyword}" and set(form.dropped[1:]) <= {f"{pointer}/then"}
    assert f'"{keyword}"' not in form.text


def test_several_are_dropped_and_the_rest_stays() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "uniqueItems": True, "items": {"type": "string", "pattern": "(?!x)"}},
            "b": {"type": "string", "format": "int-or-so", "maxLength": 3},
        },
        "required": ["a"],
        "not": {"required": ["c"]},
    }
    form = of_schema(schema, relax=True)
    assert sorted(form.dropped) == [
        "/not",
        "/properties/a/items/pattern",
        "/properties/a/uniqueItems",
        "/properties/b/format",
    ]
    for word in ('"array"', '"maxLength": 3', '"required": ["a"]'):
        assert word in form.text


SAYS_NOTHING = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/me",
    "title": "t",
    "description": "d",
    "default": {"uniqueItems": True},
    "examples": [{"not": {}}],
    "deprecated": True,
    "readOnly": True,
    "uniqueItems": False,
    "propertyNames": True,
    "dependentRequired": {},
    "x-guidance": {"lenient": True, "whitespace_flexible": True},
    "x-vendor": {"not": {}},
    "nullable": False,
}


def test_what_says_nothing_is_left_out() -> None:
    schema: dict[str, Any] = {
        **SAYS_NOTHING,
        "properties": {"title": {"type": "string", **SAYS_NOTHING, "$id": None}},
    }
    del schema["properties"]["title"]["$id"]
    assert normalized(schema).root == {"properties": {"title": {"type": "string"}}}
    assert normalized(True).root == {}


def test_older_drafts_are_read() -> None:
    older = {"items": [{"type": "null"}], "additionalItems": False}
    assert normalized(older).root == {"prefixItems": [{"type": "null"}], "items": False}
    limits = {
        "type": "number",
        "minimum": 1,
        "exclusiveMinimum": True,
        "maximum": 2,
        "exclusiveMaximum": False,
    }
    assert normalized(limits).root == {"type": "number", "exclusiveMinimum": 1, "maximum": 2}
    assert normalized({"type": "integer", "format": "int64"}).root == {"type": "integer"}


def test_references_reach_any_place() -> None:
    schema = {
        "components": {"schemas": {"a b": {"type": "object", "properties": {"next": {"$ref": "#"}}}}},
        "properties": {"x": {"$ref": "#/components/schemas/a%20b"}, "y": {"$ref": "#/properties/x"}},
    }
    found = normalized(schema).root
    assert found["$defs"]["0"]["properties"]["next"] == {"$ref": "#/$defs/2"}
    of_schema(schema)


@pytest.mark.parametrize(
    "branches",
    [
        [{"const": 1}, {"enum": ["1", None]}, {"const": True}],
        [{"type": "string"}, {"type": ["integer", "null"]}],
        [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
    ],
)
def test_one_of_several_that_are_apart_is_any_of_them(branches: list[Any]) -> None:
    kind = lambda name: {"properties": {"kind": {"const": name}}, "required": ["kind"], "type": "object"}  # noqa: E731
    found = normalized({"$defs": {"a": kind("a"), "b": kind("b")}, "oneOf": branches}).root
    assert "oneOf" not in found and len(found["anyOf"]) == len(branches)


def nested(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def bomb(levels: int) -> Any:
    defs: dict[str, Any] = {"0": {"type": "string"}}
    for n in range(1, levels):
        ref = {"$ref": f"#/$defs/{n - 1}"}
        defs[str(n)] = {
            "anyOf": [ref, {"type": "array", "items": ref}, {"type": "object", "properties": {"a": ref}}]
        }
    return {"$defs": defs, "$ref": f"#/$defs/{levels - 1}"}


HOSTILE: dict[str, Any] = {
    "nested as text": "[" * 10**5,
    "nested as objects": '{"items":' * 10**5,
    "nested in words": '{"items":' * 40 + "{}" + "}" * 40,
    "nested": nested(40),
    "much": {"enum": ["x" * 70_000]},
    "properties": {"properties": {f"p{n}": {} for n in range(501)}},
    "values": {"enum": list(range(5001))},
    "values in parts": {"anyOf": [{"enum": list(range(n, n + 999))} for n in range(0, 6000, 1000)]},
    "no JSON": "{'a': 1}",
    "twice": '{"type": "string", "type": "null"}',
    "no number": '{"const": NaN}',
    "a number that is none": {"const": float("inf")},
    "a list": [],
    "a number": 3,
    "bytes": {"const": b"x"},
    "nothing fits": False,
    "circle": {"$ref": "#"},
    "circles": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "empty enum": {"enum": []},
    "impossible": {"type": "integer", "minimum": 5, "maximum": 3},
    "no schema": {"properties": {"a": 3}},
    "no names": {"properties": []},
    "no list": {"anyOf": {}},
    "surrogate": {"const": "\ud800"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused(name: str, demo_tokenizer: Any) -> None:
    with pytest.raises(UsageError) as caught:
        vocabulary_of(demo_tokenizer, demo_tokenizer.vocab_size, {2}).matcher(of_schema(HOSTILE[name]).text)
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


LARGE: dict[str, Any] = {
    "properties": {"properties": {f"p{n}": {"type": "string"} for n in range(500)}, "type": "object"},
    "values": {"enum": [f"v{n}" for n in range(5000)]},
    "bomb": bomb(30),
    "long": {"type": "string", "minLength": 10**6},
    "many": {"type": "array", "items": {"type": "integer"}, "minItems": 10**6},
    "pattern": {"type": "string", "pattern": "^((a|b|c)*d{1,100}){1,100}$"},
    "far": {"type": "string", "pattern": "a.{200}$"},
    "multiple": {"type": "integer", "multipleOf": 99991},
}


@pytest.mark.parametrize("name", LARGE)
def test_large_ones_are_compiled_or_refused(name: str, demo_tokenizer: Any) -> None:
    vocabulary = vocabulary_of(demo_tokenizer, demo_tokenizer.vocab_size, {2})
    try:
        assert not vocabulary.matcher(of_schema(LARGE[name]).text).is_error()
    except UsageError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    "pattern",
    [
        "x" * 65_537,
        "(" * 5000 + ")" * 5000,
        "(a{1,999}){1,999}b",
        "(",
        "",
        "^$",
        "(?=a)",
        "a\\bb",
        7,
        "\ud800",
        "[z-a]",
    ],
    ids=lambda pattern: str(pattern)[:12].encode("ascii", "replace").decode(),
)
def test_hostile_regexes(pattern: Any, demo_tokenizer: Any) -> None:
    vocabulary = vocabulary_of(demo_tokenizer, demo_tokenizer.vocab_size, {2})
    if pattern == "(a{1,999}){1,999}b":  # compiled lazily, it costs nothing yet
        vocabulary.matcher(of_regex(pattern).text)
        return
    with pytest.raises(UsageError) as caught:
        vocabulary.matcher(of_regex(pattern).text, "the regular expression")
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


@pytest.mark.parametrize("texts", [[], "abc", [""], [1], ["a"] * 5001, ["x" * 70_000], ["\ud800"], None])
def test_hostile_choices(texts: Any) -> None:
    with pytest.raises(UsageError):
        of_choice(texts)


GRAMMARS = {
    "root ::= a": "no rule 'a', which line 1 names",
    "a ::= 'x'": "line 1",
    'a ::= "x"': "no rule 'root'",
    'root ::= "x"\nroot ::= "y"': "two rules 'root'",
    'root ::= "x': "its end",
    "root ::= [a": "its end",
    "root ::= [z-a]": "from 'z' on",
    'root ::= "\\q"': "behind a backslash",
    'root ::= "\\uD800"': "the number of a character",
    'root ::= "\\x4"': "2 hexadecimal digits",
    'root ::= ("a"': "')'",
    'root ::= "a"{3,1}': "at least 3",
    "root ::= x = y": "line 1",
    "root ::= " + "(" * 100: "nested more than 64",
    "start: x": "refused",
    "x" * 70_000: "65536",
    "": "refused",
    'root ::= root "x"': "refused",
}


@pytest.mark.parametrize("text", GRAMMARS, ids=lambda text: text[:24])
def test_hostile_grammars(text: str, demo_tokenizer: Any) -> None:
    vocabulary = vocabulary_of(demo_tokenizer, demo_tokenizer.vocab_size, {2})
    with pytest.raises(UsageError) as caught:
        vocabulary.matcher(of_grammar(text).text)
    assert GRAMMARS[text] in str(caught.value)


JSON_GBNF = r"""
root   ::= map
any    ::= map | list | text | num | "true" | "false" | "null"
map    ::= "{" gap (pair (gap "," gap pair)*)? gap "}"
pair   ::= text gap ":" gap any
list   ::= "[" gap (any (gap "," gap any)*)? gap "]"
text   ::= "\"" ([^\x00-\x1f"\\] | "\\" ["/\\bfnrt] | "\\u" [0-9a-fA-F]{4})* "\""
num    ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
gap    ::= [ \t\n]{0,3}
"""

DERIVED = [  # grammar, texts that it derives, and some that it does not
    ('root ::= [a-z]+ "x"', ["ax", "xxx"], ["x", "a"]),
    (
        'root ::= "\\u00e9B\\x41\\U0001F642\\n\\"" [^a-c\\]]',
        ['éBA🙂\n"d', 'éBA🙂\n"é'],
        ['éBA🙂\n"a', 'éBA🙂\n"]'],
    ),
    ('root ::= a-b | A_c\na-b ::= "1"?\nA_c ::= .{2} # two', ["", "1", "\n\n", "éx"], ["111", "2"]),
    ('root ::= ( "a" |\n "b" )\n', ["a", "b"], ["ab"]),
    ('root ::= [-a] [a-] [/"]', ["-a/", 'a-"'], ["b-/"]),
    (JSON_GBNF, ["{}", '{"a":[1,-2.5e3,"x\\u00e9\\n"],"b":{}}'], ['{"a"}', "[]", '{"a":01}']),
]


@pytest.mark.parametrize(("grammar", "yes", "no"), DERIVED, ids=lambda value: str(value)[:20])
def test_llamacpps_grammars_derive_what_they_do_there(
    grammar: str, yes: list[str], no: list[str], demo_tokenizer: Any
) -> None:
    vocabulary = vocabulary_of(demo_tokenizer, demo_tokenizer.vocab_size, {2})
    for text in [*yes, *no]:
        matcher = vocabulary.matcher(of_grammar(grammar).text)
        ids = [demo_tokenizer.id(f"<0x{byte:02X}>") for byte in text.encode()]
        derived = matcher.consume_tokens(ids) if ids else True
        assert (derived and matcher.is_accepting()) == (text in yes), (text, matcher.get_error())


def test_a_schema_may_be_text() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert of_schema(json.dumps(schema)) == of_schema(schema)

"""Gemma 4 and FunctionGemma: names as they are, texts between two marks, numbers and words as in JSON.

<|tool_call>call:weather{city:<|"|>Rome<|"|>,days:3}<tool_call|>
<start_function_call>call:weather{city:<escape>Rome<escape>,days:3}<end_function_call>
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from edgeq.errors import UsageError, shown
from edgeq.structured import of_schema
from edgeq.structured.forms import quoted
from edgeq.tools.members import SAID, Member, members, top_level
from edgeq.tools.offered import Choice, Tool
from edgeq.tools.source import Joined, Source, Steps, spelled
from edgeq.tools.syntax import Rules, Syntax, plain_name
from edgeq.tools.tags import Tags

KEY_ENDS = (":", "{", "}", "[", "]", ",", " ")
SCALARS = frozenset(["integer", "number", "boolean", "null"])
ITEMS_MAX = 1000


class Gemma(Syntax):
    begins_with: ClassVar[str]
    ends_with: ClassVar[str]
    quotes_with: ClassVar[str]

    def __init__(self, tags: Tags) -> None:
        super().__init__(tags)
        self.trigger = tags(self.begins_with)
        self.ends, self.quote = tags(self.ends_with), tags(self.quotes_with)

    @classmethod
    def writes(cls, template: str) -> bool:
        return cls.begins_with in template

    # the grammar ----------------------------------------------------------------------------------------

    def calls(self, rules: Rules, choice: Choice) -> str:
        values = _Values(self, rules)
        bodies = []
        for n, tool in enumerate(choice.tools):
            head = quoted(f"call:{plain_name(tool, '{')}{{")
            bodies.append(f'{head} {values.arguments(tool, f"tool{n}")} "}}"')
        one = (
            f"{rules.rule('call', chr(10).join(bodies).replace(chr(10), chr(10) + '  | '))} {self.ends.lark}"
        )
        return f"{one} ({self.trigger.lark} {one})*" if choice.parallel and self.trigger else one

    # the parser -----------------------------------------------------------------------------------------

    def read_calls(self, source: Source) -> Steps:
        while True:
            name = Joined()
            yield from source.literal("call:")
            yield from source.until("{", give=name)
            source.call(name.text)
            yield from self._object(source)
            yield from source.literal(self.ends.mark)
            yield from source.peek()
            if not source.buffer or self.trigger is None:
                return
            yield from source.literal(self.trigger.mark)

    def _object(self, source: Source) -> Steps:
        yield from source.literal("{")
        before = "{"
        while True:
            yield from source.peek()
            if source.buffer.startswith("}"):
                break
            if before == ", ":
                yield from source.literal(",")
            key = Joined()
            yield from source.until(":", give=key)
            yield from source.literal(":")
            source.arguments(f"{before}{json.dumps(key.text, ensure_ascii=False)}: ")
            yield from self._value(source)
            before = ", "
        source.take(1)
        source.arguments("{}" if before == "{" else "}")

    def _value(self, source: Source) -> Steps:
        yield from source.peek(len(self.quote.mark))
        if source.buffer.startswith(self.quote.mark):
            source.take(len(self.quote.mark))
            source.arguments('"')
            yield from source.until(self.quote.mark, give=lambda piece: source.arguments(spelled(piece)))
            source.take(len(self.quote.mark))
            source.arguments('"')
        elif source.buffer.startswith("{"):
            yield from self._object(source)
        elif source.buffer.startswith("["):
            yield from self._list(source)
        else:
            yield from source.until(",", "}", "]", give=source.arguments)

    def _list(self, source: Source) -> Steps:
        yield from source.literal("[")
        source.arguments("[")
        while True:
            yield from source.peek()
            if source.buffer.startswith("]"):
                break
            if source.buffer.startswith(","):
                source.take(1)
                source.arguments(", ")
            yield from self._value(source)
        source.take(1)
        source.arguments("]")


class Gemma4(Gemma):
    name = "gemma4"
    begins_with, ends_with, quotes_with = "<|tool_call>", "<tool_call|>", '<|"|>'


class FunctionGemma(Gemma):
    name = "functiongemma"
    begins_with, ends_with, quotes_with = "<start_function_call>", "<end_function_call>", "<escape>"


class _Values:
    """Rules for the values of schemas, in Gemma's notation."""

    def __init__(self, family: Gemma, rules: Rules) -> None:
        self._rules, self._quote = rules, family.quote
        self._count = 0
        self._refs: dict[str, str] = {}  # of one tool
        self._text = self._any = ""

    def arguments(self, tool: Tool, name: str) -> str:
        """What stands between the braces of a call."""
        self._refs = {}
        found = [
            Member(f"{self._key(tool, key)} {self.value(tool, schema, f'/properties/{key}')}", required)
            for key, schema, required in sorted(
                top_level(self._rules, tool), key=lambda each: each[0].lower()
            )
        ]
        return members(self._rules, name, found, between=",")

    def value(self, tool: Tool, schema: Mapping[str, Any], pointer: str) -> str:
        """What stands in a rule for a value."""
        defs = schema.get("$defs", {})
        if "$ref" in schema:
            return self._reference(tool, schema, pointer)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values:
            return self._rule(" | ".join(self._constant(tool, value) for value in values))
        if "anyOf" in schema:
            self._left(tool, schema, pointer, {"anyOf"})
            parts = [
                self.value(tool, {**each, "$defs": defs}, f"{pointer}/anyOf") for each in schema["anyOf"]
            ]
            return self._rule(" | ".join(parts))
        types = schema.get("type")
        if isinstance(types, list):
            parts = [self.value(tool, {**schema, "type": each}, pointer) for each in types]
            return self._rule(" | ".join(parts))
        if types in SCALARS:
            form = of_schema({**schema, "$defs": {}}, relax=not tool.strict)
            self._rules.relaxed += [f"{tool.place}{pointer}{each}" for each in form.dropped]
            return self._rules.part(form.grammar)
        kinds: dict[Any, Callable[..., str]] = {
            "array": self._list,
            "object": self._object,
            "string": self._string,
        }
        if types in kinds:
            return kinds[types](tool, schema, pointer)
        self._left(tool, schema, pointer, set())
        return self._anything()

    def _reference(self, tool: Tool, schema: Mapping[str, Any], pointer: str) -> str:
        self._left(tool, schema, pointer, {"$ref"})
        ref, defs = schema["$ref"], schema.get("$defs", {})
        if ref not in self._refs:
            self._refs[ref] = name = self._name()
            body = self.value(tool, {**defs[ref.removeprefix("#/$defs/")], "$defs": defs}, ref[1:])
            self._rules.rule(name, body)
        return self._refs[ref]

    def _string(self, tool: Tool, schema: Mapping[str, Any], pointer: str) -> str:
        self._left(tool, schema, pointer, {"type"})
        return self._anytext()

    def _list(self, tool: Tool, schema: Mapping[str, Any], pointer: str) -> str:
        self._left(tool, schema, pointer, {"type", "items", "minItems", "maxItems"})
        items = schema.get("items", {})
        if items is False:
            return '"[]"'
        one = self.value(tool, {**items, "$defs": schema.get("$defs", {})}, f"{pointer}/items")
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if least > ITEMS_MAX or (most is not None and most > ITEMS_MAX):
            raise UsageError(f"a list of {shown(tool.name)} may have to have more than {ITEMS_MAX} items")
        if most == 0:
            return '"[]"'
        again = f"{{{max(0, least - 1)},{'' if most is None else most - 1}}}"
        some = f'{one} ("," {one}){again}'
        return self._rule(f'"[" {some} "]"' if least else f'"[" ({some})? "]"')

    def _object(self, tool: Tool, schema: Mapping[str, Any], pointer: str) -> str:
        self._left(tool, schema, pointer, set(SAID))
        defs, required = schema.get("$defs", {}), schema.get("required", [])
        properties = dict(schema.get("properties", {}))
        for name in required:
            properties.setdefault(name, {})
        others = schema.get("additionalProperties", not properties)
        if others is not False and not properties:
            inner = {} if others is True else {**others, "$defs": defs}
            return self._map(self.value(tool, inner, f"{pointer}/additionalProperties"))
        found = [
            Member(
                self._key(tool, key)
                + " "
                + self.value(tool, {**properties[key], "$defs": defs}, f"{pointer}/properties/{key}"),
                key in required,
            )
            for key in sorted(properties, key=str.lower)
        ]
        return self._rule(f'"{{" {members(self._rules, self._name(), found, between=",")} "}}"')

    def _map(self, value: str) -> str:
        member = self._rule(f'/[^:{{}}\\[\\], <\\n"]+/ ":" {value}')
        return self._rule(f'"{{" ({member} ("," {member})*)? "}}"')

    def _anytext(self) -> str:
        if not self._text:
            if self._quote.id is not None:
                self._text = self._rule(f"{self._quote.lark} /(?s:.+)/? {self._quote.lark}")
            else:
                self._rules.rule("any_text[lazy]", f"/(?s:.*)/ {self._quote.lark}")
                self._text = self._rule(f"{self._quote.lark} any_text")
        return self._text

    def _anything(self) -> str:
        if not self._any:
            self._any = self._name()
            numbers = self._rules.part(of_schema({"type": ["number", "boolean", "null"]}).grammar)
            items = f'"[" ({self._any} ("," {self._any})*)? "]"'
            self._rules.rule(self._any, f"{numbers} | {self._anytext()} | {items} | {self._map(self._any)}")
        return self._any

    def _constant(self, tool: Tool, value: Any) -> str:
        """A rule's body for one value."""
        if isinstance(value, str):
            if self._quote.text in value:
                raise UsageError(f"a value of {shown(tool.name)} holds {self._quote.text}, which ends texts")
            inner = f" {quoted(value)}" if value else ""
            return f"{self._quote.lark}{inner} {self._quote.lark}"
        if isinstance(value, list):
            items = ' "," '.join(self._constant(tool, each) for each in value)
            return f'"[" {items} "]"'
        if isinstance(value, dict):
            items = ' "," '.join(
                f"{self._key(tool, key)} {self._constant(tool, value[key])}"
                for key in sorted(value, key=str.lower)
            )
            return f'"{{" {items} "}}"'
        return quoted(json.dumps(value))

    def _key(self, tool: Tool, key: str) -> str:
        if not key or any(end in key for end in (*KEY_ENDS, "\n", self._quote.text)):
            raise UsageError(
                f"the argument {shown(key)} of {shown(tool.name)} cannot be written: this model needs names "
                f"without any of {''.join(KEY_ENDS)}"
            )
        return quoted(f"{key}:")

    def _left(self, tool: Tool, schema: Mapping[str, Any], pointer: str, said: set[str]) -> None:
        """Drop, or refuse, the keywords that are not honoured."""
        for keyword in sorted(schema.keys() - said - {"$defs"}):
            self._rules.drop(
                tool, pointer, keyword, "cannot be honoured by the way in which this model calls"
            )

    def _rule(self, body: str) -> str:
        return self._rules.rule(self._name(), body)

    def _name(self) -> str:
        self._count += 1
        return f"value{self._count}"

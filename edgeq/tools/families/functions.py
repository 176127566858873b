"""Qwen3-Coder, Qwen 3.5, MiroThinker and others: a function with a parameter each on lines of its own.

    <tool_call>
    <function=weather>
    <parameter=city>
    Rome
    </parameter>
    </function>
    </tool_call>

A parameter that is a text stands as it is, any other as JSON.
"""

from __future__ import annotations

import json
from typing import Any

from edgeq.errors import UsageError, shown
from edgeq.structured import of_schema
from edgeq.structured.forms import quoted
from edgeq.tools.members import Member, members, top_level
from edgeq.tools.offered import Choice, Tool
from edgeq.tools.source import Joined, Source, Steps, spelled
from edgeq.tools.syntax import Rules, Syntax, plain_name
from edgeq.tools.tags import Tags

HEAD, TAIL = "<function=", "</function>"
VALUE_ENDS = "\n</parameter>\n"


class Functions(Syntax):
    name = "functions"

    def __init__(self, tags: Tags) -> None:
        super().__init__(tags)
        self.trigger = self.begins = tags("<tool_call>")
        self.ends = tags("</tool_call>")
        self._texts: dict[str, frozenset[str]] = {}  # tool -> parameters that stand as they are

    @classmethod
    def writes(cls, template: str) -> bool:
        return "<function=" in template and "<parameter=" in template

    # the grammar ----------------------------------------------------------------------------------------

    def calls(self, rules: Rules, choice: Choice) -> str:
        bodies = [self._function(rules, tool, n) for n, tool in enumerate(choice.tools)]
        call = rules.rule("call", "\n  | ".join(bodies))
        one = f"{quoted(chr(10) + HEAD)} {call} {quoted(TAIL + chr(10))} {self.ends.lark}"
        return f'{one} ("\\n" {self.begins.lark} {one})*' if choice.parallel else one

    def _function(self, rules: Rules, tool: Tool, n: int) -> str:
        head = quoted(plain_name(tool, ">") + ">\n")
        texts, found = set(), []
        for at, (key, schema, required) in enumerate(top_level(rules, tool)):
            if any(end in key for end in (">", "\n")):
                raise UsageError(
                    f"the parameter {shown(key)} of {shown(tool.name)} cannot be written: it holds >"
                )
            body, is_text = self._parameter(rules, tool, key, schema, f"tool{n}_{at}")
            if is_text:
                texts.add(key)
            found.append(Member(f"{quoted(f'<parameter={key}>' + chr(10))} {body}", required))
        self._texts[tool.name] = frozenset(texts)
        rest = members(rules, f"tool{n}", found, between="")
        return f"{head} {rest}" if rest else head

    def _parameter(
        self, rules: Rules, tool: Tool, key: str, schema: dict[str, Any], name: str
    ) -> tuple[str, bool]:
        """(the body of a rule for a value and its end, whether it stands as it is)"""
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if (
            values is not None
            and values
            and all(isinstance(v, str) and VALUE_ENDS[:-1] not in v for v in values)
        ):
            return f"({' | '.join(quoted(v + VALUE_ENDS) for v in values)})", True
        if schema.get("type") == "string":
            for keyword in sorted(schema.keys() - {"type", "$defs"}):
                why = "cannot be honoured where a text stands as it is"
                rules.drop(tool, f"/properties/{key}", keyword, why)
            return rules.rule(f"{name}[lazy]", f"/(?s:.*)/ {quoted(VALUE_ENDS)}").partition("[")[0], True
        form = of_schema(schema, relax=not tool.strict)
        rules.relaxed += [f"{tool.place}/properties/{key}{pointer}" for pointer in form.dropped]
        return f"{rules.part(form.grammar)} {quoted(VALUE_ENDS)}", False

    # the parser -----------------------------------------------------------------------------------------

    def read_calls(self, source: Source) -> Steps:
        while True:
            yield from source.literal("\n" + HEAD)
            name = Joined()
            yield from source.until(">\n", give=name)
            yield from source.literal(">\n")
            source.call(name.text)
            yield from self._read_parameters(source, self._texts.get(name.text, frozenset()))
            yield from source.literal("\n" + self.ends.mark)
            yield from source.peek()
            if not source.buffer:
                return
            yield from source.literal("\n" + self.begins.mark)

    def _read_parameters(self, source: Source, texts: frozenset[str]) -> Steps:
        """Read parameters and what ends them; they are told as an object of JSON."""
        before = "{"
        while True:
            yield from source.peek(2)
            if source.buffer.startswith("</"):
                break
            key = Joined()
            yield from source.literal("<parameter=")
            yield from source.until(">\n", give=key)
            yield from source.literal(">\n")
            source.arguments(f"{before}{json.dumps(key.text, ensure_ascii=False)}: ")
            if key.text in texts:
                source.arguments('"')
                yield from source.until(VALUE_ENDS, give=lambda piece: source.arguments(spelled(piece)))
                source.arguments('"')
            else:
                yield from source.json_value(source.arguments)
            yield from source.literal(VALUE_ENDS)
            before = ", "
        source.arguments("{}" if before == "{" else "}")
        yield from source.literal(TAIL)

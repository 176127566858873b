"""Calls that are JSON objects: {"name": …, "arguments": …}, whatever stands around them."""

from __future__ import annotations

import json
from typing import ClassVar

from edgeq.structured.forms import quoted
from edgeq.tools.offered import Choice
from edgeq.tools.source import Joined, Source, Steps
from edgeq.tools.syntax import Rules, Syntax, arguments_of

HEAD = '{"name": '


class Objects(Syntax):
    """Calls whose arguments are called `key`; `between` stands between two objects."""

    key: ClassVar[str] = "arguments"
    between: ClassVar[str] = ""

    def named(self, rules: Rules, choice: Choice) -> str:
        """A rule for a call behind HEAD."""
        bodies = []
        for tool in choice.tools:
            name = json.dumps(tool.name, ensure_ascii=False)
            bodies.append(f'{quoted(f"{name}, {json.dumps(self.key)}: ")} {arguments_of(rules, tool)} "}}"')
        return rules.rule("call", "\n  | ".join(bodies))

    def read_call(self, source: Source) -> Steps:
        """Read a call behind HEAD."""
        name = Joined()
        yield from source.json_value(name)
        yield from source.literal(f", {json.dumps(self.key)}: ")
        source.call(json.loads(name.text))
        yield from source.json_value(source.arguments)
        yield from source.literal("}")

    def several(self, one: str, between: str, choice: Choice) -> str:
        """A rule's body for one call, or for several where they may be."""
        return f"{one} ({between} {one})*" if choice.parallel else one


class Bare(Objects):
    """Objects and nothing else: the answer is calls if it begins with HEAD."""

    opening = HEAD

    def calls(self, rules: Rules, choice: Choice) -> str:
        return self.several(self.named(rules, choice), quoted(self.between + HEAD), choice)

    def read_calls(self, source: Source) -> Steps:
        yield from self.read_call(source)
        while True:
            yield from source.peek()
            if not source.buffer:
                return
            yield from source.literal(self.between + HEAD)
            yield from self.read_call(source)

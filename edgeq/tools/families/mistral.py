"""Mistral, in two forms: since 2025 the name stands before its arguments, before that a list is told.

    [TOOL_CALLS]weather[ARGS]{"city": "Rome"}
    [TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]

Ids of calls have nine letters and digits: its templates refuse any other.
"""

from __future__ import annotations

import secrets
import string

from edgeq.structured.forms import quoted
from edgeq.tools.objects import HEAD, Objects
from edgeq.tools.offered import Choice
from edgeq.tools.source import Joined, Source, Steps
from edgeq.tools.syntax import Rules, Syntax, arguments_of, plain_name
from edgeq.tools.tags import Tags

TRIGGER = "[TOOL_CALLS]"


def short_id() -> str:
    """An id of nine letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


class Mistral(Syntax):
    name = "mistral"

    @staticmethod
    def new_id() -> str:
        return short_id()

    def __init__(self, tags: Tags) -> None:
        super().__init__(tags)
        self.trigger = self.begins = tags(TRIGGER)
        self.args = tags("[ARGS]")

    @classmethod
    def writes(cls, template: str) -> bool:
        return TRIGGER in template and "[ARGS]" in template

    def calls(self, rules: Rules, choice: Choice) -> str:
        bodies = [
            f"{quoted(plain_name(tool, '['))} {self.args.lark} {arguments_of(rules, tool)}"
            for tool in choice.tools
        ]
        one = rules.rule("call", "\n  | ".join(bodies))
        return f"{one} ({self.begins.lark} {one})*" if choice.parallel else one

    def read_calls(self, source: Source) -> Steps:
        while True:
            name = Joined()
            yield from source.until(self.args.mark, give=name)
            yield from source.literal(self.args.mark)
            source.call(name.text)
            yield from source.json_value(source.arguments)
            yield from source.peek()
            if not source.buffer:
                return
            yield from source.literal(self.begins.mark)


class MistralLists(Objects):
    name = "mistral-lists"

    @staticmethod
    def new_id() -> str:
        return short_id()

    def __init__(self, tags: Tags) -> None:
        super().__init__(tags)
        self.trigger = tags(TRIGGER)

    @classmethod
    def writes(cls, template: str) -> bool:
        return TRIGGER in template

    def calls(self, rules: Rules, choice: Choice) -> str:
        calls = self.several(self.named(rules, choice), quoted(", " + HEAD), choice)
        return f'{quoted("[" + HEAD)} {calls} "]"'

    def read_calls(self, source: Source) -> Steps:
        yield from source.literal("[")
        while True:
            yield from source.literal(HEAD)
            yield from self.read_call(source)
            yield from source.peek()
            if source.buffer.startswith("]"):
                source.take(1)
                return
            yield from source.literal(", ")

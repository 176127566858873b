"""Hermes, Qwen 2.5 and Qwen 3, SmolLM3 and their fine-tunes:

<tool_call>
{"name": "weather", "arguments": {"city": "Rome"}}
</tool_call>
"""

from __future__ import annotations

from edgeq.structured.forms import quoted
from edgeq.tools.objects import HEAD, Objects
from edgeq.tools.offered import Choice
from edgeq.tools.source import Source, Steps
from edgeq.tools.syntax import Rules
from edgeq.tools.tags import Tags


class Hermes(Objects):
    name = "hermes"

    def __init__(self, tags: Tags) -> None:
        super().__init__(tags)
        self.trigger = self.begins = tags("<tool_call>")
        self.ends = tags("</tool_call>")

    @classmethod
    def writes(cls, template: str) -> bool:
        return "<tool_call>" in template

    def calls(self, rules: Rules, choice: Choice) -> str:
        one = f'{quoted(chr(10) + HEAD)} {self.named(rules, choice)} "\\n" {self.ends.lark}'
        return self.several(one, f'"\\n" {self.begins.lark}', choice)

    def read_calls(self, source: Source) -> Steps:
        while True:
            yield from source.literal("\n" + HEAD)
            yield from self.read_call(source)
            yield from source.literal("\n" + self.ends.mark)
            yield from source.peek()
            if not source.buffer:
                return
            yield from source.literal("\n" + self.begins.mark)

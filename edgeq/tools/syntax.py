"""How a family writes calls: what a file of `families/` defines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgeq.errors import SchemaError, UsageError, shown
from edgeq.structured import of_schema
from edgeq.structured.forms import quoted
from edgeq.tools.offered import Choice, Tool
from edgeq.tools.source import Source, Steps, call_id
from edgeq.tools.tags import Tag, Tags


@dataclass
class Rules:
    """A grammar in the making: rules in the library's notation, and grammars that they name with @."""

    lines: list[str] = field(default_factory=list)
    parts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    relaxed: list[str] = field(default_factory=list)  # places of what tools that are not strict lost

    def rule(self, name: str, body: str) -> str:
        """A rule; its name."""
        self.lines.append(f"{name}: {body}")
        return name

    def part(self, grammar: Mapping[str, Any]) -> str:
        """A grammar of its own, as it is named in a rule."""
        name = f"part{len(self.parts)}"
        self.parts[name] = grammar
        return f"@{name}"

    def drop(self, tool: Tool, pointer: str, keyword: str, why: str) -> None:
        """Leave a keyword out that cannot be honoured. SchemaError where the tool is strict."""
        if tool.strict:
            raise tool.placed(SchemaError(f"{keyword} at {pointer or '/'} {why}", pointer, keyword))
        self.relaxed.append(f"{tool.place}{pointer}/{keyword}")


class Syntax(ABC):
    """The calls of a family in one vocabulary."""

    name: ClassVar[str]

    @staticmethod
    def new_id() -> str:
        """An id of a call."""
        return call_id()

    def __init__(self, tags: Tags) -> None:
        self.tags = tags

    @classmethod
    @abstractmethod
    def writes(cls, template: str) -> bool:
        """Whether a chat template with this text is of the family."""

    trigger: Tag | None = (
        None  # what begins calls, also behind prose; None where only an answer's beginning can
    )
    opening: ClassVar[str] = ""  # … with this text
    prose: bool = True  # whether calls may stand behind prose

    @abstractmethod
    def calls(self, rules: Rules, choice: Choice) -> str:
        """The body of a rule for the calls of an answer, behind the trigger or the opening, to its end."""

    @abstractmethod
    def read_calls(self, source: Source) -> Steps:
        """Read calls, behind the trigger or the opening, to the end."""

    # the same for all -----------------------------------------------------------------------------------

    @property
    def first(self) -> tuple[str, str]:
        """What calls begin with: in a grammar, and as a parser sees it."""
        if self.trigger is not None:
            return self.trigger.lark, self.trigger.mark
        return quoted(self.opening), self.opening

    def body(self, rules: Rules, choice: Choice) -> str:
        """The body of a rule for an answer, behind its thoughts."""
        first, _ = self.first
        calls = rules.rule("calls", self.calls(rules, choice))
        self.prose = not choice.must
        if choice.must:
            return f"{first} {calls}"
        if self.trigger is None:
            rules.lines.append(f"PROSE: /(?s:.+)/ & ~/{regex_of(self.opening)}(?s:.*)/")
            return f"{first} {calls} | PROSE?"
        if self.trigger.id is not None:
            rules.lines.append("PROSE: /(?s:.+)/")
            return f"PROSE? ({first} {calls})?"
        # A token may hold the end of prose and the beginning of a trigger that is text.
        rules.lines.append(f"PROSE: /(?s:.+)/ & ~/(?s:.*){regex_of(self.trigger.text)}(?s:.*)/")
        rules.lines.append(f"before[lazy]: /(?s:.*)/ {first}")
        return f"before {calls} | PROSE?"

    def read(self, source: Source) -> Iterator[None]:
        """Read an answer, behind its thoughts, to its end."""
        _, first = self.first
        if self.trigger is not None and self.prose:
            yield from source.until(first, give=source.content, whole=False)
        while len(source.buffer) < len(first) and first.startswith(source.buffer) and not source.over:
            yield
        if not source.buffer.startswith(first):
            yield from source.rest(source.content)
            return
        source.inside = True
        source.take(len(first))
        yield from self.read_calls(source)
        source.inside = False


def regex_of(text: str) -> str:
    """A regular expression, as it stands between slashes, for just this text."""
    return "".join(c if c.isalnum() or c in "_ <>" else f"\\x{{{ord(c):x}}}" for c in text)


def arguments_of(rules: Rules, tool: Tool) -> str:
    """The arguments of a tool as JSON, as named in a rule."""
    try:
        form = of_schema(tool.parameters, relax=not tool.strict)
    except SchemaError as error:
        raise tool.placed(error) from None
    rules.relaxed += [tool.place + pointer for pointer in form.dropped]
    return rules.part(form.grammar)


def plain_name(tool: Tool, *ends: str) -> str:
    """The name of a tool where it stands as it is. UsageError where it holds what would end it there."""
    if any(end in tool.name for end in (*ends, "\n")):
        raise UsageError(
            f"the tool {shown(tool.name)} cannot be called by this model: a name without {ends[0]} can"
        )
    return tool.name

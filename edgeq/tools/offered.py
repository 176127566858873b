"""The tools of a request, and which of them an answer may call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.arguments import is_sequence
from edgeq.errors import SchemaError, UsageError, shown
from edgeq.structured.schema import Schema, normalized, parsed

TOOLS_MAX = 128
NAME_CHARS_MAX = 256
BYTES_MAX = 512 << 10  # of the schemas of all tools


@dataclass(frozen=True)
class Tool:
    """A tool: its name, the schema of its arguments, and where that stands in the request."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool
    place: str  # a JSON pointer

    @property
    def size(self) -> int:
        """Bytes of the schema, about. SchemaError where it is none, or too large by itself."""
        try:
            return len(json.dumps(parsed(self.parameters)))
        except SchemaError as error:
            raise self.placed(error) from None

    def normalized(self) -> Schema:
        """The schema of the arguments as the library takes it. SchemaError, with the place in the request,
        for what a strict tool asks for in vain."""
        try:
            return normalized(self.parameters, relax=not self.strict)
        except SchemaError as error:
            raise self.placed(error) from None

    def placed(self, error: SchemaError) -> SchemaError:
        """An error of the schema, with its place in the request."""
        return SchemaError(f"tool {shown(self.name)}: {error}", self.place + error.pointer, error.keyword)


@dataclass(frozen=True)
class Choice:
    """Which tools may be called, whether one must be, and whether several may."""

    tools: tuple[Tool, ...] = ()
    must: bool = False
    parallel: bool = True


def offered(tools: Sequence[Mapping[str, Any]] | None) -> list[Tool]:
    """The tools, checked: {"type": "function", "function": {"name", "parameters", "strict"}}, or the inner
    object alone."""
    if tools is None:
        return []
    if not is_sequence(tools) or len(tools) > TOOLS_MAX:
        raise UsageError(f"tools are {shown(tools)}, but must be a list of at most {TOOLS_MAX}")
    found: list[Tool] = []
    size = 0
    for n, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str):
            raise UsageError(f"tool {n} is {shown(tool)}, but must be an object with a name")
        if not 0 < len(name) <= NAME_CHARS_MAX or any("\ud800" <= c <= "\udfff" for c in name):
            raise UsageError(f"the name of tool {n} must have 1 to {NAME_CHARS_MAX} characters of Unicode")
        if name in [other.name for other in found]:
            raise UsageError(f"two tools are called {shown(name)}")
        place = f"/tools/{n}/function/parameters" if "function" in tool else f"/tools/{n}/parameters"
        strict, description = function.get("strict") is True, function.get("description")
        if not isinstance(description, str | None):
            raise UsageError(
                f"the description of tool {shown(name)} is {shown(description)}, but must be a text"
            )
        new = Tool(name, description or "", _closed(function.get("parameters")), strict, place)
        size += new.size
        if size > BYTES_MAX:
            raise UsageError(f"the schemas of the tools have more than {BYTES_MAX} bytes")
        found.append(new)
    return found


def _closed(parameters: object) -> Mapping[str, Any]:
    """The schema of arguments: an object. One that lists properties, and says nothing of others, gets none
    but these."""
    if parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(parameters, Mapping):
        raise UsageError(f"parameters are {shown(parameters)}, but must be a JSON schema of an object")
    found = {"type": "object", **parameters}
    if found["type"] is None:
        found["type"] = "object"
    others = {"additionalProperties", "patternProperties", "anyOf", "oneOf", "allOf", "$ref"}
    if "properties" in found and not others & found.keys():
        found["additionalProperties"] = False
    return found


def chosen(tools: Sequence[Tool], tool_choice: object = None, parallel: bool = True) -> Choice:
    """What of the tools may be called: "none", "auto" (the default where there are tools), "required", or
    {"type": "function", "function": {"name": …}} for one that must be."""
    choice = tool_choice if tool_choice is not None else "auto" if tools else "none"
    if not isinstance(parallel, bool):
        raise UsageError(f"parallel_tool_calls is {shown(parallel)}, but must be true or false")
    if isinstance(choice, Mapping):
        inner = choice.get("function", choice)
        name = inner.get("name") if isinstance(inner, Mapping) else None
        named = tuple(tool for tool in tools if tool.name == name)
        if not named:
            raise UsageError(f"tool_choice names {shown(name)}, which is none of the tools")
        return Choice(named, True, parallel)
    if choice == "none":
        return Choice()
    if choice not in ("auto", "required"):
        raise UsageError(f"tool_choice is {shown(choice)}, but must be none, auto, required or name a tool")
    if not tools:
        if choice == "required":
            raise UsageError("tool_choice is required, but there are no tools")
        return Choice()
    return Choice(tuple(tools), choice == "required", parallel)

"""The members of an object where they are written one by one, and not as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from edgeq.structured.forms import quoted
from edgeq.tools.offered import Tool
from edgeq.tools.syntax import Rules

# words of an object's schema that are honoured where its members are written one by one
SAID = frozenset(["type", "properties", "required", "additionalProperties", "$defs"])


class Member(NamedTuple):
    rule: str  # the body for its name and value
    required: bool


def members(rules: Rules, name: str, found: Sequence[Member], *, between: str) -> str:
    """What stands in a rule for members in order, those that are not required with or without; "" for none.

    `between` stands between two of them."""
    if not found:
        return ""
    if not between:
        return " ".join(member.rule if member.required else f"({member.rule})?" for member in found)
    # first_N: the members from N on, none before; next_N: the same behind another
    comma = quoted(between)
    first = after = '""'
    for n in reversed(range(len(found))):
        one = rules.rule(f"{name}_m{n}", found[n].rule)
        if found[n].required:
            first, after = f"{one} {after}", f"{comma} {one} {after}"
        else:
            first, after = f"{one} {after} | {first}", f"({comma} {one})? {after}"
        first, after = rules.rule(f"{name}_f{n}", first), rules.rule(f"{name}_n{n}", after)
    return first


def top_level(rules: Rules, tool: Tool) -> list[tuple[str, dict[str, Any], bool]]:
    """(name, schema, whether it is required) of each argument of a tool. What else its schema asks for is
    dropped, or refused where it is strict."""
    schema = tool.normalized()
    rules.relaxed += [tool.place + pointer for pointer in schema.dropped]
    root = schema.root
    for keyword in sorted(root.keys() - SAID):
        rules.drop(tool, "", keyword, "cannot be honoured by the way in which this model calls")
    defs = {"$defs": root["$defs"]} if "$defs" in root else {}
    required = [name for name in root.get("required", ()) if isinstance(name, str)]
    properties: dict[str, Any] = dict(root.get("properties", {}))
    for name in required:
        properties.setdefault(name, {})
    return [(name, {**part, **defs}, name in required) for name, part in properties.items()]

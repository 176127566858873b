"""Whether a value can satisfy one at most of several schemas, so that `oneOf` says what `anyOf` says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

TYPES = frozenset(["string", "number", "integer", "boolean", "null", "object", "array"])
PAIRS_MAX = 100_000


def are_disjoint(branches: Sequence[dict[str, Any]], resolved: Callable[[dict[str, Any]], Any]) -> bool:
    """Whether constants, types, or the constants of a property that all require tell the branches apart.

    resolved(branch) follows a reference. False where that cannot be seen.
    """
    if len(branches) ** 2 > PAIRS_MAX:
        return False
    told = [resolved(branch) for branch in branches]
    return all(_apart(one, other) for one, other in combinations(told, 2))


def _apart(one: Any, other: Any) -> bool:
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return False
    mine, yours = _values(one), _values(other)
    if mine is not None and yours is not None:
        return mine.isdisjoint(yours)
    if _types(one).isdisjoint(_types(other)):
        return True
    if not _types(one) == _types(other) == {"object"}:
        return False
    shared = set(_names(one)) & set(_names(other))
    for name in shared:
        mine, yours = _values(_property(one, name)), _values(_property(other, name))
        if mine is not None and yours is not None and mine.isdisjoint(yours):
            return True
    return False


def _values(schema: Any) -> frozenset[str] | None:
    """The constants that a schema allows, as JSON; None where it does not list them."""
    if not isinstance(schema, Mapping):
        return None
    if "const" in schema:
        return frozenset([_spelled(schema["const"])])
    if isinstance(schema.get("enum"), list | tuple):
        return frozenset(map(_spelled, schema["enum"]))
    return None


def _spelled(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _types(schema: Mapping[str, Any]) -> set[str]:
    """The types that a schema allows; integers are numbers, too."""
    values = _values(schema)
    if values is not None:
        return {_type_of(json.loads(value)) for value in values}
    given = schema.get("type")
    if isinstance(given, str):
        found = {given}
    elif isinstance(given, list | tuple) and given:
        found = {str(word) for word in given}
    else:
        found = set(TYPES)
    return found | {"integer"} if "number" in found else found


def _type_of(value: Any) -> str:
    kinds = {
        str: "string",
        bool: "boolean",
        type(None): "null",
        dict: "object",
        list: "array",
        int: "integer",
    }
    return kinds.get(type(value), "number")


def _names(schema: Mapping[str, Any]) -> list[str]:
    """The properties that an object must have."""
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list | tuple) else []


def _property(schema: Mapping[str, Any], name: str) -> Any:
    properties = schema.get("properties")
    return properties.get(name) if isinstance(properties, Mapping) else None

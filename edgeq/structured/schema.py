"""JSON schemas from anywhere, made into those that the grammar library honours to the letter.

What says nothing is left out, what it calls otherwise is written its way, and what it cannot honour is
refused by name, with the place (a JSON pointer): no keyword is ever dropped in silence. A schema that its
owner lets be relaxed loses the keywords that stand in the way, and no others, and it is told which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeq.errors import SchemaError, shown
from edgeq.structured.disjoint import are_disjoint

BYTES_MAX = 64 << 10  # of a schema, as of any grammar
JSON_DEPTH_MAX = 128
DEPTH_MAX = 32  # of schemas in schemas
PROPERTIES_MAX = 500
ENUM_MAX = 5_000

# keyword -> what is in it: a schema, a list of them, or names of them
ONE, LIST, NAMED = "schema", "list", "names"
INSIDE = {"items": ONE, "additionalProperties": ONE, "prefixItems": LIST, "anyOf": LIST, "oneOf": LIST}
INSIDE |= {"allOf": LIST, "properties": NAMED, "patternProperties": NAMED}

KEPT = {
    "type", "enum", "const", "pattern", "format", "minLength", "maxLength", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "required", "minItems", "maxItems", "minProperties",
    "maxProperties",
}  # fmt: skip
# Words that ask for something, which the library does not do; with these values they ask for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "not": (False,),
    "if": (),
    "then": (True, {}),
    "else": (True, {}),
    "uniqueItems": (False,),
    "contains": (),
    "minContains": (),
    "maxContains": (),
    "propertyNames": (True, {}),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}
FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
)  # that the library knows; any other is refused
# The library lets every February have 29 days, and a year be 0000, which calendars and checkers do not.
YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
FOURTH = "(?:0[48]|[2468][048]|[13579][26])"
DATE = (
    f"^(?:{YEAR}-(?:(?:0[13-9]|1[0-2])-[0-9]{{2}}|02-(?:[01][0-9]|2[0-8]))"
    f"|(?:[0-9]{{2}}{FOURTH}|{FOURTH}00)-02-29)"
)


@dataclass
class Schema:
    """A schema that can be compiled: every reference in it is to `#/$defs/N`."""

    root: dict[str, Any]
    places: list[tuple[str, dict[str, Any]]]  # JSON pointers of its parts as they came, the inner ones first
    dropped: list[str] = field(default_factory=list)  # pointers of keywords that it was relaxed by


def parsed(schema: object) -> dict[str, Any] | bool:
    """A schema as data: an object, or the JSON text of one. SchemaError for what is none, or is too large."""
    if isinstance(schema, str | bytes):
        if len(schema) > BYTES_MAX:
            raise SchemaError(f"the schema has {len(schema)} bytes, but at most {BYTES_MAX} are allowed")
        try:
            schema = json.loads(schema, object_pairs_hook=_once, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"the schema is no JSON: {str(error)[:100]}") from None
    _check_size(schema)
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        raise SchemaError(f"the schema is {shown(schema)}, but must be an object")
    return dict(schema)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _check_size(schema: object) -> None:
    """SchemaError unless it is JSON within the limits of bytes and depth."""
    layer, depth, count = [schema], 0, 0
    while layer:
        depth += 1
        count += len(layer)
        if depth > JSON_DEPTH_MAX or count > BYTES_MAX:
            raise SchemaError(
                f"the schema is nested more than {JSON_DEPTH_MAX} deep"
                if depth > JSON_DEPTH_MAX
                else f"the schema has more than {BYTES_MAX} bytes"
            )
        inner: list[object] = []
        for value in layer:
            if isinstance(value, Mapping):
                inner.extend(value.values())
            elif isinstance(value, list | tuple):
                inner.extend(value)
        layer = inner
    try:
        size = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise SchemaError(f"the schema is no JSON: {str(error)[:100]}") from None
    if size > BYTES_MAX:
        raise SchemaError(f"the schema has {size} bytes, but at most {BYTES_MAX} are allowed")


def normalized(schema: object, *, relax: bool = False, drop: frozenset[str] = frozenset()) -> Schema:
    """What the library is given for a schema. SchemaError, with place and keyword, for what it does not
    honour; with relax that is dropped and told. drop: pointers of keywords to drop besides."""
    data = parsed(schema)
    if data is False:
        raise SchemaError("the schema is false, so no answer satisfies it")
    walk = _Walk(data, relax, drop)
    root = walk.schema(data, "", 0)
    while walk.wanted:
        name, pointer = walk.wanted.popitem()
        walk.defs[name] = walk.schema(walk.at(pointer), pointer, 0)
    if walk.defs:
        root = {**root, "$defs": walk.defs}
    return Schema(root, walk.places, walk.dropped)


class _Walk:
    """One pass over a schema; `defs` are what its references are to."""

    def __init__(self, data: Any, relax: bool, drop: frozenset[str]) -> None:
        self._data, self._relax, self._drop = data, relax, drop
        self.defs: dict[str, Any] = {}
        self.wanted: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.places: list[tuple[str, dict[str, Any]]] = []
        self.dropped: list[str] = []
        self._properties = self._values = 0

    def schema(self, given: Any, pointer: str, depth: int) -> dict[str, Any]:
        """A schema and all in it. True is one that says nothing."""
        if given is True:
            return {}
        if given is False:  # nothing satisfies it, and the library has a word for that
            return {"enum": []}
        if not isinstance(given, Mapping):
            raise SchemaError(f"{pointer or 'the schema'} is {shown(given)}, but must be a schema", pointer)
        if depth > DEPTH_MAX:
            raise SchemaError(f"the schema is nested more than {DEPTH_MAX} deep", pointer)
        found: dict[str, Any] = {}
        for keyword, value in _renamed(given).items():
            place = f"{pointer}/{escaped(str(keyword))}"
            try:
                self._keyword(found, str(keyword), value, pointer, place, depth)
            except SchemaError as error:
                if not self._relax or error.keyword is None or error.pointer != pointer:
                    raise
                self.dropped.append(place)
        if found.get("format") in ("date", "date-time"):
            found.setdefault("allOf", []).append({"type": "string", "pattern": DATE})
        self._least(found, pointer)
        if "oneOf" in found and are_disjoint(found["oneOf"], self._resolved):
            self._any_of(found)
        self.places.append((pointer, found))
        return found

    def _keyword(
        self, found: dict[str, Any], keyword: str, value: Any, pointer: str, place: str, depth: int
    ) -> None:
        """Put what a keyword asks for into `found`."""
        if place in self._drop:
            self.dropped.append(place)
        elif keyword == "$ref":
            found["$ref"] = self._reference(value, pointer)
        elif keyword == "$id" and pointer:
            raise SchemaError(
                f"$id at {pointer} begins a schema of its own, which is not read", pointer, keyword
            )
        elif keyword in REFUSED:
            if not any(value is nothing or value == nothing == {} for nothing in REFUSED[keyword]):
                raise SchemaError(f"{keyword} at {pointer or '/'} cannot be honoured", pointer, keyword)
        elif keyword in INSIDE:
            found[keyword] = self._inside(keyword, value, place, depth)
        elif keyword in KEPT:
            self._count(keyword, value, pointer)
            found[keyword] = value

    def _least(self, found: dict[str, Any], pointer: str) -> None:
        """Refuse, or drop, a minProperties that names which stand twice could seem to reach: those that are
        not listed may, and count once when the object is read."""
        least, required = found.get("minProperties"), found.get("required")
        if not isinstance(least, int) or least <= 1 + len(
            required if isinstance(required, list | tuple) else ()
        ):
            return
        del found["minProperties"]
        if not self._relax:
            raise SchemaError(
                f"minProperties at {pointer or '/'} cannot be honoured beyond one more than are required",
                pointer,
                "minProperties",
            )
        self.dropped.append(f"{pointer}/minProperties")

    def _inside(self, keyword: str, value: Any, place: str, depth: int) -> Any:
        kind = INSIDE[keyword]
        if kind == ONE:
            return value if value is False else self.schema(value, place, depth + 1)
        if kind == LIST:
            if not isinstance(value, list | tuple) or (not value and keyword != "prefixItems"):
                raise SchemaError(f"{place} is {shown(value)}, but must be a list of schemas", place)
            return [self.schema(each, f"{place}/{n}", depth + 1) for n, each in enumerate(value)]
        if not isinstance(value, Mapping):
            raise SchemaError(f"{place} is {shown(value)}, but must be an object of schemas", place)
        self._properties += len(value)
        if self._properties > PROPERTIES_MAX:
            raise SchemaError(f"the schema has more than {PROPERTIES_MAX} properties", place)
        return {
            name: self.schema(each, f"{place}/{escaped(name)}", depth + 1) for name, each in value.items()
        }

    def _count(self, keyword: str, value: Any, pointer: str) -> None:
        """SchemaError for a value that is too much, or a format that is not known."""
        if keyword == "enum" and isinstance(value, list | tuple):
            self._values += len(value)
            if self._values > ENUM_MAX:
                raise SchemaError(f"the schema has more than {ENUM_MAX} values in enums", pointer)
        if keyword == "format" and value not in FORMATS:
            known = ", ".join(sorted(FORMATS))
            raise SchemaError(
                f"format at {pointer or '/'} is {shown(value)}, but must be one of {known}", pointer, keyword
            )

    def _reference(self, value: Any, pointer: str) -> str:
        """The name of what a reference is to, which will be made a schema, too."""
        if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
            raise SchemaError(
                f"$ref at {pointer or '/'} is {shown(value)}, but must be a place in the schema: #/...",
                pointer,
                "$ref",
            )
        target = value[1:]
        self.at(target, pointer)
        if target not in self.names:
            self.names[target] = name = str(len(self.names))
            self.wanted[name] = target
        return f"#/$defs/{self.names[target]}"

    def at(self, target: str, pointer: str = "") -> Any:
        """What a JSON pointer is to. SchemaError where there is nothing."""
        from urllib.parse import unquote

        value = self._data
        for word in unquote(target).split("/")[1:]:
            word = word.replace("~1", "/").replace("~0", "~")
            try:
                value = value[int(word)] if isinstance(value, list | tuple) else value[word]
            except (KeyError, IndexError, ValueError, TypeError):
                raise SchemaError(
                    f"$ref at {pointer or '/'} is to {shown('#' + target)}, where nothing is", pointer, "$ref"
                ) from None
        return value

    def _resolved(self, given: dict[str, Any]) -> Any:
        """A part without references, as far as it is made already or can be looked up."""
        names = {name: pointer for pointer, name in self.names.items()}
        for _ in range(DEPTH_MAX):
            if "$ref" not in given:
                return given
            target = names.get(given["$ref"].removeprefix("#/$defs/"))
            found = self.at(target) if target is not None else None
            if not isinstance(found, Mapping):
                return {}
            given = _raw_reference(found, self.names)
        return {}

    @staticmethod
    def _any_of(found: dict[str, Any]) -> None:
        branches = found.pop("oneOf")
        if "anyOf" in found:
            found.setdefault("allOf", []).append({"anyOf": branches})
        else:
            found["anyOf"] = branches


def _raw_reference(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A part as it came, with a reference in it spelled as a made one has it."""
    ref = found.get("$ref")
    if isinstance(ref, str) and ref[1:] in names:
        return {**found, "$ref": f"#/$defs/{names[ref[1:]]}"}
    return {key: value for key, value in found.items() if key != "$ref"}


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of an older draft in the words of 2020-12: tuples of items, limits that are exclusive."""
    found = dict(given)
    types = found.get("type")
    if (
        "format" in found
        and types is not None
        and "string" not in (types if isinstance(types, list) else [types])
    ):
        del found["format"]  # int64, double: it is about texts alone
    if isinstance(found.get("items"), list | tuple):
        found["prefixItems"] = found.pop("items")
        if "additionalItems" in found:
            found["items"] = found.pop("additionalItems")
    for limit, word in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(found.get(word), bool) and found.pop(word) and limit in found:
            found[word] = found.pop(limit)
    return found


def escaped(name: str) -> str:
    """A name in a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def blamed(
    schema: Schema, refuses: Callable[[dict[str, Any]], str | None]
) -> tuple[str, str | None, str] | None:
    """(pointer, keyword, why) of the innermost part that the library refuses by itself; None where each part
    is well. refuses(schema) gives the library's reason, or None."""
    defs = schema.root.get("$defs")
    for pointer, part in schema.places:
        whole = part if defs is None else {**part, "$defs": defs}
        why = refuses(whole)
        if why is None:
            continue
        keys = [key for key in part if refuses({name: whole[name] for name in whole if name != key}) is None]
        return pointer, keys[0] if keys else None, why
    return None

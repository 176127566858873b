"""A request's JSON: read strictly, then held against the fields that a dialect has."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec

from edgeq.errors import shown
from edgeq.serve.errors import ApiError, unsupported, wrong

DEPTH_MAX = 64
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
EXPECTED = re.compile(r"(?P<said>.*?)(?: - at `(?P<path>[^`]*)`)?", re.DOTALL)

T = TypeVar("T")


def decoded(body: bytes) -> dict[str, Any]:
    """The object that a body holds. ApiError for what is no JSON, for names given twice, for NaN, infinities
    and lone surrogates, and for values nested too deeply."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        _refuse(f"the body is no UTF-8: byte {error.start} cannot be decoded")
    except RecursionError:
        _refuse(f"the body is nested more than {DEPTH_MAX} levels deep")
    except json.JSONDecodeError as error:
        _refuse(f"the body is no JSON: {error.msg} at character {error.pos}")
    except ValueError:  # a whole number of thousands of digits
        _refuse("the body holds a number with more digits than are read")
    if not isinstance(value, dict):
        _refuse(f"the body is {shown(value)}, but must be a JSON object")
    _check(value)
    return value


def _refuse(message: str) -> NoReturn:
    raise ApiError(400, message, code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(f"{shown(twice)} is given twice in one object")
    return found


def _constant(word: str) -> NoReturn:
    _refuse(f"the body holds {word}, which is no JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse(f"the body holds {digits[:40]}, which is too large for a number")
    return value


def _check(value: Any) -> None:
    """Depth, and texts that no UTF-8 can hold."""
    level = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each
                below += each.values()
            elif isinstance(each, list):
                below += each
            elif isinstance(each, str) and not each.isascii():
                try:
                    each.encode()
                except UnicodeEncodeError:
                    _refuse("the body holds a lone surrogate, which no UTF-8 text can hold")
        if not below:
            return
        level = below
    _refuse(f"the body is nested more than {DEPTH_MAX} levels deep")


def read(kind: type[T], data: Mapping[str, Any]) -> T:
    """The fields of a dialect, checked; null is as if a field were not there. ApiError names the field."""
    given = {name: value for name, value in data.items() if value is not None}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), given) from None


def _explained(error: str, data: Mapping[str, Any]) -> ApiError:
    """One sentence about what msgspec says of a value: which one, what it is, and what it must be."""
    match = EXPECTED.fullmatch(error)
    said, path = (match["said"], match["path"] or "$") if match else (error, "$")
    param = path.removeprefix("$").removeprefix(".").replace("[...]", "")
    if missing := re.search(r"missing required field `([^`]*)`", said):
        name = f"{param}.{missing[1]}" if param else missing[1]
        return wrong(name, f"{name} is missing")
    said = re.sub(r"`([^`]*)`", lambda m: _kinds(m[1]), said.partition(", got ")[0])
    must = said.removeprefix("Expected ").replace("<=", "of at most").replace(">=", "of at least")
    must = re.sub(r" > ([-\d])", r" above \1", must)
    must = must.replace("of length of at", "of length at")
    value = _at(data, param)
    return wrong(param, f"{param or 'the body'} is {shown(value)}, but must be {must}")


def _kinds(words: str) -> str:
    kinds = [KINDS.get(word.strip(), word.strip()) for word in words.split("|")]
    return " or ".join(kind for kind in kinds if kind != "null")


def _at(data: Any, path: str) -> Any:
    """The value at a path like messages[0].role; as far as it can be followed."""
    for word in re.findall(r"[^.\[\]]+", path):
        try:
            data = data[int(word)] if isinstance(data, list) else data[word]
        except (KeyError, ValueError, IndexError, TypeError):
            break
    return data


def refuse(data: Mapping[str, Any], fields: Mapping[str, tuple[Collection[Any], str]]) -> None:
    """ApiError for a field that is known and cannot be honoured, unless its value asks for nothing.

    fields: name → (values that ask for nothing, why it is not supported)."""
    for name, (neutral, why) in fields.items():
        value = data.get(name)
        if value is not None and not any(value is each or value == each for each in neutral):
            raise unsupported(name, why)


def unknown(data: Mapping[str, Any], kind: type, known: Collection[str]) -> list[str]:
    """Fields that nobody looks at."""
    names = set(kind.__struct_fields__) | set(known)  # type: ignore[attr-defined]
    return [name for name in data if name not in names]

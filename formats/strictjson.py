"""The one reader of JSON from strangers: what the standard allows and a program can mean, within limits.

Size, depth and the number of values are looked at before anything is built of them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from edgeq.errors import EdgeqError, FormatError, quote

MARKS_MAX = 1 << 20  # , : [ { in a text: bounds the values, and so the memory, that parsing can make
DIGITS_MAX = 64  # of a number
INTEGER_MAX = (1 << 127) - 1  # some programs write 10^30 for "no limit"
# The \Z lets every search succeed where it starts, so none is tried again further on: time stays linear.
_STRUCTURE = re.compile(r'[^"\[\]{}]*+("(?:[^"\\]++|\\.)*+"?|[\[\]{}]|\Z)', re.DOTALL)
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # an escape of half a surrogate pair


def parse(
    raw: bytes,
    where: str,
    *,
    marks_max: int = MARKS_MAX,
    depth_max: int | None = None,
    integer_max: int = INTEGER_MAX,
) -> Any:
    """The value of a JSON text in UTF-8. FormatError, which begins with `where`, for what is no JSON, for NaN
    and infinities, a key twice in an object, half of a surrogate pair, and for more than the limits allow:
    marks_max of , : [ { (where keys and strings hold them, too), depth_max levels (None: what the stack
    holds), integers beyond integer_max.
    """
    if sum(map(raw.count, (b",", b":", b"[", b"{"))) > marks_max or raw.count(b'"') > 4 * marks_max:
        raise FormatError(f"{where} has more than {marks_max} commas, colons and opening brackets")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} is not UTF-8 at byte {error.start}") from None
    if depth_max is not None:
        _check_depth(text, where, depth_max)

    def integer(digits: str) -> int:
        value = int(digits) if len(digits) <= DIGITS_MAX else integer_max + 1
        if abs(value) > integer_max:
            bits = integer_max.bit_length() + 1
            raise FormatError(f"{where} has the number {digits[:20]}, which does not fit {bits} bits")
        return value

    def real(digits: str) -> float:
        value = float(digits) if len(digits) <= DIGITS_MAX else math.inf
        if math.isinf(value):
            raise FormatError(f"{where} has the number {digits[:20]}, which does not fit a float64")
        return value

    def constant(word: str) -> Any:
        raise FormatError(f"{where} has the number {word}, which is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(f"{where} has the key {quote(twice)} twice in one object")
        return result

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_int=integer, parse_float=real, parse_constant=constant
        )
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except EdgeqError:
        raise
    except UnicodeEncodeError:
        raise FormatError(f"{where} holds half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise FormatError(f"{where} is nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{where} is not JSON: {str(error).splitlines()[0][:120]}") from None
    return value


def _check_depth(text: str, where: str, depth_max: int) -> None:
    depth = 0
    for token in _STRUCTURE.finditer(text):
        first = text[token.start(1) : token.start(1) + 1]
        if first == "[" or first == "{":
            depth += 1
            if depth > depth_max:
                raise FormatError(f"{where} is nested deeper than {depth_max} levels")
        elif first == "]" or first == "}":
            depth -= 1

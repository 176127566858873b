"""Mutations that every parser's own build on: of bytes, of texts, and of JSON values by their structure.

Everything is drawn from a `random.Random`, so a seed gives the same mutants on every machine.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

BYTES_MAX = 1 << 18  # of a mutant: what is larger is cut, for time is better spent on many small ones

INTEGERS = (
    -1, 0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 1023, 1024, 4096, 65535,
    65536, (1 << 20) - 1, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 53,
    (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 31), -(1 << 63), 1 << 200,
)  # fmt: skip
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-6, 1e-45, 1e-320, 1e6, 1e38, 3.5e38, 1e300, -1e300, 0.1, 16777217.0)
TEXTS = (
    "", " ", "a", "\0", "\n", "\x1b[31m", "<s>", "</s>", "<|im_end|>", "<unk>", "<0x0A>", "<0xZZ>", "▁", "Ġ",
    "é", "\ud800", "\uffff", "🦙", "e\u0301", "../x", "/etc/passwd", "a" * 300, "{{ x }}", "{% raw %}", "0",
    "-1", "1e999", "null", "NaN", "__class__", "llama", "q4", "f32", "bytes", "plain", "lines16", "default",
    "first", "never",
)  # fmt: skip
WORDS_OF_JSON = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"01", b"1" * 5000, b'"\\ud800"', b"\xef\xbb\xbf",
    b"\xff", b"\x00", b"[" * 2000, b'{"a":' * 200, b"]", b"}", b",", b":", b'"', b"\\", b"/**/", b"null",
    b"true", b"[]", b"{}", b'""', b"1E400", b"\\u0041", b"\xed\xa0\x80",
)  # fmt: skip


def chance(random: Random, share: float) -> bool:
    return random.random() < share


def integer(random: Random, near: int = 0) -> int:
    """A number at an edge, near another, or any."""
    kind = random.random()
    if kind < 0.5:
        return random.choice(INTEGERS)
    if kind < 0.8:
        return near + random.randint(-2, 2)
    return (
        random.getrandbits(random.randint(1, 64)) if kind < 0.9 else near * random.choice((2, 3, -1, 1 << 16))
    )


# ---- bytes ----


def of_bytes(random: Random, data: bytes, other: bytes = b"") -> bytes:
    """One to four changes anywhere: bits, numbers of 1 to 8 bytes, pieces gone, doubled or from `other`."""
    raw = bytearray(data)
    for _ in range(1 << random.randrange(3)):
        random.choice(_BYTE_STEPS)(random, raw, other)
    return bytes(raw[:BYTES_MAX])


def _place(random: Random, raw: bytearray) -> int:
    """A position, as likely in the first hundred bytes as anywhere."""
    return random.randrange(min(len(raw), 100) if chance(random, 0.4) else len(raw)) if raw else 0


def _flip(random: Random, raw: bytearray, _: bytes) -> None:
    if raw:
        raw[_place(random, raw)] ^= 1 << random.randrange(8)


def _set(random: Random, raw: bytearray, _: bytes) -> None:
    if raw:
        raw[_place(random, raw)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _number(random: Random, raw: bytearray, _: bytes) -> None:
    at, code = _place(random, raw), random.choice("BHIQ")
    mask = (1 << 8 * struct.calcsize(code)) - 1
    new = struct.pack("<" + code, integer(random) & mask)
    raw[at : at + len(new)] = new


def _drop(random: Random, raw: bytearray, _: bytes) -> None:
    at = _place(random, raw)
    del raw[at : at + random.choice((1, 2, 4, 8, 100, 1 << 20))]


def _double(random: Random, raw: bytearray, _: bytes) -> None:
    at = _place(random, raw)
    raw[at:at] = raw[at : at + random.choice((1, 4, 16, 64))] * random.choice((1, 2, 50))


def _splice(random: Random, raw: bytearray, other: bytes) -> None:
    at, start = _place(random, raw), random.randrange(len(other)) if other else 0
    raw[at : at + random.choice((0, 8, 64))] = other[start : start + random.choice((1, 8, 64, 512))]


_BYTE_STEPS: Sequence[Callable[[Random, bytearray, bytes], None]] = (
    _flip,
    _set,
    _number,
    _drop,
    _double,
    _splice,
)


# ---- texts ----


def of_text(random: Random, text: str, pieces: Sequence[str] = TEXTS) -> str:
    """A text with a piece put in, taken out, doubled or replaced."""
    at = random.randrange(len(text) + 1)
    end = min(len(text), at + random.choice((0, 0, 1, 2, 5, 20)))
    kind = random.random()
    if kind < 0.6:
        middle = random.choice(pieces)
    elif kind < 0.8:
        middle = ""
    else:
        middle = text[at:end] * random.choice((2, 3, 100))
    return text[:at] + middle + text[end:]


# ---- JSON ----


def scalar(random: Random) -> Any:
    kind = random.random()
    if kind < 0.4:
        return integer(random)
    if kind < 0.55:
        return random.choice(FLOATS)
    if kind < 0.85:
        return random.choice(TEXTS)
    return random.choice((None, True, False, [], {}, [[]], [None], {"": None}, [1, 2], {"type": "x"}))


def of_json(random: Random, value: Any, other: Any = None, skip: Sequence[str] = ()) -> Any:
    """`value` with one to four changes at places drawn from its whole tree; `value` itself is not changed.

    `other` lends parts of itself. Keys in `skip` are left alone at the top level.
    """
    for _ in range(1 << random.randrange(3)):
        value = _change(random, value, other, skip, top=True)
    return value


def _change(random: Random, value: Any, other: Any, skip: Sequence[str], top: bool = False) -> Any:
    """One change, here or further down: containers on the way are copied."""
    if isinstance(value, dict) and value:
        keys = [key for key in value if key not in skip] if top and skip else list(value)
        if not keys:
            return value
        if chance(random, 0.75):
            key = random.choice(keys)
            return {**value, key: _change(random, value[key], part(other, key), skip)}
        return _changed_dict(random, value, other, random.choice(keys))
    if isinstance(value, list) and value:
        at = random.randrange(len(value))
        if chance(random, 0.75):
            return [*value[:at], _change(random, value[at], part(other, at), skip), *value[at + 1 :]]
        return _changed_list(random, value, at)
    return _changed_scalar(random, value, other)


def part(other: Any, key: Any) -> Any:
    """What another value has at that place, None where it has none."""
    if isinstance(other, dict):
        return other.get(key)
    return other[key] if isinstance(other, list) and isinstance(key, int) and key < len(other) else None


def _changed_dict(random: Random, value: dict[str, Any], other: Any, key: str) -> dict[str, Any]:
    kind = random.random()
    if kind < 0.4:
        return {k: v for k, v in value.items() if k != key}
    if kind < 0.55:
        return {of_text(random, k) if k == key else k: v for k, v in value.items()}
    if kind < 0.7:
        return {**value, random.choice(TEXTS): scalar(random)}
    if kind < 0.85 and isinstance(other, dict) and other:
        lent = random.choice(list(other))
        return {**value, lent: other[lent]}
    return {**value, key: random.choice((None, [value[key]], {key: value[key]}, scalar(random)))}


def _changed_list(random: Random, value: list[Any], at: int) -> list[Any]:
    kind = random.random()
    if kind < 0.3:
        return value[:at] + value[at + 1 :]
    if kind < 0.5:
        return value[:at] + [value[at]] * random.choice((2, 2, 3, 40)) + value[at + 1 :]
    if kind < 0.7:
        there = random.randrange(len(value))
        swapped = list(value)
        swapped[at], swapped[there] = value[there], value[at]
        return swapped
    return [*value[:at], scalar(random), *value[at:]]


def _changed_scalar(random: Random, value: Any, other: Any) -> Any:
    kind = random.random()
    if kind < 0.1 and other is not None:
        return other
    if isinstance(value, str) and kind < 0.7:
        return of_text(random, value)
    if type(value) is int and kind < 0.8:
        return integer(random, value)
    if isinstance(value, float) and kind < 0.6:
        return random.choice((-value, value * 2, value / 2, *FLOATS))
    if isinstance(value, bool) and kind < 0.6:
        return not value
    return scalar(random)


def dumped(random: Random, value: Any) -> bytes:
    """JSON bytes of a value; now and then with what no JSON writer would write."""
    # a lone surrogate goes out as an escape where the text is ASCII, else as bytes that are no UTF-8
    raw = json.dumps(value, ensure_ascii=chance(random, 0.3), separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    return of_json_text(random, raw) if chance(random, 0.1) else raw


def of_json_text(random: Random, raw: bytes) -> bytes:
    """JSON bytes with a word put where it does not belong, or a doubled stretch, which doubles keys."""
    kind = random.random()
    at = random.randrange(len(raw) + 1)
    if kind < 0.6:
        return raw[:at] + random.choice(WORDS_OF_JSON) + raw[at + random.choice((0, 0, 1, 4)) :]
    if kind < 0.9:
        start = raw.rfind(b",", 0, at)
        end = raw.find(b",", at)
        return raw[:end] + raw[max(start, 0) : end] + raw[end:] if end > 0 else of_bytes(random, raw)
    return of_bytes(random, raw, raw)


def load_json(raw: bytes) -> Any:
    """The value of JSON bytes, None where they are none: such a mutant is gone on with as bytes."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None

"""A tokenizer.json in two parts: its settings, which are read, and its tables, which only the library reads.

Words and merges are nearly all of such a file, and only the library knows what to do with them. So they stay
the text that they are, once their form is known to be one that nests nothing; what is left is small and is
read by the strict reader. The library is given what `to_bytes` makes of both, never the file itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeq.errors import FormatError
from edgeq.formats import strictjson
from edgeq.tokenizer.base import BLOB_MARKS_MAX

SETTINGS_BYTES_MAX = 16 << 20  # Gemma 3's 6415 added tokens, the most in use, have 1.3 MB
DEPTH_MAX = 64  # levels of lists and objects in them

# Possessive throughout: what has matched is never tried in another way, so time and memory stay bounded.
_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"'
_NUMBER = rb"-?+[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"


def _items(item: bytes, opening: bytes = rb"\[", closing: bytes = rb"\]") -> bytes:
    """The expression of a list of any number of items. `~` is space here."""
    return opening + b"~(?:" + item + b"~(?:,~" + item + b"~)*+)?+" + closing


_WORD_AND_ID = b"(?:" + _STRING + b"~:~[0-9]++)"
_WORD_AND_SCORE = rb"\[~" + _STRING + b"~,~" + _NUMBER + rb"~\]"
_MERGE = b"(?:" + _STRING + rb"|\[~" + _STRING + b"~,~" + _STRING + rb"~\])"


def _compiled(expression: bytes) -> re.Pattern[bytes]:
    return re.compile(expression.replace(b"~", rb"[ \t\r\n]*+"), re.DOTALL)


# key: the forms that its table may have
_TABLES = {
    "vocab": _compiled(b"(?:" + _items(_WORD_AND_ID, rb"\{", rb"\}") + b"|" + _items(_WORD_AND_SCORE) + b")"),
    "merges": _compiled(_items(_MERGE)),
}
_COLON = _compiled(b"~:~")
_WORD = _compiled(_WORD_AND_ID)
_BETWEEN_SPACES = _compiled(b"(?:" + _STRING + rb'|[^" \t\r\n]++)++')
_PLACE = ""  # what stands in the settings for a table


@dataclass(frozen=True)
class Document:
    """A tokenizer.json. settings["model"] has an empty string for each of the tables, whose JSON text is in
    `tables` by its key.
    """

    settings: dict[str, Any]
    tables: dict[str, bytes | memoryview]

    @classmethod
    def parse(cls, raw: bytes) -> Document:
        """FormatError for what is no JSON object, or more than a tokenizer needs."""
        if sum(map(raw.count, (b",", b":", b"[", b"{"))) > BLOB_MARKS_MAX:
            raise FormatError(f"tokenizer.json has more than {BLOB_MARKS_MAX} commas, colons and brackets")
        found = sorted(_found(raw))
        tables: dict[str, bytes | memoryview] = {key: memoryview(raw)[start:end] for start, end, key in found}
        ends = [0, *(end for _, end, _ in found)]
        starts = [*(start for start, _, _ in found), len(raw)]
        if sum(starts) - sum(ends) > SETTINGS_BYTES_MAX:
            raise FormatError(
                f"tokenizer.json has more than {SETTINGS_BYTES_MAX} bytes beside its words and merges"
            )
        text = b'""'.join(raw[end:start] for end, start in zip(ends, starts, strict=True))
        settings = strictjson.parse(text, "tokenizer.json", depth_max=DEPTH_MAX)
        if not isinstance(settings, dict):
            raise FormatError(
                f"tokenizer.json holds a JSON {type(settings).__name__}, but an object is needed"
            )
        model = settings.get("model")
        if any(not isinstance(model, dict) or model.get(key) != _PLACE for key in tables):
            raise FormatError("tokenizer.json has a table of words or merges outside its model")
        return cls(settings, tables)

    def with_settings(self, changes: Mapping[str, Any]) -> Document:
        """The document with other values for some keys beside "model"."""
        return replace(self, settings={**self.settings, **changes})

    def to_bytes(self) -> bytes:
        """The JSON text: compact but for the tables, which are as they were."""
        model = self.settings.get("model")
        if not isinstance(model, dict):
            return compact(self.settings)
        inner = _object((key, self.tables.get(key) or compact(value)) for key, value in model.items())
        return _object(
            (key, inner if key == "model" else compact(value)) for key, value in self.settings.items()
        )

    def respelled(self) -> Document:
        """The document with tables that are compact, too. FormatError for half of a surrogate pair."""
        return replace(self, tables={key: _respelled(table) for key, table in self.tables.items()})

    def words(self) -> int:
        """The number of words of the model that have an id beside them, one that is there twice twice."""
        return sum(1 for _ in _WORD.finditer(self.tables.get("vocab", b"")))


def compact(value: Any) -> bytes:
    """A value as JSON without spaces; text stays text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _found(raw: bytes) -> Iterator[tuple[int, int, str]]:
    """(start, end, key) of each value that is a table, wherever it stands. FormatError for a second of a key.

    In JSON a quote that no backslash precedes begins or ends a string, so that a key is found by its letters:
    what is found elsewhere is no JSON, which the strict reader sees. A key that is spelled otherwise is not
    found, and its value is one of the settings.
    """
    for key, form in _TABLES.items():
        word, at, before = b'"%s"' % key.encode(), 0, False
        while (start := raw.find(word, at)) >= 0:
            at = start + len(word)
            colon = _COLON.match(raw, at)
            if colon and raw[start - 1 : start] != b"\\" and (value := form.match(raw, colon.end())):
                if before:
                    raise FormatError(f"tokenizer.json has two tables called {key}")
                yield *value.span(), key
                at, before = value.end(), True


def _object(members: Iterable[tuple[str, bytes | memoryview]]) -> bytes:
    parts: list[bytes | memoryview] = []
    for key, value in members:
        parts += [b"," if parts else b"{", compact(key), b":", value]
    return b"".join([*parts, b"}"]) if parts else b"{}"


def _respelled(table: bytes | memoryview) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        text = match[0]
        return json.dumps(json.loads(text), ensure_ascii=False).encode() if b"\\u" in text else text

    table = b"".join(_BETWEEN_SPACES.findall(table))
    if b"\\u" not in table:
        return table
    try:
        return re.sub(_STRING, plain, table, flags=re.DOTALL)
    except UnicodeEncodeError:
        raise FormatError("tokenizer.json holds half of a surrogate pair, which is no character") from None
    except ValueError as error:
        raise FormatError(f"tokenizer.json is not JSON: {str(error)[:120]}") from None

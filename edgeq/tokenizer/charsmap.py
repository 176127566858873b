"""The table of a `Precompiled` normalizer: a trie of what is replaced and the texts that replace it.

Four bytes give the length of the trie, a double array of 32-bit units; zero-ended UTF-8 texts follow.
The library follows the trie without looking at its ends, so every unit that a text can lead to is looked at.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from edgeq.errors import FormatError

CHARSMAP_BYTES_MAX = 1 << 20  # four times the largest in use
REPLACEMENT_BYTES_MAX = 256
KEY_BYTES_MAX = 64

Array = np.ndarray[Any, Any]


def check_charsmap(encoded: object) -> None:
    """FormatError for a base64 charsmap that would lead the library out of its table."""
    try:
        raw = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
    except (ValueError, binascii.Error):
        raw = b""
    size = int.from_bytes(raw[:4], "little")
    if not 8 <= len(raw) <= CHARSMAP_BYTES_MAX or size % 4 or not 4 <= size <= len(raw) - 4:
        raise _broken("has no trie")
    texts = raw[4 + size :]
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError:
        raise _broken("has replacements that are not UTF-8") from None
    if max(map(len, texts.split(b"\0")), default=0) > REPLACEMENT_BYTES_MAX:
        raise _broken(f"has a replacement of more than {REPLACEMENT_BYTES_MAX} bytes")
    starts = _values(np.frombuffer(raw, "<u4", size // 4, 4).astype(np.int64))
    characters = np.frombuffer(texts + b"\0", np.uint8)
    if (starts > len(texts)).any() or (characters[starts] & 0xC0 == 0x80).any():
        raise _broken("points outside of its replacements")


def _values(units: Array) -> Array:
    """The values of all leaves that a text can lead to; int64."""
    count = len(units)
    offsets = (units >> 10) << ((units & 512) >> 6)
    labels = units & 0x800000FF
    seen = np.zeros(count, bool)
    found = []
    ready = np.zeros(1, np.int64)  # units that were just reached
    for _ in range(KEY_BYTES_MAX):
        seen[ready] = True
        places = ready ^ offsets[ready]
        if (places | 255).max() >= count:
            raise _broken("leads out of its trie")
        found.append(units[places[(units[ready] >> 8) & 1 == 1]] & 0x7FFFFFFF)
        parts = []
        for start in range(0, len(places), 4096):
            next_ = places[start : start + 4096, None] ^ np.arange(1, 256)
            parts.append(next_[(labels[next_] == np.arange(1, 256)) & ~seen[next_]])
        ready = np.unique(np.concatenate(parts))
        if not ready.size:
            return np.concatenate(found)
    raise _broken(f"has a key of more than {KEY_BYTES_MAX} bytes")


def _broken(what: str) -> FormatError:
    return FormatError(f"the precompiled_charsmap of tokenizer.json {what}")

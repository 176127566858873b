"""What a tokenizer.json may do to a text, checked before the library that runs it sees the file.

The library takes steps of any number and any effect: a text can grow a thousandfold, a regular expression can
take forever, a damaged table stops the library with a report of its own. What is looked at here is what the
library is given (edgeq.tokenizer.document), not another reading of the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer.charsmap import check_charsmap
from edgeq.tokenizer.patterns import check_regex

STEPS_MAX = 16
GROWTH_MAX = 64  # how many times as long all steps of one kind may make a text
CONTENT_CHARS_MAX = 64  # of what a step puts into a text
PATTERN_CHARS_MAX = 4096
WORD_CHARS_MAX = 1000  # of a word that becomes word pieces; BERT's have 100

LISTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
# Step: how many times as long it makes a text where no rule below says so.
GROWTH: dict[str, dict[str, int]] = {
    "normalizer": {
        "Replace": 1, "Prepend": 1, "Strip": 1, "StripAccents": 1, "Lowercase": 1, "Nmt": 1, "NFC": 2,
        "NFD": 2, "NFKC": 4, "NFKD": 4, "BertNormalizer": 4, "Precompiled": 4, "ByteLevel": 4,
    },
    "pre_tokenizer": {
        "Split": 1, "Whitespace": 1, "WhitespaceSplit": 1, "Punctuation": 1, "Digits": 1, "UnicodeScripts": 1,
        "CharDelimiterSplit": 1, "BertPreTokenizer": 1, "Metaspace": 2, "ByteLevel": 4,
    },
    "decoder": {
        "Replace": 1, "ByteLevel": 1, "Metaspace": 1, "ByteFallback": 1, "Fuse": 1, "Strip": 1,
        "WordPiece": 1, "BPEDecoder": 1, "CTC": 1,
    },
}  # fmt: skip


def check_settings(settings: dict[str, Any]) -> None:
    """FormatError or UnsupportedError for a tokenizer.json with steps that are no tokenizer's."""
    for key, known in GROWTH.items():
        if settings.get(key) is not None:
            _check_steps(key, settings[key], known)
    model = settings.get("model")
    words = model if isinstance(model, dict) else {}
    prefix, pieces = words.get("continuing_subword_prefix"), words.get("type") == "WordPiece"
    if pieces:  # it tries all ends of a word for each of its beginnings
        most = words.get("max_input_chars_per_word", WORD_CHARS_MAX)
        if type(most) is not int or not 0 < most <= WORD_CHARS_MAX:
            raise FormatError(
                f"max_input_chars_per_word of tokenizer.json is {most!r:.40}, no whole number from 1 to "
                f"{WORD_CHARS_MAX}"
            )
    if prefix and not (pieces and prefix == "##"):
        raise UnsupportedError(
            f"the continuing_subword_prefix {prefix!r:.40} of tokenizer.json is not supported"
        )


def _check_steps(key: str, value: Any, known: dict[str, int]) -> None:
    growth = 1
    for count, step in enumerate(_flat(value, LISTS[key])):
        if count == STEPS_MAX:
            raise FormatError(f"the {key} of tokenizer.json has more than {STEPS_MAX} steps")
        kind = step.get("type") if isinstance(step, dict) else None
        if not isinstance(kind, str) or kind not in known:
            raise UnsupportedError(
                f"the {key} {kind!r:.60} of tokenizer.json is not supported, only {', '.join(known)}"
            )
        own = RULES[kind](step) if kind in RULES else 1
        growth *= max(own, known[kind])
        if growth > GROWTH_MAX:
            raise FormatError(
                f"the {key} of tokenizer.json may make a text more than {GROWTH_MAX} times as long"
            )


def _flat(value: Any, name: str) -> Iterator[Any]:
    if isinstance(value, dict) and value.get("type") == "Sequence":
        inner = value.get(name)
        for step in inner if isinstance(inner, list) else [inner]:
            yield from _flat(step, name)
    else:
        yield value


def _replace(step: dict[str, Any]) -> int:
    content, (kind, pattern) = step.get("content"), _pattern(step)
    if not isinstance(content, str) or len(content) > CONTENT_CHARS_MAX:
        raise _wrong("Replace", content)
    if kind == "Regex":  # it may match nothing, and then all of `content` is more
        return 1 + len(content)
    return -(-len(content) // len(pattern))


def _prepend(step: dict[str, Any]) -> int:
    content = step.get("prepend")
    if not isinstance(content, str) or len(content) > CONTENT_CHARS_MAX:
        raise _wrong("Prepend", content)
    return 1


def _wrong(step: str, content: object) -> FormatError:
    return FormatError(
        f"a {step} of tokenizer.json puts in {content!r:.80}, "
        f"no text of at most {CONTENT_CHARS_MAX} characters"
    )


def _split(step: dict[str, Any]) -> int:
    _pattern(step)
    return 1


def _precompiled(step: dict[str, Any]) -> int:
    check_charsmap(step.get("precompiled_charsmap"))
    return 1


RULES: dict[str, Callable[[dict[str, Any]], int]] = {
    "Replace": _replace, "Prepend": _prepend, "Split": _split, "Precompiled": _precompiled,
}  # fmt: skip


def _pattern(step: dict[str, Any]) -> tuple[str, str]:
    """("String" or "Regex", what it says) of a checked pattern."""
    pattern = step.get("pattern")
    kind, text = next(iter(pattern.items())) if isinstance(pattern, dict) and len(pattern) == 1 else ("", "")
    if kind not in ("String", "Regex") or not isinstance(text, str) or not 0 < len(text) <= PATTERN_CHARS_MAX:
        raise FormatError(
            f"a pattern of tokenizer.json is {pattern!r:.80}, no String or Regex of 1 to {PATTERN_CHARS_MAX} "
            "characters"
        )
    if kind == "Regex":
        check_regex(text)
    return kind, text

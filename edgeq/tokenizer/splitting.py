"""Splits by regular expressions that may take long, run here with a limit of time instead of in the library.

A tokenizer.json whose pre-tokenizer begins with such splits is rewritten: they are run here, on the text as
the file's normalizer leaves it, and the library is given the pieces with a character between them that no
text holds and that its only split takes away.

The patterns are run by the `regex` package, which looks at the clock and at Ctrl-C while it works. Where it
reads something otherwise than the library does (^, \\w, classes in classes, ...), the pattern is refused. To
both, $ is the end of any line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer.document import Document
from edgeq.tokenizer.patterns import is_quick

BETWEEN = "\ufdd0"  # a noncharacter, meant for a program's own use
SECONDS, SECONDS_PER_CHARACTER = 1.0, 1e-5  # what a split may take
BEHAVIORS = ("Isolated", "Removed")

Normalize = Callable[[str], str]

# Constructs that mean the same to both: literals, escapes, classes without classes in them, groups that only
# group, look-ahead and look-behind, repeats.
_ESCAPE = r"\\(?:[rntsSdD]|[pP]\{\^?\w+\}|[^\w\s])"
_CLASS = rf"\[\^?(?:{_ESCAPE}|[^\\\[\]&~|-]|(?<=[^\[^])-)+\]"
_SHARED = re.compile(
    rf"(?:{_ESCAPE}|{_CLASS}|\((?:\?(?:i?:|[=!]|<[=!]))?|\)|[*+?][?+]?|\{{\d+(?:,\d*)?\}}\??|[^\\\[\](){{}}*+?^])*"
)


class Splitter:
    """The splits of a tokenizer.json that the library is not given."""

    def __init__(self, steps: list[dict[str, Any]], normalize: Normalize) -> None:
        import regex

        self._normalize = normalize
        self._steps: list[tuple[Any, bool, bool]] = []
        for step in steps:
            kind, pattern = next(iter(step["pattern"].items()))
            if step.get("behavior") not in BEHAVIORS:
                raise UnsupportedError(
                    f"the split {pattern!r:.80} of tokenizer.json is {step.get('behavior')!r:.40}; of "
                    f"patterns that may take long only {' and '.join(BEHAVIORS)} ones are supported"
                )
            if kind == "Regex" and not _SHARED.fullmatch(pattern):
                raise UnsupportedError(
                    f"the regular expression {pattern!r:.80} of tokenizer.json is none of those that are "
                    "known, and holds what only known ones may hold"
                )
            try:
                compiled = regex.compile(
                    regex.escape(pattern) if kind == "String" else pattern, regex.V0 | regex.M
                )
            except (regex.error, OverflowError, RecursionError) as error:
                raise FormatError(f"the regular expression {pattern!r:.80} is broken ({error})") from None
            self._steps.append((compiled, step["behavior"] == "Isolated", step.get("invert") is True))

    def __call__(self, text: str) -> str:
        """The normalized text with BETWEEN between its pieces; FormatError when that takes too long."""
        text = self._normalize(text)
        if BETWEEN in text:
            raise UnsupportedError("the text holds U+FDD0, which is no character of any text")
        pieces = [text]
        limit = SECONDS + SECONDS_PER_CHARACTER * len(text)
        end = time.monotonic() + limit
        try:
            for step in self._steps:
                pieces = [part for piece in pieces for part in _cut(piece, *step, end)]
        except TimeoutError:
            raise FormatError(
                f"a regular expression of the tokenizer.json takes more than {limit:.1f} s for a text of "
                f"{len(text)} characters"
            ) from None
        return BETWEEN.join(pieces)


def _cut(text: str, pattern: Any, keep: bool, invert: bool, end: float) -> Iterator[str]:
    """The pieces of a text, none empty: what lies between the matches, and with `keep` the matches; with
    `invert` their roles are changed.
    """
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    at = 0
    for match in pattern.finditer(text, timeout=left):
        for start, stop, matched in ((at, match.start(), False), (*match.span(), True)):
            if start < stop and (keep or matched == invert):
                yield text[start:stop]
        at = match.end()
    if at < len(text) and (keep or not invert):
        yield text[at:]


def rewritten(document: Document) -> tuple[Document, list[dict[str, Any]]]:
    """(a tokenizer.json for the library, the splits to be run before it): none where all patterns are quick.

    The document's steps have been checked. UnsupportedError where a pattern that may take long stands where
    it cannot be run here.
    """
    settings = document.settings
    steps = _flat(settings.get("pre_tokenizer"))
    slow = [n for n, step in enumerate(steps) if not _quick(step)]
    for part in ("normalizer", "decoder", "post_processor"):
        if not all(map(_quick, _flat(settings.get(part)))):
            raise UnsupportedError(
                f"a regular expression in the {part} of tokenizer.json may take long, and is none of those "
                "that are known"
            )
    if not slow:
        return document, []
    count = slow[-1] + 1
    if any(step.get("type") != "Split" for step in steps[:count]):
        raise UnsupportedError(
            "a regular expression of the tokenizer.json's pre_tokenizer may take long, and stands behind a "
            "step that is no split"
        )
    only = {"type": "Split", "pattern": {"String": BETWEEN}, "behavior": "Removed", "invert": False}
    pieces = {"type": "Sequence", "pretokenizers": [only, *steps[count:]]}
    return document.with_settings({"pre_tokenizer": pieces, "normalizer": None}), steps[:count]


def _flat(part: Any) -> list[dict[str, Any]]:
    """The steps of a component, sequences flattened."""
    if not isinstance(part, dict):
        return []
    if part.get("type") != "Sequence":
        return [part]
    lists = (part.get(name) for name in ("normalizers", "pretokenizers", "decoders", "processors"))
    return [inner for steps in lists if isinstance(steps, list) for step in steps for inner in _flat(step)]


def _quick(step: dict[str, Any]) -> bool:
    pattern = step.get("pattern")
    return not isinstance(pattern, dict) or "Regex" not in pattern or is_quick(str(pattern["Regex"]))

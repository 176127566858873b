"""Regular expressions of tokenizers: those that are known, and what may be said of others.

The library that splits text tries every way that a pattern leaves open, cannot be interrupted, and gives up
only after minutes. So it is given patterns that are known to take time in proportion to the text, and such as
are too simple to take more; `splitting` runs the others.
"""

from __future__ import annotations

import re

from edgeq.errors import UnsupportedError

# How a text is cut into words that merges do not cross. These are the models' own, as their tokenizer.json
# or llama.cpp's table of tokenizer.ggml.pre has them.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT2_SHORT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CASELESS = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
REST = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"
LLAMA3 = rf"{CASELESS}|\p{{N}}{{1,3}}|{REST}"
QWEN2 = rf"{CASELESS}|\p{{N}}|{REST}"
QWEN35 = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BEFORE = r"[^\r\n\p{L}\p{N}]?"  # what a word may begin with
TEKKEN = rf"{BEFORE}{UPPER}*{LOWER}+|{BEFORE}{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
GPT4O = (
    rf"{BEFORE}{UPPER}*{LOWER}+{CONTRACTIONS}?|{BEFORE}{UPPER}+{LOWER}*{CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
)
DIGIT, THREE_DIGITS = r"\p{N}", r"\p{N}{1,3}"
CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}"
)
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT)
FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")
LINES = r"[^\n]+|\n+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"

KNOWN = frozenset(
    [GPT2, GPT2_SHORT, LLAMA3, QWEN2, QWEN35, TEKKEN, GPT4O, DIGIT, THREE_DIGITS, CJK, DEEPSEEK3, LINES]
    + [BLOOM, *DEEPSEEK_CODER, *FALCON]
)

# One place of a pattern matches one character: a literal, an escape of a character or of a class, a class.
_ESCAPE = r"\\[rntsSdD]|\\[pP]\{\w+\}|\\[^\w\s]"
_PLACE = rf"(?:[^\\\[\](){{}}*+?|^$]|{_ESCAPE}|\[\^?\]?(?:[^\\\[\]&]|{_ESCAPE})+\])"
# Places that are there once, and a last one that may be repeated: nothing after it makes the library go back.
_SIMPLE = re.compile(rf"{_PLACE}{{0,16}}{_PLACE}(?:[*+?]|\{{\d{{1,2}}(?:,\d{{0,2}})?\}})?")


def is_quick(pattern: str) -> bool:
    """Whether the library takes a time in proportion to the text for it, whatever the text is."""
    return pattern in KNOWN or all(_SIMPLE.fullmatch(part) for part in _parts(pattern))


def _parts(pattern: str) -> list[str]:
    """The alternatives of a pattern without groups; the pattern itself where it has some."""
    return [pattern] if "(" in pattern or "[" in pattern else pattern.split("|")


# ---- patterns that may take forever ----

_TOKEN = re.compile(
    r"\\(?:[pPx]\{[^}]*\}|.)|\(\?#|\(\?(?:<[=!]|<\w*>|[ims-]*[:)]|[=!>])|\(\??|\)|\||\["
    r"|[*+?][?+]?|\{(?:\d+(?:,\d*)?|,\d+)\}[?+]?|.",
    re.S,
)


def check_regex(pattern: str) -> None:
    """Refuses what can take exponential time: repeats of parts that repeat or branch, and calls of parts.

    An exact count, as in (?:\\d{3})*, is no such repeat.  UnsupportedError says so.
    """
    open_groups = [False]  # for each open group: can what it holds match the same text in several ways?
    last = False  # the same of what a quantifier would repeat
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        word = token[0] if token else pattern[at]
        at += len(word)
        if word == "[":
            at = _after_class(pattern, at)
            last = False
        elif word[0] == "(" and word[-1] != ")":
            if word in ("(?", "(?#"):
                raise _refused(pattern, "has a kind of group that is not supported")
            open_groups.append(False)
        elif word == ")":
            if len(open_groups) == 1:
                raise _refused(pattern, "closes a group that is not open")
            last = open_groups.pop()
            open_groups[-1] = open_groups[-1] or last
        elif word == "|":
            open_groups[-1] = True
            last = False
        elif word[0] in "*+?" or word[0] == "{" and len(word) > 1:
            low, high = _bounds(word)
            if last and high > 1:
                raise _refused(pattern, "repeats a part that repeats or branches itself")
            if low != high:
                # a group may take one of several lengths: fine once, not when repeated
                last = open_groups[-1] = True
        elif re.match(r"\\[gk1-9]", word):
            raise _refused(pattern, "refers to a part of itself")
        else:
            last = False


def _bounds(word: str) -> tuple[int, int]:
    """The fewest and most repeats of a quantifier; no end is a large number."""
    if word[0] != "{":
        return (1 if word[0] == "+" else 0), (1 if word[0] == "?" else 1 << 30)
    low, comma, high = word[1 : word.index("}")].partition(",")
    least = int(low[:9] or 0)
    return least, (int(high[:9]) if high else 1 << 30) if comma else least


def _after_class(pattern: str, at: int) -> int:
    """The position after the ] of the class whose [ is before `at`; classes may hold classes."""
    depth, first = 1, True  # a ] that comes first is one of the class's characters
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "[":
            depth, first = depth + 1, True
            continue
        if character == "^" and first:
            continue
        if character == "\\":
            at += 1
        elif character == "]" and not first:
            depth -= 1
            if not depth:
                return at
        first = False
    raise _refused(pattern, "has a class that does not end")


def _refused(pattern: str, why: str) -> UnsupportedError:
    return UnsupportedError(f"the regular expression {pattern!r:.80} of tokenizer.json {why}")

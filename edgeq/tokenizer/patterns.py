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
MINICPM5 = rf"{CASELESS}|\p{{N}}+|{REST}"
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
DEEPSEEK_LETTERS = (  # cased letters, as that tokenizer lists them
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370"
    "-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-"
    "\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-"
    "\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-"
    "\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4"
    "\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a"
    "-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-"
    "\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-"
    "\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-"
    "\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{DEEPSEEK_LETTERS}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"(?<!\s)\s+$",  # as \s+$, which the library would try anew from every space of a run
    "[一-龥ࠀ-一가-퟿]+",
    r"\p{N}+",
)
FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")
LINES = r"[^\n]+|\n+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"

KNOWN = frozenset(
    [GPT2, GPT2_SHORT, LLAMA3, QWEN2, QWEN35, TEKKEN, GPT4O, DIGIT, THREE_DIGITS, CJK, DEEPSEEK3, LINES]
    + [BLOOM, MINICPM5, *DEEPSEEK_CODER, *DEEPSEEK_LLM, *FALCON]
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

"""Random texts for tokenizers: scripts, runs of digits and of spaces, marks, emoji, code, spellings."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

# first and last character of what is drawn from together
SCRIPTS = [
    *[(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF), (0x400, 0x52F)],
    *[(0x531, 0x58F), (0x5D0, 0x5F4), (0x600, 0x6FF), (0x710, 0x74A), (0x780, 0x7B1), (0x7C0, 0x7FA)],
    *[(0x800, 0x83E), (0x904, 0x97F), (0x980, 0x9FE), (0xA01, 0xA75), (0xB82, 0xBFA), (0xD00, 0xD7F)],
    *[(0xE01, 0xE5B), (0xE80, 0xEDF), (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF)],
    *[(0x1200, 0x137C), (0x13A0, 0x13FD), (0x1780, 0x17F9), (0x1820, 0x1878), (0x1C90, 0x1CBF)],
    *[(0x1D00, 0x1DBF), (0x1E00, 0x1FFE), (0x2C60, 0x2C7F), (0x3041, 0x3096), (0x30A0, 0x30FF)],
    *[(0x3105, 0x312F), (0x4E00, 0x9FFF), (0xA000, 0xA48C), (0xA720, 0xA7FF), (0xAB30, 0xABBF)],
    *[(0xAC00, 0xD7A3), (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFE70, 0xFEFC), (0xFF21, 0xFFDC)],
    *[(0x10400, 0x1044F), (0x118A0, 0x118DF), (0x12000, 0x12399), (0x1D400, 0x1D7CB), (0x1E900, 0x1E943)],
    (0x20000, 0x2A6DF),
]
DIGITS = [(0x30, 0x39)] * 6 + [
    *[(0xB2, 0xB3), (0xBC, 0xBE), (0x660, 0x669), (0x6F0, 0x6F9), (0x966, 0x96F), (0xE50, 0xE59)],
    *[(0x1369, 0x137C), (0x17E0, 0x17E9), (0x2070, 0x2079), (0x2150, 0x2189), (0x2460, 0x249B)],
    *[(0x3021, 0x3029), (0x3280, 0x3289), (0xFF10, 0xFF19), (0x1D7CE, 0x1D7FF), (0x10107, 0x10133)],
]
MARKS = [
    *[(0x300, 0x36F), (0x483, 0x489), (0x591, 0x5BD), (0x64B, 0x65F), (0x93A, 0x94F), (0x1AB0, 0x1ABE)],
    *[(0x20D0, 0x20F0), (0x302A, 0x302F), (0x3099, 0x309A), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F)],
]
SIGNS = [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)] * 2 + [
    *[(0xA1, 0xBF), (0x2010, 0x205E), (0x20A0, 0x20C0), (0x2190, 0x22FF), (0x2500, 0x25FF)],
    *[(0x3001, 0x3020), (0xFF01, 0xFF0F), (0xFE30, 0xFE6B)],
]  # fmt: skip
EMOJI = [(0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF)]
JOINERS = ["", "", "\u200d", "\ufe0f", "\U0001f3fd", "\ufe0f\u200d", "\u20e3"]
SPACES = [" "] * 8 + ["\n"] * 4 + ["\t", "\r\n"] * 2
SPACES += [
    "\r",
    "\xa0",
    "\u2003",
    "\u3000",
    "\x85",
    *"\u2028\u2029\x0b\x0c\x1c\x1f\u1680\u202f\u200b\ufeff\u180e",
]
ENDINGS = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'T",
    "'RE",
    "'Ve",
    "'M",
    "'LL",
    "'D",
    "'x",
    "'",
]
ENDINGS += ["''", "\u2019s", "'lL", "'\u017f", "'s't", "'\u212a"]  # a long s, and the sign of Kelvin
LINE = (
    "the and of Once upon time Hello World don't I'll naïve café Straße ÉCOLE Ångström fiancée Việt "
    "iPhone CamelCaseAndMore SNAKE_CASE snake_case x86_64 e.g. http://example.com/a?b=c#d v1.2.3 1,234.50 "
    "Привет мир ΑΒΓ αβγ שלום مرحبا नमस्ते สวัสดี ខ្មែរ 日本語 テキスト 中文 我在工作 한국어 ქართული հայերեն"
)
WORDS = LINE.split()
CODE = [
    "for (int i = 0; i < n; ++i) {\n\t\treturn x[i] != NULL;\n}\n",
    "def f(self, *args):\n    pass\n\n\n",
    "x = [i**2 for i in range(10)]",
    '<div class="a">\n    &nbsp;</div>\r\n',
    "SELECT * FROM t WHERE a >= 10;",
    '{"k": [1, 2.5e-10, null]}',
    *[
        "\\frac{1}{2}\\\\\n",
        "#include <stdio.h>\n",
        "a/b//c\n//\n/",
        "```python\n",
        "=" * 16,
        "-" * 16 + "\n",
    ],
    *["!!!???...", "->", "=>", "::", "();\n", "$$", "\x1b[0m"],
]
LOOKALIKES = [
    "\u2581",
    "\u2581\u2581",
    "<0x0A>",
    "<0xFF>",
    "\u0120",
    "\u010a",
    "##ing",
    "[UNK]",
    "<s>",
    "</s>",
]
LOOKALIKES += [
    "<|",
    "|>",
    "<|im_end",
    "<unk>",
    "[INST]",
    "\ufffd",
    "\x00",
    "\x7f",
    "\u00ad",
    "\ue000",
    "\uffff",
]


def random_texts(count: int, seed: int, spellings: Sequence[str] = ()) -> Iterator[str]:
    """Texts of up to 24 parts; `spellings` are those of tokens, which some parts have, whole or cut short."""
    draw = random.Random(seed)
    kinds = list(KINDS)
    for _ in range(count):
        own = draw.sample(kinds, draw.randint(1, len(kinds)))  # a text of few kinds has runs of one
        parts = [
            KINDS[draw.choice(own)](draw, spellings) for _ in range(draw.choice((1, 2, 3, 4, 6, 8, 12, 24)))
        ]
        yield draw.choice(("", "", " ")).join(parts)


def _drawn(draw: random.Random, ranges: Sequence[tuple[int, int]], most: int) -> str:
    """A run of characters of one range."""
    first, last = draw.choice(ranges)
    return "".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, most)))


def _any(draw: random.Random, spellings: Sequence[str]) -> str:
    """Characters of any kind, assigned or not; halves of surrogate pairs are none."""
    found = (
        draw.choice((draw.randint(0, 0xFF), draw.randint(0, 0xFFFF), draw.randint(0, 0x10FFFF)))
        for _ in range(4)
    )
    return "".join(chr(c) for c in found if not 0xD800 <= c < 0xE000)


def _marked(draw: random.Random, spellings: Sequence[str]) -> str:
    """Letters with marks, some of which compose with them and some of which stand in another order."""
    return "".join(_drawn(draw, SCRIPTS, 2) + _drawn(draw, MARKS, 3) for _ in range(draw.randint(1, 4)))


def _emoji(draw: random.Random, spellings: Sequence[str]) -> str:
    return "".join(_drawn(draw, EMOJI, 1) + draw.choice(JOINERS) for _ in range(draw.randint(1, 5)))


def _long(draw: random.Random, spellings: Sequence[str]) -> str:
    return draw.choice((_drawn(draw, SCRIPTS, 3), draw.choice(WORDS))) * draw.randint(2, 24)


def _spelling(draw: random.Random, spellings: Sequence[str]) -> str:
    word = draw.choice(spellings or LOOKALIKES)
    return word if draw.random() < 0.7 else word[: draw.randint(0, len(word))]


def _spaces(draw: random.Random, spellings: Sequence[str]) -> str:
    """Runs of one, and of several."""
    run = draw.choice(SPACES) * draw.randint(1, 6)
    return run if draw.random() < 0.6 else run + "".join(draw.choices(SPACES, k=draw.randint(1, 4)))


Kind = Callable[[random.Random, Sequence[str]], str]
KINDS: dict[str, Kind] = {
    "letters": lambda draw, _: _drawn(draw, SCRIPTS, 8),
    "digits": lambda draw, _: _drawn(draw, DIGITS, 10),
    "signs": lambda draw, _: _drawn(draw, SIGNS, 6),
    "words": lambda draw, _: " ".join(draw.choices(WORDS, k=draw.randint(1, 4))),
    "endings": lambda draw, _: draw.choice(WORDS) + draw.choice(ENDINGS),
    "code": lambda draw, _: draw.choice(CODE),
    "lookalikes": lambda draw, _: draw.choice(LOOKALIKES),
    "spaces": _spaces,
    "marked": _marked,
    "emoji": _emoji,
    "long": _long,
    "any": _any,
    "spelling": _spelling,
}

"""Patterns that may take long: run with a limit of time, and cutting as the library would."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer import load, patterns, splitting
from edgeq.tokenizer.patterns import KNOWN, is_quick

TEXTS = [
    "Hello world, it's 2026! I'LL\n\n  go   home\t\r\n x",
    "naïve café — “quotes” … ½ ²³ Ⅷ ١٢٣ 日本語テスト 한국어 ไทย ǅungla ſ's 'S",
    " \u00a0\u2003\u3000  \u200b\u2028end  \n\n\n",
    "a1b22c333d4444 x_y-z+/*<|im_end|>\x1c\x85\x0b",
    "👩‍👩‍👧 e\u0301\u0301 \U0001f1e9\U0001f1ea",
    "",
]
SLOW = r"[ab ]*[ab ]*[ab ]*[ab ]*[xy]"


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def blob(*steps: dict[str, Any], normalizer: Any = None) -> bytes:
    """A tokenizer.json with a token for each byte."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = {c: n for n, c in enumerate(sorted(ByteLevel.alphabet()))}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model: dict[str, Any] = {"type": "BPE", "unk_token": None, "vocab": alphabet, "merges": []}
    data: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    before = {"type": "Sequence", "pretokenizers": [*steps, level]}
    data |= {"normalizer": normalizer, "pre_tokenizer": before, "post_processor": None}
    return json.dumps({**data, "decoder": level, "model": model}, separators=(",", ":")).encode()


def tokenizer(*steps: dict[str, Any], normalizer: Any = None) -> Any:
    return load(
        {"kind": "tokenizer.json", "vocab_size": 256, "byte_level": True}, blob(*steps, normalizer=normalizer)
    )


def library_cuts(step: dict[str, Any], text: str) -> list[str]:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    behavior = step["behavior"].lower()
    cut = Split(Regex(step["pattern"]["Regex"]), behavior, step["invert"])
    return [piece for piece, _ in cut.pre_tokenize_str(text)]


SHARED = sorted(pattern for pattern in KNOWN if splitting._SHARED.fullmatch(pattern))


def test_most_known_patterns_could_be_run_here() -> None:
    assert len(SHARED) > len(KNOWN) * 2 / 3 and patterns.LLAMA3 in SHARED and patterns.GPT4O in SHARED


@pytest.mark.parametrize("behavior", splitting.BEHAVIORS)
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    "pattern", [*SHARED, r"[^\s]+?(?=[xy]| )", r"\d{2,3}|(?<=\s)\S", "a|", r"(?i:HE)l*", r"\s+$", "[a-z]+$"]
)
def test_cuts_are_the_library_s(pattern: str, behavior: str, invert: bool) -> None:
    step = split(pattern, behavior, invert)
    splitter = splitting.Splitter([step], str)
    for text in TEXTS:
        assert [p for p in splitter(text).split(splitting.BETWEEN) if p] == library_cuts(step, text), text


def test_ids_are_the_library_s() -> None:
    """Several splits one after another, behind a normalizer, the first of which may take long."""
    from tokenizers import Tokenizer

    steps = [split(r"\s?[xyz]*[xyz]+"), split(patterns.GPT2)]
    ours = tokenizer(*steps, normalizer={"type": "NFKC"})
    theirs = Tokenizer.from_str(blob(*steps, normalizer={"type": "NFKC"}).decode())
    assert ours._split is not None
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids


SIMPLE = ["[0-9]+", " {2,}", r"\n|\t", "abc", r"[\p{L}]{1,3}", r"\p{Lu}"]


@pytest.mark.parametrize("pattern", [*sorted(KNOWN), *SIMPLE])
def test_quick_patterns(pattern: str) -> None:
    """The library gets these, and a long text of any kind does not keep it."""
    assert is_quick(pattern)
    made = tokenizer(split(pattern))
    assert made._split is None
    for part in ("a", " ", "1", "A", "\n", "!", "ab ", " \n x", "漢", "'l"):
        made.encode(part * (20000 // len(part)))


@pytest.mark.parametrize("pattern", [SLOW, ".{1,50}.{1,20}(?<!.)", "a*b", r"\d+x", "(?:a|b)c", "x{100}"])
def test_patterns_that_are_not_quick(pattern: str) -> None:
    assert not is_quick(pattern)


def test_a_split_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(splitting, "SECONDS", 0.05)
    made = tokenizer(split(SLOW))
    with pytest.raises(FormatError, match="takes more than 0.1 s for a text of 6000 characters"):
        made.encode("a b " * 1500)
    assert capfd.readouterr().err == "" and made.encode("a b") != []


def test_ctrl_c_passes() -> None:
    script = (
        "import signal, sys\nfrom tests.tokenizer.test_splitting import *\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nsplitting.SECONDS = 1000\n"
        "made = tokenizer(split(SLOW))\nprint('ready', flush=True)\nmade.encode('a b ' * 100000)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in child.communicate()[1]


@pytest.mark.parametrize(
    ("steps", "normalizer", "word"),
    [
        ([split("^a*b")], None, "none of those that are known"),
        ([split(r"\w*a")], None, "none of those that are known"),
        ([split("[a[b]]*c")], None, "none of those that are known"),
        ([split("a*b", "MergedWithPrevious")], None, "'MergedWithPrevious'"),
        ([{"type": "Digits", "individual_digits": True}, split("a*b")], None, "no split"),
        ([], {"type": "Replace", "pattern": {"Regex": "a*b"}, "content": ""}, "in the normalizer"),
    ],
)
def test_what_cannot_be_run_here_is_refused(steps: Any, normalizer: Any, word: str) -> None:
    with pytest.raises(UnsupportedError, match=word):
        tokenizer(*steps, normalizer=normalizer)


def test_a_text_with_the_character_between_pieces_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="FDD0"):
        tokenizer(split("a*b")).encode("x\ufdd0y")

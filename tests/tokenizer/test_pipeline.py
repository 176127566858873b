"""The steps of a tokenizer.json: known ones pass, hostile ones are refused before the library sees them."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.converters import vocabulary
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.tokenizer import load, modelproto
from edgeq.tokenizer.charsmap import check_charsmap
from edgeq.tokenizer.patterns import check_regex
from edgeq.tokenizer.tokenizer_json import checked
from tests.patience import cheap

SPEC = {"kind": "tokenizer.json", "vocab_size": 10, "byte_level": True}
MODEL: dict[str, Any] = {"type": "BPE", "unk_token": None, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": []}


def blob(**parts: Any) -> bytes:
    """A small tokenizer.json."""
    data: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    data |= {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    data["model"] = MODEL
    return json.dumps({**data, **parts}, separators=(",", ":")).encode()


def replace(old: str, new: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: old}, "content": new}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def nested(depth: int) -> dict[str, Any]:
    step: dict[str, Any] = {"type": "NFC"}
    for _ in range(depth):
        step = sequence(step)
    return step


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "doublings": (blob(normalizer=sequence(*[replace("a", "aa")] * 12)), "more than 64 times as long"),
    "large content": (blob(normalizer=replace("a", "b" * 65)), "a Replace of tokenizer.json puts in 'bbbb"),
    "large prefix": (blob(normalizer={"type": "Prepend", "prepend": "b" * 65}), "a Prepend of tokenizer"),
    "many steps": (blob(normalizer=sequence(*[{"type": "Lowercase"}] * 17)), "more than 16 steps"),
    "many cuts": (
        blob(pre_tokenizer={"type": "Sequence", "pretokenizers": [BYTES] * 4}), "more than 64 times as long"
    ),
    "unknown step": (blob(normalizer={"type": "Later"}), "the normalizer 'Later' of tokenizer.json is not"),
    "unknown cut": (blob(pre_tokenizer={"type": "FixedLength", "length": 0}), "pre_tokenizer 'FixedLength'"),
    "step without type": (blob(normalizer={"normalizers": []}), "the normalizer None"),
    "list": (blob(normalizer=[]), "the normalizer None"),
    "pattern of nothing": (blob(normalizer=replace("", "x")), "no String or Regex of 1 to 4096"),
    "long pattern": (blob(pre_tokenizer=split("a" * 4097)), "no String or Regex of 1 to 4096"),
    "exponential": (blob(pre_tokenizer=split("(a+)+$")), "repeats a part that repeats or branches"),
    "exponential decoder": (blob(decoder=replace("(a|a)*b", "", "Regex")), "repeats a part that repeats"),
    "second value": (blob()[:-1] + b',"normalizer":{"type":"Later"}}', "the key 'normalizer' twice"),
    "spaces": (blob()[:-1] + b',"normalizer" :\n {"type":"Later"}}', "the key 'normalizer' twice"),
    "escaped key": (blob()[:-1] + b',"n\\u006frmalizer":{"type":"Later"}}', "the key 'normalizer' twice"),
    "key twice": (blob()[:-1] + b',"normalizer":{"type":"NFC","type":"Later"}}', "the key 'type' twice"),
    "deep": (blob(normalizer=nested(300)), "nested deeper than 64 levels"),
    "very deep": (blob()[:-1] + b',"normalizer":' + b'{"a":[' * 100_000, "nested deeper than 64 levels"),
    "prefix of parts": (
        blob(model={**MODEL, "continuing_subword_prefix": "####", "merges": ["a b"]}), "subword_prefix '####'"
    ),
    "no charsmap": (blob(normalizer={"type": "Precompiled", "precompiled_charsmap": ""}), "has no trie"),
    "not UTF-8": (b'{"\xff', "not UTF-8 at byte 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_steps(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, pattern = HOSTILE[name]
    with cheap(2), pytest.raises((FormatError, UnsupportedError)) as caught:
        load(SPEC, data)
    assert re.search(pattern, str(caught.value)) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # no report of the library's own


def test_words_that_are_named_like_parts() -> None:
    words = {"normalizer": 0, "decoder": 1, "pre_tokenizer": 2, '"normalizer"': 3, "\\u0041": 4, "\n": 5}
    tokenizer = load(SPEC, blob(model={**MODEL, "vocab": words}, normalizer={"type": "NFC"}))
    assert tokenizer.spelling(4) == "\\u0041" and tokenizer.id('"normalizer"') == 3


GOOD = [
    vocabulary.GPT2, vocabulary.LLAMA3, vocabulary.QWEN2, r"[^\n]+|\n+", r"\p{N}", "[0-9][0-9][0-9]",
    r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", r" ?[^(\s|[.,!?…。，、।۔،])]+", r"[(\[]+|[])]|\[|[^]]",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\s+(?!\S)",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+", r"(?<=a)b{2}", "{",
]  # fmt: skip
BAD = [
    "(a+)+", "(a*)*", "(?:a?){30}", "((a{1,5}))+", "(a|b)+", "(a|b){2,}", "(?i:a+){3}", "(?=a+)+", "a++*",
    "(?x)a", "(?x:a)", r"(a)\1", r"(?<n>a)\k<n>", r"(?<n>a\g<n>?)", "(?(1)a|b)", "(?~a)", "(?#a)", "a)", "[a",
    "(?>a|b)*", r"(?:[(\[]+)+", r"(?:[]]+)+", "(?:[[a]]+)+", "(?'n'a)",
]  # fmt: skip


@pytest.mark.parametrize("pattern", GOOD)
def test_patterns_of_tokenizers(pattern: str) -> None:
    check_regex(pattern)


@pytest.mark.parametrize("pattern", BAD)
def test_patterns_that_may_take_forever(pattern: str) -> None:
    with pytest.raises(UnsupportedError, match="the regular expression"):
        check_regex(pattern)


# ---- Precompiled ----


@pytest.fixture(scope="module")
def charsmap() -> bytes:
    """The table that sentencepiece gives a model with its usual rules."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ab ba aab b a bb"] * 9), model_writer=out, vocab_size=9, minloglevel=9,
        hard_vocab_limit=False,
    )  # fmt: skip
    spec = next(value for number, _, value in modelproto.read_fields(out.getvalue()) if number == 3)
    assert isinstance(spec, bytes)
    table = next(value for number, _, value in modelproto.read_fields(spec) if number == 2)
    assert isinstance(table, bytes)
    return table


def precompiled(table: bytes) -> bytes:
    text = base64.b64encode(table).decode()
    return blob(normalizer={"type": "Precompiled", "precompiled_charsmap": text})


def test_a_real_table(charsmap: bytes) -> None:
    tokenizer = load({**SPEC, "vocab_size": 3}, precompiled(charsmap))
    assert tokenizer.encode("\uff41b") == [0, 1]  # a wide a


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda table: b"", "has no trie"),
        (lambda table: table[:2], "has no trie"),
        (lambda table: table[:1000], "has no trie"),
        (lambda table: struct.pack("<I", 1 << 31) + table[4:], "has no trie"),
        (lambda table: struct.pack("<I", 0) + b"abcd", "has no trie"),
        (lambda table: struct.pack("<III", 8, 0x7FFFFC00, 0) + b"abc", "leads out of its trie"),
        (lambda table: table + b"\xff", "not UTF-8"),
        (lambda table: table + b"a" * 257, "replacement of more than 256 bytes"),
        (lambda table: table + bytes(1 << 20), "has no trie"),
        (lambda table: table[: 4 + int.from_bytes(table[:4], "little")] + b"\0", "points outside"),
    ],
)
def test_damaged_tables(
    charsmap: bytes, damage: Callable[[bytes], bytes], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FormatError, match=sentence):
        load(SPEC, precompiled(damage(charsmap)))
    assert capfd.readouterr().err == ""


def test_mutated_tables_are_refused_or_harmless(charsmap: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """What passes the check makes the library stumble over no text."""
    random = np.random.default_rng(5)
    size = int.from_bytes(charsmap[:4], "little")
    texts = "".join(map(chr, random.integers(1, 0xD7FF, 3000)))
    passed = 0
    for _ in range(25):
        table = bytearray(charsmap)
        for at in random.integers(4, 4 + size, 3):
            table[at] ^= 1 << int(random.integers(0, 8))
        try:
            check_charsmap(base64.b64encode(table).decode())
        except FormatError:
            continue
        passed += 1
        load(SPEC, precompiled(bytes(table))).encode(texts)
    assert passed and capfd.readouterr().err == ""


def test_a_table_that_goes_round() -> None:
    units = np.zeros(256, "<u4")
    units[:] = np.arange(256)  # offset 0: each unit leads to all, which have their own letters
    table = struct.pack("<I", 1024) + units.tobytes() + b"a\0"
    check_charsmap(base64.b64encode(table).decode())


def test_real_files_pass(data_dir: Path) -> None:
    with cheap(0.5):
        checked((data_dir / "tokenizers" / "gpt2" / "tokenizer.json").read_bytes())


def test_converting_refuses_the_same(tmp_path: Path) -> None:
    from edgeq.converters.tokenizers import from_directory

    (tmp_path / "tokenizer.json").write_bytes(blob(normalizer=sequence(*[replace("a", "aa")] * 12)))
    with pytest.raises(EdgeqError, match="more than 64 times as long"):
        from_directory(tmp_path)

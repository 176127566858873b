"""Tokenizers to test with: six real vocabularies (optional data) and small ones made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from edgeq.converters import tokenizers as converter
from edgeq.tokenizer import Tokenizer, load

VOCABULARIES = ["llama-spm", "phi-3", "gemma-4", "gpt-2", "llama-bpe", "qwen2"]
# Others of llama.cpp's models/ggml-vocab-*.gguf, which are held to the same where the test data has them.
MORE = [
    "bert-bge",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "mpt",
    "qwen35",
    "refact",
    "starcoder",
]

STRINGS = [
    *["", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n \n", "Hello", " Hello", "  Hello world "],
    *[
        "Hello, y'all! I've 'told",
        "naïve café — „Zitat“",
        "Здравствуйте",
        "ខ្មែរ ភាសា",
        "日本語テキスト",
        "한국어",
        "שלום עולם",
    ],
    *["🚀 😶‍🌫️ 🦙🦙", "a\u0300\u0301", "3 33 333 3333 33333", "x = [i**2 for i in range(10)]\n\tprint(x)\n"],
    *["\u00a0\u2003\u3000", "\x00\x01\x7f", "▁under▁score", "<0x0A>", "\ufffd", "!!!!!!......??????"],
    *["CamelCaseAndSNAKE_CASE", "e" * 300],
]


def small_json(**changes: Any) -> dict[str, Any]:
    """A byte-level tokenizer.json: the 256 bytes, a few merges, two special tokens and one marker."""
    from edgeq.tokenizer.tokenizer_json import byte_alphabet

    words = [c for c, _ in sorted(byte_alphabet().items(), key=lambda item: item[1])]
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "hello"), ("<", "|")]
    words += [left + right for left, right in merges]
    added = [("<|end|>", True), ("<|start|>", True), ("<think>", False), ("<b>", False)]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": len(words) + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": special}
            for i, (text, special) in enumerate(added)
        ],
        "normalizer": None,
        "pre_tokenizer": step,
        "post_processor": None,
        "decoder": step,
        "model": {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)}, "merges": merges},
        **changes,
    }  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Callable[..., Path]:
    """directory(name=JSON value, …): a directory with the files name.json."""

    def make(**files: Any) -> Path:
        for name, value in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
        return tmp_path

    return make


@cache
def gguf_tokenizer(path: Path) -> Tokenizer:
    from edgeq.formats.gguf import open_gguf

    if not path.exists():
        pytest.skip(f"there is no {path}")
    made = converter.from_gguf(open_gguf(path).metadata, pooled=True)
    assert made is not None
    return load(*made)


@pytest.fixture(scope="session")
def vocabulary(data_dir: Path) -> Callable[[str], Tokenizer]:
    """vocabulary(name): the tokenizer of one of VOCABULARIES."""
    return lambda name: gguf_tokenizer(data_dir / "vocab" / f"ggml-vocab-{name}.gguf")


@pytest.fixture(scope="session")
def demo(demo_checkpoint: Path) -> Tokenizer:
    """The sentencepiece tokenizer of the bundled model: 512 pieces with byte fallback."""
    made = converter.from_directory(demo_checkpoint)
    assert made is not None
    return load(*made)


@pytest.fixture
def small(directory: Callable[..., Path]) -> Tokenizer:
    made = converter.from_directory(directory(tokenizer=small_json()))
    assert made is not None
    return load(*made)

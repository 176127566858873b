"""Vocabularies inside GGUF metadata: small ones made here, and everything that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest

from edgeq.converters.tokenizers import from_gguf
from edgeq.converters.vocabulary import SPLITS
from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer import Tokenizer, load, modelproto
from tests.tokenizer.conftest import STRINGS, small_json


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    found = from_gguf(metadata)
    assert found is not None
    return load(*found)


def pieces_metadata(checkpoint: Path) -> dict[str, Any]:
    """The bundled sentencepiece model as GGUF writes one."""
    pieces = modelproto.read_pieces((checkpoint / "tokenizer.model").read_bytes())
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.text for piece in pieces],
        "tokenizer.ggml.scores": [piece.score for piece in pieces],
        "tokenizer.ggml.token_type": [piece.type for piece in pieces],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def bytes_metadata(pre: str = "gpt-2") -> dict[str, Any]:
    """The small byte-level vocabulary as GGUF writes one."""
    data = small_json()
    words = [*data["model"]["vocab"], *(token["content"] for token in data["added_tokens"])]
    types = [1] * len(data["model"]["vocab"]) + [
        3 if token["special"] else 4 for token in data["added_tokens"]
    ]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in data["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 263,
        "tokenizer.ggml.eos_token_id": 262,
    }


def test_pieces_give_the_ids_of_the_model(demo: Tokenizer, demo_checkpoint: Path) -> None:
    tokenizer = tokenizer_of(pieces_metadata(demo_checkpoint))
    assert tokenizer.spec.add_bos and tokenizer.eos_ids == {2}
    for text in ("Once upon a time", "Lily was happy.\n", "naïve 🦙", "a" * 100):
        assert tokenizer.encode(text) == demo.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_give_the_ids_of_the_json(small: Tokenizer) -> None:
    tokenizer = tokenizer_of(bytes_metadata())
    assert tokenizer.reserved_ids == small.reserved_ids
    for text in [*STRINGS, "hello hello<|end|>", "<think>hello</think>", "<b>"]:
        for special in (False, True):
            assert tokenizer.encode(text, special=special) == small.encode(text, special=special)
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", ["add_eos_token", "add_sep_token"])
def test_tokens_behind_a_text_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"tokenizer.ggml.{name} is true"):
        from_gguf(bytes_metadata() | {f"tokenizer.ggml.{name}": True})
    assert from_gguf(bytes_metadata() | {f"tokenizer.ggml.{name}": False})


@pytest.mark.parametrize("pre", SPLITS)
def test_every_way_of_splitting_keeps_the_text(pre: str) -> None:
    tokenizer = tokenizer_of(bytes_metadata(pre) | {"tokenizer.ggml.add_bos_token": False})
    for text in STRINGS:
        want = normalize("NFC", text) if SPLITS[pre].normalizer else text  # as those tokenizers were made
        assert tokenizer.decode(tokenizer.encode(text)) == want


def test_bos_when_the_file_does_not_say() -> None:
    assert tokenizer_of(bytes_metadata("llama-bpe")).encode("hello") == [263, 259]
    assert tokenizer_of(bytes_metadata("qwen2")).encode("hello") == [259]
    unset = bytes_metadata("qwen2") | {"tokenizer.ggml.bos_token_id": 0xFFFFFFFF}
    assert tokenizer_of(unset).bos_id is None


def test_no_vocabulary() -> None:
    assert from_gguf({"general.architecture": "llama"}) is None


def test_unknown_names_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="'t5'.*known are llama, gpt2"):
        from_gguf({"tokenizer.ggml.model": "t5"})
    with pytest.raises(UnsupportedError, match="'poro-chat'.*known are gpt-2, .*llama-bpe"):
        from_gguf(bytes_metadata("poro-chat"))
    missing = bytes_metadata()
    del missing["tokenizer.ggml.pre"]
    with pytest.raises(UnsupportedError, match="'default'"):
        from_gguf(missing)


BROKEN = {
    "model": 5,
    "pre": ["gpt-2"],
    "tokens": [1, 2],
    "token_type": [1],
    "merges": ["a"],
    "bos_token_id": 1 << 63,
    "eos_token_id": -1,
    "add_bos_token": 1,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_metadata(name: str) -> None:
    with pytest.raises((FormatError, UnsupportedError)) as caught:
        from_gguf(bytes_metadata() | {f"tokenizer.ggml.{name}": BROKEN[name]})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scores", [float("nan")] * 512),
        ("scores", [1.0]),
        ("token_type", [9] * 512),
        ("token_type", [6] * 512),
        ("tokens", []),
        ("tokens", ["\ud800"] * 512),
        ("tokens", ["same"] * 512),
    ],
)
def test_broken_pieces(demo_checkpoint: Path, name: str, value: list[Any]) -> None:
    with pytest.raises(FormatError) as caught:
        from_gguf(pieces_metadata(demo_checkpoint) | {f"tokenizer.ggml.{name}": value})
    assert "\n" not in str(caught.value)

"""Tokenizers of Hugging Face directories: what the files say is what the spec says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.converters import tokenizers as converter
from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer import Tokenizer, load
from tests.tokenizer.conftest import STRINGS, small_json


def made(path: Path) -> Tokenizer:
    found = converter.from_directory(path)
    assert found is not None
    spec, blob = found
    assert json.loads(json.dumps(spec)) == spec  # it goes into a JSON header
    return load(spec, blob)


def test_the_golden_prompt(demo: Tokenizer) -> None:
    assert demo.encode("Once upon a time") == [1, 403, 407, 261, 378]
    assert demo.encode("Once upon a time", add_bos=False) == [403, 407, 261, 378]
    assert demo.decode([1, 403, 407, 261, 378]) == "Once upon a time"
    assert (demo.bos_id, demo.eos_ids, demo.vocab_size) == (1, frozenset({2}), 512)
    assert demo.token(403) == b" Once" and demo.id("▁Once") == 403 and demo.id("no such piece") is None


@pytest.mark.parametrize("name", ["stories260K", "babyllama_tok105", "gutenberg-7m"])
def test_sentencepiece_checkpoints(data_dir: Path, name: str) -> None:
    """Ids and text are those of the library with the checkpoint's own model."""
    from sentencepiece import SentencePieceProcessor

    path = data_dir / "models" / name
    tokenizer, library = made(path), SentencePieceProcessor(model_file=str(path / "tokenizer.model"))
    for text in [*STRINGS, "</s>", "<s>", "<unk>", "a <s> b</s>"]:
        ids = tokenizer.encode(text, add_bos=False)
        assert ids == library.encode(text)
        if library.unk_id() not in ids and "▁" not in text:  # which the library prints as each model says
            assert tokenizer.decode(ids) == library.decode(ids)
        assert tokenizer.reserved_ids.isdisjoint(ids)
    assert tokenizer.encode("a</s>", add_bos=False, special=True) == [*library.encode("a"), 2]


def test_gpt2_checkpoint(data_dir: Path) -> None:
    from tokenizers import Tokenizer as Library

    path = data_dir / "tokenizers" / "gpt2"
    tokenizer, library = made(path), Library.from_file(str(path / "tokenizer.json"))
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.spec.add_bos) == (50256, frozenset({50256}), False)
    for text in STRINGS:
        ids = tokenizer.encode(text)
        assert ids == library.encode(text).ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.reserved_ids.isdisjoint(tokenizer.encode("<|endoftext|>"))
    assert tokenizer.encode("a<|endoftext|>", special=True) == library.encode("a<|endoftext|>").ids


def test_no_tokenizer(tmp_path: Path) -> None:
    assert converter.from_directory(tmp_path) is None


def test_names_of_special_tokens(directory: Callable[..., Path]) -> None:
    path = directory(
        tokenizer=small_json(),
        tokenizer_config={
            "bos_token": {"content": "<|start|>"},
            "eos_token": "<|end|>",
            "add_bos_token": True,
        },
        generation_config={"eos_token_id": [262, 10]},
        config={"eos_token_id": 5, "vocab_size": 266},
    )
    tokenizer = made(path)
    assert tokenizer.bos_id == 263 and tokenizer.eos_id == 262 and tokenizer.eos_ids == {262, 10, 5}
    assert tokenizer.control_ids == {262, 263}  # ids that end a text may be plain words
    assert tokenizer.encode("hello") == [263, 259]
    assert tokenizer.encode("hello", add_bos=False) == [259]
    assert tokenizer.encode("<|start|>hello", special=True) == [263, 259]  # not twice


def test_markers_are_printed_but_never_typed(small: Tokenizer) -> None:
    think, bold = 264, 265
    assert small.reserved_ids == {262, 263, think}
    assert think not in small.encode("<think>") and small.encode("<think>", special=True) == [think]
    assert small.decode([think, 259, 262]) == "<think>hello"
    assert small.decode([think, 259, 262], special=True) == "<think>hello<|end|>"
    assert small.encode("<b>") == [bold]  # HTML is text


def test_tokens_outside_the_model_are_left_out(directory: Callable[..., Path]) -> None:
    tokenizer = made(directory(tokenizer=small_json(), config={"vocab_size": 264}))
    assert tokenizer.vocab_size == 264 and tokenizer.id("<think>") is None
    assert tokenizer.decode(tokenizer.encode("<think>", special=True)) == "<think>"


def test_post_processor_says_that_a_text_begins_with_bos(directory: Callable[..., Path]) -> None:
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|start|>": {"id": "<|start|>", "ids": [263], "tokens": ["<|start|>"]}},
    }
    tokenizer = made(directory(tokenizer=small_json(post_processor=template)))
    assert tokenizer.bos_id == 263 and tokenizer.encode("hello") == [263, 259]


def test_flags_of_added_tokens(directory: Callable[..., Path]) -> None:
    data = small_json()
    data["added_tokens"][0]["rstrip"] = data["added_tokens"][1]["lstrip"] = True
    tokenizer = made(directory(tokenizer=data))
    assert tokenizer.encode("hello<|end|> \nhello  <|start|>x", special=True) == [
        259,
        262,
        259,
        263,
        ord("x"),
    ]


def metaspace(scheme: str) -> dict[str, Any]:
    """A tokenizer.json in the manner of converted sentencepiece models, with byte fallback."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁b"]
    return small_json(
        added_tokens=[
            {"id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i in range(3)
        ],
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False},
        decoder={"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        model={"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
               "vocab": {word: i for i, word in enumerate(words)}, "merges": [("▁", "a"), ("▁", "b")]},
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_the_space_before_a_text(directory: Callable[..., Path], scheme: str) -> None:
    """After a control token as the library does it with a whole text, and away again in decoding."""
    from tokenizers import Tokenizer as Library

    data = metaspace(scheme)
    if scheme == "never":
        data["decoder"]["decoders"].pop()
    tokenizer, library = made(directory(tokenizer=data)), Library.from_str(json.dumps(data))
    for text in ("a", " a", "<s>a", "a</s>b", "<s> a </s>a b", "é<s>é"):
        want = library.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, special=True, add_bos=False) == want
    for text in ("a b", " a", "  a", "é", "日本"):
        ids = tokenizer.encode(text, add_bos=False)
        assert tokenizer.decode(ids) == library.decode(ids)
        # the library puts no second space before a text that begins with one
        assert tokenizer.decode(ids) == (text if scheme == "never" else text.removeprefix(" "))


def test_added_tokens_of_a_sentencepiece_model(demo_checkpoint: Path, tmp_path: Path) -> None:
    """Tokens that a checkpoint adds behind its tokenizer.model become pieces of it."""
    shutil.copy(demo_checkpoint / "tokenizer.model", tmp_path)
    decoder = {
        "1": {"content": "<s>", "special": True},
        "512": {"content": "<|im_start|>", "special": True},
        "514": {"content": "<|im_end|>", "special": True, "rstrip": True},
        "515": {"content": "wordy", "special": False},
        "9999": {"content": "<beyond>", "special": True},
    }
    settings = {
        "added_tokens_decoder": decoder,
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "legacy": False,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 520}))
    tokenizer = made(tmp_path)
    assert tokenizer.vocab_size == 516 and tokenizer.eos_id == 514
    assert {512, 514} <= tokenizer.control_ids and 513 not in tokenizer.control_ids
    once = [403, 407, 261, 378]
    assert tokenizer.encode("<|im_start|>Once upon a time<|im_end|> \n", special=True)[-1] == 514
    assert 512 not in tokenizer.encode("<|im_start|>")
    assert tokenizer.encode("a wordy", add_bos=False)[-1] == 515
    assert tokenizer.encode("Once upon a time", add_bos=False) == once


def test_an_added_token_that_contradicts_the_model(demo_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(demo_checkpoint / "tokenizer.model", tmp_path)
    settings = {"added_tokens_decoder": {"300": {"content": "<other>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedError, match=r"added token 300 is '<other>'"):
        converter.from_directory(tmp_path)


def test_a_decoder_that_cannot_be_streamed(directory: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedError, match="WordPiece"):
        converter.from_directory(
            directory(tokenizer=small_json(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}))
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"a":NaN}',
        '{"a":1,"a":2}',
        "[" * 100_000,
        '{"version":"1.0"}',
        '{"model":{"type":"BPE"}}',
        "\xff",
    ],
)
def test_broken_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError) as caught:
        converter.from_directory(tmp_path)
    assert "\n" not in str(caught.value)

"""Words of tokenizer_config.json: honoured, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeq.converters.tokenizers import from_directory
from edgeq.errors import EdgeqError
from edgeq.tokenizer import Tokenizer, load
from edgeq.tokenizer.pieces import SPACE


def loaded(folder: Path) -> Tokenizer:
    found = from_directory(folder)
    assert found is not None
    return load(*found)


def with_words(source: Path, folder: Path, **words: Any) -> Path:
    """The files of a tokenizer with other words in tokenizer_config.json."""
    for name in ("tokenizer.json", "tokenizer.model", "config.json"):
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
    known = source / "tokenizer_config.json"
    settings = json.loads(known.read_text()) if known.is_file() else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | words))
    return folder


@pytest.mark.parametrize("legacy", [{}, {"legacy": False}, {"legacy": True}, {"legacy": None}])
def test_no_space_before_a_text(legacy: dict[str, Any], demo_checkpoint: Path, tmp_path: Path) -> None:
    """transformers and llama.cpp put none there, also after a control token, and decoding takes none away."""
    none = loaded(with_words(demo_checkpoint, tmp_path, add_prefix_space=False, **legacy))
    for text in ("Once upon", "é x", "a\n\nb", ""):
        found = [none.spelling(id) for id in none.encode(text, add_bos=False)]
        assert not "".join(found).startswith(SPACE)
        assert none.decode(none.encode(text)) == text
    ids = none.encode("a<s>b", special=True, add_bos=False)
    assert [none.spelling(id) for id in ids] == ["a", "<s>", "b"]


def test_a_space_before_a_text(demo_checkpoint: Path, tmp_path: Path) -> None:
    same = loaded(with_words(demo_checkpoint, tmp_path, add_prefix_space=True))
    assert same.encode("Once") == loaded(demo_checkpoint).encode("Once")


def json_tokenizer(folder: Path, add: bool | None, **parts: Any) -> Tokenizer:
    vocab = {c: n for n, c in enumerate(f"{SPACE}abĠ")}
    data: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    data |= {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "Fuse"}}
    data["model"] = {"type": "BPE", "unk_token": None, "vocab": vocab, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps(data | parts))
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": add}))
    return loaded(folder)


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
META = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
PREPEND = {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": SPACE}, {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
]}  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "add", "want"),
    [
        ({"pre_tokenizer": LEVEL, "decoder": LEVEL}, None, "a"),
        ({"pre_tokenizer": LEVEL, "decoder": LEVEL}, False, "a"),
        ({"pre_tokenizer": LEVEL, "decoder": LEVEL}, True, "Ġa"),
        ({"pre_tokenizer": {**LEVEL, "add_prefix_space": True}, "decoder": LEVEL}, False, "a"),
        ({"pre_tokenizer": META, "decoder": META}, None, SPACE + "a"),
        ({"pre_tokenizer": META, "decoder": META}, True, SPACE + "a"),
        ({"pre_tokenizer": META, "decoder": META}, False, "a"),
        ({"normalizer": PREPEND}, None, SPACE + "a"),
        ({"normalizer": PREPEND}, False, "a"),
    ],
)
def test_the_word_reaches_a_tokenizer_json(
    parts: dict[str, Any], add: bool | None, want: str, tmp_path: Path
) -> None:
    tokenizer = json_tokenizer(tmp_path, add, **parts)
    assert "".join(tokenizer.spelling(id) for id in tokenizer.encode("a")) == want
    if want == "a":
        assert tokenizer.decode(tokenizer.encode("a")) == "a"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"add_eos_token": True}, "add_eos_token is True, but only False"),
        ({"split_special_tokens": True}, "split_special_tokens is True"),
        ({"do_lower_case": True}, "do_lower_case is True"),
        ({"sp_model_kwargs": {"enable_sampling": True}}, "sp_model_kwargs is"),
        ({"add_prefix_space": "no"}, "add_prefix_space is 'no', but true or false"),
        ({"add_bos_token": 1}, "add_bos_token is 1"),
        ({"legacy": "false"}, "legacy is 'false'"),
    ],
)
def test_what_is_not_honoured_is_refused(
    words: dict[str, Any], sentence: str, demo_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeqError, match=f"tokenizer_config.json: {sentence}"):
        loaded(with_words(demo_checkpoint, tmp_path, **words))


@pytest.mark.parametrize("words", [{"add_eos_token": False, "sp_model_kwargs": {}, "do_lower_case": None}])
def test_words_that_change_nothing(words: dict[str, Any], demo_checkpoint: Path, tmp_path: Path) -> None:
    loaded(with_words(demo_checkpoint, tmp_path, **words))

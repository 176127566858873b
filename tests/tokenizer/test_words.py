"""The words of tokenizer_config.json that change ids: honoured as transformers does, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.converters import tokenizers as converter
from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer import Tokenizer, load, modelproto
from edgeq.tokenizer.patterns import TEKKEN
from tests.tokenizer.conftest import small_json
from tests.tokenizer.test_directory import metaspace

Directory = Callable[..., Path]
LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def made(path: Path) -> Tokenizer:
    found = converter.from_directory(path)
    assert found is not None
    return load(*found)


def spellings(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.spelling(id) for id in tokenizer.encode(text, add_bos=False, special=True)]


def pieces(path: Path, checkpoint: Path, own: bool, **words: Any) -> Tokenizer:
    """The bundled tokenizer.model, with a flag of its own for the space before a text, beside `words`."""
    model = (checkpoint / "tokenizer.model").read_bytes() + modelproto.PREFIX[own]
    (path / "tokenizer.model").write_bytes(model)
    (path / "tokenizer_config.json").write_text(json.dumps(LLAMA | words))
    return made(path)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("word", [False, True, None])
def test_add_prefix_space_of_a_sentencepiece_model(
    tmp_path: Path, demo_checkpoint: Path, own: bool, word: bool | None
) -> None:
    """The word counts, where there is one: as in transformers and in llama.cpp's converter."""
    space = own if word is None else word
    for legacy in (None, True, False):
        tokenizer = pieces(tmp_path, demo_checkpoint, own, add_prefix_space=word, legacy=legacy)
        each = space and legacy is not False
        want = ["▁Once" if space else "O n ce", "▁upon </s>", "▁Once" if each else "O n ce"]
        assert spellings(tokenizer, "Once upon</s>Once") == " ".join(want).split()
        for text in ("Once upon", "é"):
            assert tokenizer.decode(tokenizer.encode(text)) == text


def old_llama() -> dict[str, Any]:
    """As transformers wrote the tokenizer.json of a Llama tokenizer before 4.40."""
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}
    return metaspace("first") | {"pre_tokenizer": None, "normalizer": normalizer}


def never() -> dict[str, Any]:
    data = metaspace("never")
    data["decoder"]["decoders"].pop()
    return data


FORMS = {"old": old_llama(), "first": metaspace("first"), "always": metaspace("always"), "never": never()}
# (add_prefix_space, legacy) -> the tokens of "<s>a</s>b" by transformers, whatever the file does
REBUILT = {
    (True, True): ["<s>", "▁a", "</s>", "▁b"],
    (True, False): ["<s>", "a", "</s>", "b"],
    (False, True): ["<s>", "a", "</s>", "b"],
    (False, False): ["<s>", "a", "</s>", "b"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("words", REBUILT)
def test_add_prefix_space_of_a_llama_tokenizer_json(
    directory: Directory, form: str, words: tuple[bool, bool]
) -> None:
    prefix, legacy = words
    config = LLAMA | {"add_prefix_space": prefix, "legacy": legacy}
    tokenizer = made(directory(tokenizer=FORMS[form], tokenizer_config=config))
    assert spellings(tokenizer, "<s>a</s>b") == REBUILT[words]
    assert spellings(tokenizer, "a b") == ["▁a" if prefix else "a", "▁b"]
    assert tokenizer.decode(tokenizer.encode("a b")) == "a b"
    assert tokenizer.decode(tokenizer.encode(" a")) == (
        " a" if not prefix or (form, legacy) == ("old", True) else "a"
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "words", [{}, {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False}]
)
def test_the_steps_of_other_files_are_their_own(
    directory: Directory, form: str, words: dict[str, Any]
) -> None:
    plain = made(directory(tokenizer=FORMS[form]))
    found = [spellings(plain, text) for text in ("a b", " a", "<s>a</s>b")]
    tokenizer = made(directory(tokenizer=FORMS[form], tokenizer_config=LLAMA | words))
    assert [spellings(tokenizer, text) for text in ("a b", " a", "<s>a</s>b")] == found


@pytest.mark.parametrize("word", [True, False])
def test_add_prefix_space_of_a_byte_level_tokenizer_json(directory: Directory, word: bool) -> None:
    tokenizer = made(directory(tokenizer=small_json(), tokenizer_config={"add_prefix_space": word}))
    assert spellings(tokenizer, "hello") == (["Ġhello"] if word else ["hello"])


def test_steps_that_are_not_a_llama_s(directory: Directory) -> None:
    data = metaspace("first") | {"normalizer": {"type": "NFKC"}}
    made(directory(tokenizer=data, tokenizer_config=LLAMA | {"add_prefix_space": True}))
    with pytest.raises(UnsupportedError, match="add_prefix_space is false .* not those of a Llama"):
        made(directory(tokenizer=data, tokenizer_config=LLAMA | {"add_prefix_space": False}))


REFUSED = {
    "add_eos_token": True,
    "split_special_tokens": True,
    "do_lower_case": True,
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True,
    "fix_mistral_regex": True,
    "sp_model_kwargs": {"enable_sampling": True, "alpha": 0.1},
}


@pytest.mark.parametrize("word", REFUSED)
def test_words_that_are_refused(directory: Directory, word: str) -> None:
    with pytest.raises(UnsupportedError, match=word):
        made(directory(tokenizer=small_json(), tokenizer_config={word: REFUSED[word]}))
    for value in (False, None) if REFUSED[word] is True else ({}, None):
        assert made(directory(tokenizer=small_json(), tokenizer_config={word: value})).encode("hello")


@pytest.mark.parametrize(
    "word", ["add_bos_token", "add_eos_token", "add_prefix_space", "legacy", "do_lower_case"]
)
@pytest.mark.parametrize("value", ["false", 0, [], {"a": 1}])
def test_words_that_are_neither_true_nor_false(directory: Directory, word: str, value: object) -> None:
    with pytest.raises(FormatError, match=f"{word} of tokenizer_config.json is"):
        made(directory(tokenizer=small_json(), tokenizer_config={word: value}))


def test_fix_mistral_regex_in_a_file_that_has_the_pattern(directory: Directory) -> None:
    split = {"type": "Split", "pattern": {"Regex": TEKKEN}, "behavior": "Isolated", "invert": False}
    data = small_json()
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        split, data["pre_tokenizer"] | {"use_regex": False}
    ]}  # fmt: skip
    assert made(directory(tokenizer=data, tokenizer_config={"fix_mistral_regex": True})).encode("hello")


def test_extra_special_tokens_are_control_tokens(directory: Directory) -> None:
    """Their place since transformers 5: a list, or an object with a name for each."""
    for extra in (["<b>"], {"bold_token": "<b>"}, [{"content": "<b>"}]):
        tokenizer = made(directory(tokenizer=small_json(), tokenizer_config={"extra_special_tokens": extra}))
        assert 265 in tokenizer.control_ids and 265 not in tokenizer.encode("<b>")


def template(*names: str) -> dict[str, Any]:
    """A post-processor that puts tokens around the text, which is "$"."""
    ids = {"<|end|>": 262, "<|start|>": 263}
    form = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if name == "$"
        else {"SpecialToken": {"id": name, "type_id": 0}}
        for name in names
    ]
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    known = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in ids.items()}
    return {"type": "TemplateProcessing", "single": form, "pair": pair, "special_tokens": known}


def test_what_a_post_processor_puts_around_a_text(directory: Directory) -> None:
    def made_with(names: str, **words: Any) -> Tokenizer:
        data = small_json(post_processor=template(*names.split()))
        return made(directory(tokenizer=data, tokenizer_config={"bos_token": "<|start|>"} | words))

    assert made_with("<|start|> $").encode("hello") == [263, 259]
    with pytest.raises(UnsupportedError, match="1 tokens behind each text.*add_eos_token false"):
        made_with("<|start|> $ <|end|>")
    assert made_with("<|start|> $ <|end|>", add_eos_token=False).encode("hello") == [263, 259]
    with pytest.raises(UnsupportedError, match=r"the tokens \[262, 263\] before each text.*add_bos_token"):
        made_with("<|end|> <|start|> $")
    assert made_with("<|end|> <|start|> $", add_bos_token=True).encode("hello") == [263, 259]
    assert made_with("<|end|> $", add_bos_token=False).encode("hello") == [259]


def test_the_file_s_word_on_bos_counts(directory: Directory) -> None:
    """As in llama.cpp's converter; transformers 5 asks the post-processor alone, 4 does as here."""
    both = small_json(post_processor=template("<|start|>", "$"))
    words = {"bos_token": "<|start|>"}
    for data, word, want in (
        (both, False, [259]),
        (small_json(), True, [263, 259]),
        (both, None, [263, 259]),
    ):
        config = words | ({} if word is None else {"add_bos_token": word})
        assert made(directory(tokenizer=data, tokenizer_config=config)).encode("hello") == want


def test_the_bundled_checkpoint_has_none_of_them(tmp_path: Path, demo_checkpoint: Path) -> None:
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(demo_checkpoint / name, tmp_path)
    assert made(tmp_path).encode("Once upon") == [1, 403, 407]

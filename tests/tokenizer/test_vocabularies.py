"""The ids of six real vocabularies are those that their own tests expect, and text comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest

from edgeq.tokenizer import Tokenizer
from tests.tokenizer.conftest import MORE, STRINGS, VOCABULARIES

SEPARATOR = "\n__ggml_vocab_test__\n"


def cases(data_dir: Path, name: str) -> list[tuple[str, list[int]]]:
    """(text, its ids without bos); the last separator may have nothing behind it."""
    stem = data_dir / "vocab" / f"ggml-vocab-{name}.gguf"
    with open(f"{stem}.inp", encoding="utf-8", newline="") as file:
        texts = file.read().split(SEPARATOR)
    lines = Path(f"{stem}.out").read_text(encoding="ascii").splitlines()
    if len(texts) == len(lines) + 1 and not texts[-1]:
        texts.pop()
    return list(zip(texts, ([int(id) for id in line.split()] for line in lines), strict=True))


@pytest.mark.parametrize("name", [*VOCABULARIES, *MORE])
def test_ids_are_exact(vocabulary: Callable[[str], Tokenizer], data_dir: Path, name: str) -> None:
    tokenizer = vocabulary(name)
    listed = cases(data_dir, name)
    assert len(listed) == (50 if name == "qwen35" else 46)
    wrong = [text for text, ids in listed if tokenizer.encode(text, add_bos=False) != ids]
    assert not wrong


@pytest.mark.parametrize("name", VOCABULARIES)
def test_text_comes_back(vocabulary: Callable[[str], Tokenizer], data_dir: Path, name: str) -> None:
    tokenizer = vocabulary(name)
    for text in [*STRINGS, *(text for text, _ in cases(data_dir, name))]:
        ids = tokenizer.encode(text)
        if "▁" in text and not tokenizer.spec.byte_level:
            text = text.replace("▁", " ")  # these vocabularies know only one of the two
        if name == "qwen2":
            text = normalize("NFC", text)  # as that tokenizer was made
        assert tokenizer.decode(ids) == text
        stream = tokenizer.stream(start=True)
        assert "".join([*map(stream.push, ids), stream.flush()]) == text


@pytest.mark.parametrize("name", VOCABULARIES)
def test_no_control_token_comes_from_text(vocabulary: Callable[[str], Tokenizer], name: str) -> None:
    tokenizer = vocabulary(name)
    reserved = sorted(tokenizer.reserved_ids)[:400]
    words = [tokenizer.spelling(id) for id in reserved]
    assert words
    for word in words:
        for text in (word, f" {word}", f"a{word}b", f"{word}{word}", f"\n{word}\n"):
            assert tokenizer.reserved_ids.isdisjoint(tokenizer.encode(text, add_bos=False)), text
    everything = "".join(words)
    ids = tokenizer.encode(everything, add_bos=False)
    assert tokenizer.reserved_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == everything.replace("▁", " ")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_control_tokens_are_found_when_asked_for(vocabulary: Callable[[str], Tokenizer], name: str) -> None:
    tokenizer = vocabulary(name)
    for id in sorted(tokenizer.reserved_ids)[:400]:
        word = tokenizer.spelling(id)
        assert tokenizer.id(word) == id
        assert tokenizer.encode(word, add_bos=False, special=True) == [id]
        found = tokenizer.encode(f"x{word}y", add_bos=False, special=True)
        assert found.count(id) == 1
        assert tokenizer.decode([id], special=True) == word
        assert tokenizer.decode([id]) == ("" if id in tokenizer.control_ids else word)


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2"])
def test_special_text_as_the_library_does_it(vocabulary: Callable[[str], Tokenizer], name: str) -> None:
    """Cutting at control tokens ourselves gives what the library gives when it cuts."""
    from tokenizers import Tokenizer as Library

    from edgeq.tokenizer.tokenizer_json import JsonTokenizer

    tokenizer = vocabulary(name)
    assert isinstance(tokenizer, JsonTokenizer)
    library = Library.from_buffer(tokenizer._document.to_bytes())
    words = [tokenizer.spelling(id) for id in sorted(tokenizer.control_ids)[:3]]
    for text in STRINGS:
        for word in words:
            mixed = f"{text}{word}{text}{word}{word} {text}"
            want = library.encode(mixed, add_special_tokens=False).ids
            assert tokenizer.encode(mixed, add_bos=False, special=True) == want


def test_what_begins_and_ends_a_text(vocabulary: Callable[[str], Tokenizer]) -> None:
    found = {name: vocabulary(name) for name in VOCABULARIES}
    begins = {name: t.encode("a")[0] if t.spec.add_bos else None for name, t in found.items()}
    assert begins == {
        "llama-spm": 1, "phi-3": 1, "gemma-4": 2, "gpt-2": None, "llama-bpe": 128000, "qwen2": None
    }  # fmt: skip
    ends = {name: t.eos_ids for name, t in found.items()}
    assert ends == {
        "llama-spm": {2}, "phi-3": {32000, 32007}, "gemma-4": {1, 106}, "gpt-2": {50256},
        "llama-bpe": {128001, 128009}, "qwen2": {151643, 151645},
    }  # fmt: skip


def test_phi3_tokens_swallow_the_space_after_them(vocabulary: Callable[[str], Tokenizer]) -> None:
    tokenizer = vocabulary("phi-3")
    end = tokenizer.id("<|end|>")
    assert tokenizer.encode("a<|end|> \n b", add_bos=False, special=True) == [
        *tokenizer.encode("a", add_bos=False), end, *tokenizer.encode("b", add_bos=False)
    ]  # fmt: skip
    kept = tokenizer.encode("\x1f b", add_bos=False)  # to Python that is white space, too
    assert tokenizer.encode("<|end|>\u2003\x1f b", add_bos=False, special=True) == [end, *kept]

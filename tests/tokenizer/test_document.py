"""A tokenizer.json in two parts: nothing is lost between them, and nothing hides in the unread one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.converters.tokenizers import from_directory
from edgeq.errors import FormatError
from edgeq.tokenizer.document import Document
from tests.fuzz import vocabularies
from tests.patience import cheap

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VOCABS = st.one_of(
    st.dictionaries(WORDS, st.integers(0, 1 << 20), max_size=6),
    st.lists(st.tuples(WORDS, st.floats(-1e9, 1e9)), max_size=6),
)
MERGES = st.lists(st.one_of(WORDS, st.tuples(WORDS, WORDS)), max_size=6)
OTHERS = st.dictionaries(WORDS, st.recursive(st.none() | WORDS, lambda inner: st.lists(inner, max_size=2)))


@given(vocab=VOCABS, merges=MERGES, settings=OTHERS, more=OTHERS, ascii=st.booleans(), indent=st.booleans())
def test_nothing_is_lost(
    vocab: Any, merges: Any, settings: dict[str, Any], more: dict[str, Any], ascii: bool, indent: bool
) -> None:
    """Whatever the spaces and escapes; and the tables are never among the settings."""
    value = {**settings, "model": {**more, "vocab": vocab, "merges": merges}}
    raw = json.dumps(value, ensure_ascii=ascii, indent=2 if indent else None).encode()
    document = Document.parse(raw)
    assert set(document.tables) == {"vocab", "merges"}
    assert document.words() == (len(vocab) if isinstance(vocab, dict) else 0)
    compact = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert json.loads(document.to_bytes()) == json.loads(raw)
    assert json.loads(document.respelled().to_bytes()) == json.loads(raw)
    escapes = 5 * raw.count(b"\\u")  # those of controls stay
    assert len(document.respelled().to_bytes()) <= len(compact) + escapes
    assert json.loads(document.with_settings({"x": [1]}).to_bytes()) == {**json.loads(raw), "x": [1]}


@pytest.mark.parametrize("made", [vocabularies.byte_level, vocabularies.with_spaces, vocabularies.unigram])
def test_forms_of_real_files(made: Any) -> None:
    document = Document.parse(json.dumps(made(), indent=1).encode())
    assert {key for key in ("vocab", "merges") if key in made()["model"]} == set(document.tables)


def model(text: str) -> bytes:
    return b'{"model":{' + text.encode() + b"}}"


@pytest.mark.parametrize(
    "text",
    [
        '"vocab":{"a":{"normalizer":1}}', '"vocab":{"a":-1}', '"vocab":{"a":1.5}', '"vocab":{"a":null}',
        '"merges":[["a","b","c"]]', '"merges":[["a"]]', '"merges":["a",1]', '"vocab":[["a",[1]]]',
        '"vocab":[["a"]]', '"v\\u006fcab":{"a":1}', '"vocab":"text"', '"merges":{}',
    ],
)  # fmt: skip
def test_what_is_no_table_is_a_setting(text: str) -> None:
    """What the strict reader reads: a file of which this is most is too large."""
    document = Document.parse(model(text))
    assert not document.tables and document.settings == json.loads(model(text))
    assert json.loads(document.to_bytes()) == json.loads(model(text))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (model('"vocab":{"a":1},"vocab":{"b":1}'), "two tables called vocab"),
        (b'"vocab":{},' * 1_000_000, "two tables called vocab"),
        (model('"vocab":{"a":1},"v\\u006fcab":{"b":1}'), "the key 'vocab' twice"),
        (b'{"vocab":{"a":1}}', "outside its model"),
        (b'{"vocab":{"a":1},"model":{"vocab":{"a":1}}}', "two tables called vocab"),
        (b'{"model":[{"vocab":{"a":1}}]}', "outside its model"),
        (b'[{"vocab":{"a":1}}]', "holds a JSON list, but an object is needed"),
        (model('"vocab":{"a":1,}'), "is not JSON"),
        (model('"vocab":{"a":1'), "is not JSON"),
        (model('"x":"vocab":{"a":1}'), "is not JSON"),
        (b'{"model":{"vocab":{"a":1}}', "is not JSON"),
        (b'{"model":' + b"[" * 65, "nested deeper than 64 levels"),
        (b'{"x":"' + b"a" * (16 << 20) + b'"}', "bytes beside its words and merges"),
        (b'{"\xff":1}', "not UTF-8"),
    ],
)
def test_bad_documents(raw: bytes, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        Document.parse(raw)


def test_tables_without_entries_or_elsewhere() -> None:
    """One that stands elsewhere is taken for the model's, which is checked all the same."""
    empty = Document.parse(model('"vocab":[]'))
    assert empty.tables.keys() == {"vocab"} and json.loads(empty.to_bytes()) == {"model": {"vocab": []}}
    moved = Document.parse(model('"vocab":"","x":{"vocab":{"a":1}},"merges":[]'))
    assert moved.tables.keys() == {"vocab", "merges"}


def test_half_of_a_pair() -> None:
    with pytest.raises(FormatError, match="half of a surrogate pair"):
        Document.parse(model('"vocab":{"\\ud83e":1}')).respelled()
    whole = Document.parse(model('"vocab":{"\\ud83e\\udd99":1}')).respelled()
    assert bytes(whole.tables["vocab"]) == '{"🦙":1}'.encode()


@pytest.mark.parametrize(
    "part",
    ['"vocab":{"a":1,', '"vocab":', '"merges":["a b",', '{"vocab":[["a",1],', '"vocab":{"\\\\', '"vocab"\n'],
)
def test_time_stays_linear(part: str) -> None:
    """Tables that begin again and again and never end."""
    with cheap(1), pytest.raises(FormatError):
        Document.parse(part.encode() * 200_000)


def test_a_word_twice(tmp_path: Path) -> None:
    raw = json.dumps(vocabularies.byte_level(), ensure_ascii=False)
    (tmp_path / "tokenizer.json").write_text(raw.replace('"vocab": {', '"vocab": {"a": 7, '), "utf-8")
    with pytest.raises(FormatError, match="has a word twice"):
        from_directory(tmp_path)

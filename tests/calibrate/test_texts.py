"""Calibration text: reading, repetitions, mixing, coverage, and the command."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.calibrate import documents as files
from edgeq.calibrate.texts import (
    Document,
    Message,
    coverage,
    deduplicate,
    default_texts,
    encoded,
    looks_like_code,
    mix,
    read,
    text_sha256,
    write,
)
from edgeq.cli import run_command
from edgeq.errors import EdgeqError, FormatError, UsageError

DOMAINS = ["chat", "code", "encyclopedia", "languages", "mathematics", "prose", "stories"]


def letters(text: str) -> str:
    return "".join(text.split())


# ---- edgeq's own text ----
def test_the_shipped_text_is_whole() -> None:
    documents = default_texts()
    assert sorted({document.domain for document in documents}) == DOMAINS
    told = coverage(documents)
    assert 200_000 < told.bytes < 400_000 and told.chats == 41
    assert deduplicate(documents) == documents
    assert {"Latin", "Cyrillic", "Han", "Arabic", "Devanagari", "Hangul", "Thai"} <= set(told.scripts)
    assert not any(
        "Licence:" in document.plain or "edgeq authors" in document.plain for document in documents
    )


def test_each_shipped_file_says_whose_it_is() -> None:
    notice = (files.SHIPPED / "NOTICE").read_text(encoding="utf-8")
    for path in files.SHIPPED.iterdir():
        assert path.name == "NOTICE" or path.name in notice
        if path.suffix == ".txt":
            head = path.read_text(encoding="utf-8").partition("\f")[0]
            assert "calibration" in head and "icen" in head or "agreement" in head
            assert len(head) < files.PIECE_CHARS  # one document, which default_texts leaves out


def test_code_is_told_from_prose() -> None:
    counted = {name: [0, 0] for name in DOMAINS}
    for document in default_texts():
        counted[document.domain][looks_like_code(document.plain)] += 1
    assert counted["code"][0] == 0
    assert all(counted[name][1] == 0 for name in ("encyclopedia", "languages", "prose", "stories"))


# ---- reading ----
def test_plain_text_is_cut_at_form_feeds_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    long = "\n\n".join(f"{number} " + "word " * 150 for number in range(12))
    path.write_bytes(b"\xef\xbb\xbf" + f"one\r\n  two\n\n \n\nthree\n\f\n \n\f{long}\n".encode())
    found = read([path])
    assert found[0] == Document("notes.txt", "notes", "one\n  two\n\nthree")
    assert all(len(document.text) <= files.PIECE_CHARS for document in found)
    assert [document.text.split()[0] for document in found[1:]] == ["0", "5", "10"]
    assert letters("".join(document.text for document in found[1:])) == letters(long)


@pytest.mark.parametrize("space", ["\n", " ", ""])
def test_a_paragraph_without_end_is_cut(space: str) -> None:
    text = space.join(["abcdefghi"] * 3000)
    found = list(files.pieces(text))
    assert max(map(len, found)) <= files.PIECE_CHARS and min(map(len, found[:-1])) > files.PIECE_CHARS - 20
    assert letters("".join(found)) == letters(text)


def test_json_lines_and_lists(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hi\u2028"}, {"role": "assistant", "content": "Hello!"}]
    rows: list[Any] = [
        "plain",
        {"text": " a ", "id": 3},
        {"messages": said, "domain": "talk", "source": "me"},
    ]
    lines, listed = tmp_path / "a.jsonl", tmp_path / "b.json"
    lines.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    listed.write_text(json.dumps(rows), encoding="utf-8")
    found = read([lines, listed])
    assert found[:2] == [Document("a.jsonl", "a", "plain"), Document("a.jsonl", "a", " a ")]
    assert (
        found[2]
        == found[5]
        == Document("me", "talk", messages=(Message("user", "Hi\u2028"), Message("assistant", "Hello!")))
    )
    assert found[2].plain == "Hi\u2028\n\nHello!" and found[2].nbytes == 13
    assert found[3].source == "b.json"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    documents = default_texts()
    path = tmp_path / "text.jsonl"
    path.write_text("before")
    write(path, documents)
    assert read([path]) == documents
    assert hashlib.sha256(path.read_bytes()).hexdigest() == text_sha256(documents)
    assert os.listdir(tmp_path) == ["text.jsonl"]


def long_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 100)


def many_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "DOCUMENTS_MAX", 3)


def nothing(_: pytest.MonkeyPatch) -> None:
    pass


TALK = '{"messages": [{"role": "user", "content": "x"%s}]}'


@pytest.mark.parametrize(
    ("name", "data", "words", "limit"),
    [
        ("a.txt", b"", "holds no text", nothing),
        ("a.txt", b" \n\f\t\n", "holds no text", nothing),
        ("a.txt", b"ab\xff", "is not UTF-8 text: byte 2 is 0xff", nothing),
        ("a.md", b"ab\0", "byte 2 is zero", nothing),
        ("a.raw", b"x" * 101, "has more than 100 B", long_of),
        ("a.txt", b"\f".join([b"x"] * 4), "more than 3 documents", many_of),
        ("a.jsonl", b'"x"\n{', "line 2, is not JSON", nothing),
        ("a.jsonl", b"3", "line 1, is neither a text nor an object", nothing),
        ("a.jsonl", b'{"txt": "x"}', "either 'text' or 'messages'", nothing),
        ("a.jsonl", b'{"text": "x", "messages": []}', "either 'text' or 'messages'", nothing),
        ("a.jsonl", b'{"text": " "}', "has a text that holds no text", nothing),
        ("a.jsonl", b'{"text": "a\\u0000"}', "U+0000", nothing),
        ("a.jsonl", b'{"text": "\\ud800"}', "surrogate", nothing),
        ("a.jsonl", b'{"text": "x", "domain": "a\\nb"}', "a domain that is no line", nothing),
        ("a.jsonl", b'{"messages": []}', "messages that are no list of 1 to", nothing),
        ("a.jsonl", b'{"messages": ["x"]}', "a message 0 that is no object", nothing),
        ("a.jsonl", (TALK % ', "tool_calls": []').encode(), "of 'role' and 'content' alone", nothing),
        ("a.jsonl", (TALK % "").replace("user", "root").encode(), "the role 'root'", nothing),
        ("a.jsonl", b"[" * 100_000, "nested deeper than 32 levels", nothing),
        ("a.json", b'{"text": "x"}', "is no list of texts", nothing),
        ("a.json", b"[[]]", "item 0, is neither", nothing),
        ("a.json", b"[]", "holds no text", nothing),
    ],
)
def test_broken_files_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes,
    words: str,
    limit: Callable[[pytest.MonkeyPatch], None],
) -> None:
    limit(monkeypatch)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read([tmp_path / name])
    told = str(caught.value)
    assert told.startswith(str(tmp_path / name)) and words in told and "\n" not in told and len(told) < 400


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for name, words in (
        ("nowhere", "No such file"),
        ("pipe.txt", "not a regular file"),
        (".", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=words):
            read([tmp_path / name])
    with pytest.raises(UsageError, match="must be a list of paths"):
        read("a.txt")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    document = Document("a", "a", "text")
    with pytest.raises(UsageError, match=r"ends with \.jsonl"):
        write(tmp_path / "a.txt", [document])
    with pytest.raises(UsageError, match="no documents"):
        write(tmp_path / "a.jsonl", [])
    with pytest.raises(EdgeqError, match="cannot be written"):
        write(tmp_path / "nowhere" / "a.jsonl", [document])
    assert not list(tmp_path.iterdir())


# ---- repetitions ----
def test_repetitions_are_left_out() -> None:
    story, other = (document.plain for document in default_texts()[-2:])
    shouted = Document("b", "b", story.upper().replace(" ", "\n"))
    words = story.split()
    changed = Document("c", "c", " ".join([*words[:60], "suddenly", *words[61:], "The end."]))
    half = Document("d", "d", f"{story[:500]} {other[:1500]}")
    a, e = Document("a", "a", story), Document("e", "e", other)
    assert deduplicate([a, shouted, changed, half]) == [a, half]
    assert deduplicate([a, e, half]) == [a, e]  # all of it was said before
    short = [Document("s", "s", text) for text in ("Yes.", "No.", "yes", "!?", "!?", "…")]
    assert [document.text for document in deduplicate(short)] == ["Yes.", "No.", "!?", "…"]


# ---- mixing ----
def example() -> list[Document]:
    sizes = {"a": 40, "b": 10, "c": 3}
    return [
        Document("x", name, f"{name}{number:02}" * 10) for name, n in sizes.items() for number in range(n)
    ]


def test_mixtures_are_balanced_in_every_beginning() -> None:
    mixed = mix(example(), 600, 1)
    assert sum(document.nbytes for document in mixed) == 600
    taken = {"a": 0, "b": 0, "c": 0}
    for document in mixed[:9]:
        taken[document.domain] += 1
        assert max(taken.values()) - min(taken.values()) <= 1
    assert [sum(document.domain == name for document in mixed) for name in "abc"] == [9, 8, 3]


FIRST = ["a31", "b07", "c02", "a33", "b04", "c00"]  # what SHA-256 says, on every machine


def test_a_mixture_follows_from_the_seed_alone() -> None:
    documents = example()
    first = mix(documents, 600, 1)
    assert mix(documents[::-1], 600, 1) == first != mix(documents, 600, 2)
    assert sorted(mix(documents), key=documents.index) == documents
    assert [document.text[:3] for document in mix(documents, 180, 1)] == FIRST
    assert text_sha256(mix(default_texts(), 50_000, 7)) == text_sha256(mix(default_texts()[::-1], 50_000, 7))


def test_numbers_that_mix_refuses() -> None:
    with pytest.raises(UsageError, match="no document fits in 5 bytes: the smallest has 30"):
        mix(example(), 5)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="bytes is"):
            mix(example(), wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seed is"):
        mix(example(), 100, "x")  # type: ignore[arg-type]
    assert mix([], 100) == []


# ---- coverage ----
class Letters:
    """A tokenizer of 128 characters."""

    vocab_size = 128

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        assert add_bos is False
        return [ord(character) % 128 for character in text]


def test_coverage() -> None:
    documents = [
        Document("x", "words", "Ab é ß"),
        Document("x", "words", "Ж 漢字 ﾃ カー हि"),
        Document("x", "code", "int x = 3;\nif (x) {\n}"),
        Document("x", "talk", messages=(Message("user", "a"), Message("assistant", "b"))),
    ]
    told = coverage(documents, Letters())  # type: ignore[arg-type]
    assert [(part.domain, part.documents, part.characters) for part in told.parts] == [
        ("code", 1, 21), ("talk", 1, 4), ("words", 2, 18),
    ]  # fmt: skip
    assert told.bytes == sum(len(document.plain.encode()) for document in documents) == 21 + 4 + 8 + 27
    assert told.scripts == {"Latin": 13, "Katakana": 3, "Devanagari": 2, "Han": 2, "Cyrillic": 1}
    assert told.code_share == 21 / told.bytes and (told.documents, told.chats) == (4, 1)
    assert told.text_sha256 == hashlib.sha256(encoded(documents)).hexdigest()
    ids = {ord(character) % 128 for document in documents for character in document.plain}
    assert (told.tokens, told.vocabulary, told.vocabulary_share) == (43, 128, len(ids) / 128)
    assert json.loads(json.dumps(told.to_json()))["parts"][0]["domain"] == "code"
    assert coverage(documents).tokens is None
    with pytest.raises(UsageError, match="no documents"):
        coverage([])


# ---- the command ----
def test_build_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str], demo_checkpoint: Path) -> None:
    mine, text = tmp_path / "mine.txt", tmp_path / "text.jsonl"
    mine.write_text("\f".join(f"Sentence {number} of mine. " * 20 for number in range(9)))
    words = [
        "calibration",
        "build",
        str(mine),
        "-o",
        str(text),
        "--default",
        "--bytes",
        "60000",
        "--seed",
        "3",
    ]
    assert run_command([*words, "--tokenizer", str(demo_checkpoint)]) == 0
    out, err = capsys.readouterr()
    assert "\nmine " in out and "\nLatin " in out and " of 512 ids occur" in out and str(text) in err
    made = text.read_bytes()
    assert run_command(words) == 2
    assert "exists" in capsys.readouterr().err
    assert run_command([*words, "--force", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert text.read_bytes() == made and told["text_sha256"] == hashlib.sha256(made).hexdigest()
    assert 50_000 < told["bytes"] <= 60_000 and len(told["parts"]) == 8 and told["repetitions"] == 0
    assert run_command(["calibration", "show", str(text), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"] == told["parts"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["build", "-o", "text.txt"], "ends with .jsonl"),
        (["build", "-o", "text.jsonl", "--no-default"], "--no-default without FILES"),
        (["build", "nowhere.txt", "-o", "text.jsonl"], "nowhere.txt cannot be read"),
        (["build", "-o", "text.jsonl", "--bytes", "3"], "no document fits in 3 bytes"),
        (["show", "--tokenizer", "nowhere"], "no file or directory nowhere"),
    ],
)
def test_wrong_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["calibration", *words]) == 2
    out, err = capsys.readouterr()
    assert told in err and err.count("\n") == 1 and out == "" and not list(tmp_path.iterdir())

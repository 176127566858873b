"""Hostile JSON, safetensors files and hub answers: one sentence each."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.converters import convert, hub, huggingface, jsonfile, safetensors
from edgeq.errors import EdgeqError, FormatError, UnsupportedError
from edgeq.hub import Name, Snapshot
from edgeq.tokenizer import BLOB_BYTES_MAX
from edgeq.tokenizer.document import Document, compact
from tests.converters.checkpoints import config, weights, write_directory
from tests.patience import cheap

JSON = {
    b'{"a": 1, "a": 2}': "has the key 'a' twice in one object",
    b'{"x": {"b": [{"a": 1, "c": 2, "a": 1}]}}': "has the key 'a' twice in one object",
    b'{"a": NaN}': "the number NaN, which is not JSON",
    b'{"a": -Infinity}': "the number -Infinity, which is not JSON",
    b'{"a": 1e999}': "the number 1e999, which does not fit",
    b'{"a": ' + b"9" * 5000 + b"}": "the number 99999999999999999999, which does not fit 128 bits",
    b"[1]": "holds a JSON list, but an object is needed",
    b"": "is not JSON",
    b'{"a": 1': "is not JSON",
    b'{"a": "\xff"}': "not UTF-8 at byte 7",
    b"[" * 100_000: "nested too deeply",
    b'{"a": ' * 100_000: "nested too deeply",
    b"[" + b"[]," * (1 << 20) + b"[]]": "more than 1048576 commas",
}


@pytest.mark.parametrize("text", JSON, ids=list(JSON.values()))
def test_json(text: bytes) -> None:
    with cheap(2), pytest.raises(FormatError, match=f"^some.json.*{JSON[text]}"):
        jsonfile.parse(text, "some.json")


def test_json_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(jsonfile.TEXT_BYTES_MAX + 1)
    with pytest.raises(FormatError, match=r"config.json: 16777217 bytes are too many"):
        jsonfile.load(jsonfile.Folder(tmp_path), "config.json")


def test_duplicate_keys_in_a_config(tmp_path: Path) -> None:
    words = config()
    source = write_directory(tmp_path / "in", words, weights(words))
    text = json.dumps(words)
    (source / "config.json").write_text(text[:-1] + ', "hidden_size": 64}')
    with pytest.raises(FormatError, match="config.json has the key 'hidden_size' twice"):
        convert(source, tmp_path / "out.edgeq")


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes


def test_safetensors_reads_what_the_library_writes(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    tensors: dict[str, Any] = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array([1, 2], np.float16),
        "s": np.array(3, np.int64),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "np"})
    found = safetensors.read(tmp_path / "x.safetensors")
    assert {name: (dtype, shape) for name, (dtype, shape, _) in found.items()} == {
        "a": ("F16", (2,)), "b": ("F32", (2, 3)), "s": ("I64", ()),
    }  # fmt: skip
    for name, value in tensors.items():
        assert bytes(found[name][2]) == value.tobytes()


BAD_ENTRIES = [
    ({"a": entry(dtype="F33")}, "dtype 'F33'"), ({"a": entry(dtype=["F32"])}, "dtype"),
    ({"a": entry(dtype=4)}, "dtype 4"),
    ({"a": entry(shape=[2, 3])}, "needs 24"), ({"a": entry(shape=[-2, -2])}, "shape"),
    ({"a": entry(shape=4)}, "shape 4"),
    ({"a": entry(shape=[2.0, 2])}, "shape"), ({"a": entry(shape=[True, 4])}, "shape"),
    ({"a": entry(shape=[1] * 9)}, "shape"),
    ({"a": entry(shape=[1 << 63, 2])}, "shape"), ({"a": entry(shape=[1 << 40, 1 << 40])}, "needs"),
    ({"a": entry(data_offsets=[0])}, "data_offsets"), ({"a": entry(data_offsets=[16, 0])}, "bytes"),
    ({"a": entry(data_offsets=[-16, 0])}, "data_offsets"),
    ({"a": entry(data_offsets=[4, 20])}, "begins at byte 4, but 0"),
    ({"a": entry(data_offsets="ab")}, "data_offsets"),
    ({"a": entry(), "b": entry()}, "begins at byte 0, but 16"),
    ({"a": entry(), "b": entry(data_offsets=[8, 24])}, "begins at byte 8, but 16"),
    ({"a": entry(), "b": entry(data_offsets=[16, 32])}, "need 32 bytes, but the file holds 16"),
    ({"a": entry(shape=[1, 2], data_offsets=[0, 8])}, "need 8 bytes, but the file holds 16"),
    ({"a": {"dtype": "F32", "shape": [2, 2]}}, "is described by"), ({"a": 1}, "is described by 1"),
    ({"a": entry(more=1)}, "is described by"), ({}, "need 0 bytes, but the file holds 16"),
    (b'{"a": {"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}, "a": 1}', "'a' twice"),
    (b'{"a": {"dtype":"F32","dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', "'dtype' twice"),
    (b"[]", "list"), (b"{}  \xff", "not UTF-8"), (b"nothing", "is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "sentence"), BAD_ENTRIES, ids=lambda value: f"{value!r:.50}")
def test_bad_safetensors_headers(tmp_path: Path, header: Any, sentence: str) -> None:
    path = write(tmp_path / "x.safetensors", header, bytes(16))
    with pytest.raises(FormatError) as caught:
        safetensors.read(path)
    assert sentence in str(caught.value) and str(caught.value).startswith("x.safetensors")


@pytest.mark.parametrize("length", [0, 1, 10**6, (1 << 63) - 1, (1 << 64) - 1, 1 << 27])
def test_bad_safetensors_lengths(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.safetensors", {"a": entry()}, bytes(16), length)
    with pytest.raises(FormatError, match=f"the header's length is {length}, but 2 to"):
        safetensors.read(path)


def test_safetensors_cut_anywhere(tmp_path: Path) -> None:
    whole = write(tmp_path / "x.safetensors", {"a": entry()}, bytes(16)).read_bytes()
    assert safetensors.read(tmp_path / "x.safetensors")
    for length in range(len(whole)):
        (tmp_path / "x.safetensors").write_bytes(whole[:length])
        with pytest.raises(FormatError, match="x.safetensors"):
            safetensors.read(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(whole + b"\0")
    with pytest.raises(FormatError, match="need 16 bytes, but the file holds 17"):
        safetensors.read(tmp_path / "x.safetensors")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    words = config(num_hidden_layers=1, vocab_size=4, hidden_size=32, head_dim=8, intermediate_size=32)
    source = write_directory(tmp_path_factory.mktemp("small") / "in", words, weights(words))
    return source, (source / "model.safetensors").read_bytes()


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=3))
def test_mutated_safetensors(small: tuple[Path, bytes], changes: list[tuple[int, int]]) -> None:
    """A changed file is another checkpoint or refused with one sentence, and nothing else happens."""
    source, whole = small
    raw = bytearray(whole)
    for place, value in changes:
        raw[place] = value
    (source / "model.safetensors").write_bytes(raw)
    try:
        huggingface.open_directory(source)
    except EdgeqError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 500


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched is a source that says where it is from, not where it is kept."""
    words = config()
    folder = write_directory(tmp_path / "models--a--b" / "snapshots" / "0abc", words, weights(words))
    asked: list[Name] = []

    def fetch(name: Name) -> Snapshot:
        asked.append(name)
        return Snapshot(name.repository, "0abc", folder)

    monkeypatch.setattr(hub, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    source = hub.open_hub("owner/name@v1")
    facts = (source.kind, source.name, source.revision, source.family)
    assert facts == ("hub", "owner/name", "0abc", "llama")
    convert("owner/name", tmp_path / "out.edgeq")
    convert(Snapshot("owner/name", "0abc", folder), tmp_path / "same.edgeq")
    assert (tmp_path / "out.edgeq").read_bytes() == (tmp_path / "same.edgeq").read_bytes()
    assert asked == [Name("owner/name", "v1"), Name("owner/name")]


def test_hub_without_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EdgeqError, match=r"^'owner/name' is no local .* pip install 'edgeq\[hub\]'$"):
        convert("owner/name", tmp_path / "out.edgeq")


@pytest.mark.parametrize(
    "name",
    [
        "name",
        "a/b/c",
        "../b",
        "a/..",
        "/a",
        "a/",
        "a b/c",
        "a/b@",
        "a/b@x y",
        "",
        "a\\b",
        "models/x.gguf",
        "a/b\n",
        "é/b",
    ],
)
def test_names_that_are_no_hub_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: Name) -> Snapshot:
        raise AssertionError("asked")

    monkeypatch.setattr(hub, "fetch", fetch)
    with pytest.raises(UnsupportedError, match="is neither a file, nor a directory, nor a hub name"):
        hub.open_hub(name)


JUNK = {
    "numbers": b'{"model":[' + b"0," * (21 << 20) + b"0]}",
    "objects": b'{"model":[' + b"{}," * (14 << 20) + b"{}]}",
    "words": b'{"model":{' + b",".join(b'"%07d":%d' % (n, n) for n in range(2 << 20)) + b"}}",
}


@pytest.mark.parametrize("name", JUNK)
def test_a_tokenizer_of_junk_costs_little(name: str, tmp_path: Path) -> None:
    """Some 42 MB of values that no tokenizer has: refused before anything is built of them."""
    words = config()
    source = write_directory(tmp_path / "in", words, weights(words))
    (source / "tokenizer.json").write_bytes(JUNK[name])
    script = (
        "import resource, sys\nfrom edgeq.converters import convert\nfrom edgeq.errors import EdgeqError\n"
        "import edgeq.tokenizer.tokenizer_json, tokenizers\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\nbefore = peak()\n"
        "try:\n    convert(sys.argv[1], sys.argv[2])\nexcept EdgeqError as error:\n    print(error)\n"
        "print(peak() - before, resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    command = [sys.executable, "-c", script, str(source), str(tmp_path / "out.edgeq")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "tokenizer.json has more than 4194304 commas" in said[0]
    assert int(said[1].split()[0]) < 200  # MB


def test_the_largest_tokenizers_are_within_the_limits() -> None:
    """Gemma 3's: 262 144 words and 514 906 merges, each a list of two (its spellings are longer: 33 MB)."""
    words = {f"word{n:06}": n for n in range(262144)}
    merges = [[f"wo{n:06}", f"rd{n:06}"] for n in range(514906)]
    added = [{"id": n, "content": f"<unused{n}>", "special": False, "lstrip": False} for n in range(6500)]
    raw = compact({"added_tokens": added, "model": {"type": "BPE", "vocab": words, "merges": merges}})
    assert 16 << 20 < len(raw) < BLOB_BYTES_MAX
    document = Document.parse(raw)
    assert document.words() == 262144 and len(json.loads(bytes(document.tables["merges"]))) == 514906

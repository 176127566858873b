"""Kinds of files by their first bytes, and the sentence for one that is not what was wanted."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from edgeq.formats import foreign
from edgeq.formats.foreign import KINDS, kind_of, refusal


def archive(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, "x" * 50)
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    return stream.getvalue()


def head(words: dict[str, object]) -> bytes:
    """A file as safetensors lays it out."""
    raw = json.dumps(words, separators=(",", ":")).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(99)


CASES = {
    "a GGUF file": b"GGUF\3\0\0\0" + bytes(20),
    "an .edgeq file": b"EDGEQ\0\r\n" + bytes(56),
    "a pack of edgeq's kernels": b"edgeqpk\1" + bytes(90),
    "GGML from before GGUF": b"tjgg\3\0\0\0" + bytes(20),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
    "an HTML page": b"\n <!doctype HTML>\n<title>no</title>",
    "statistics": head({"__metadata__": {"format": "edgeq statistics 1"}, "a": {}}),
    "a reference": head({"__metadata__": {"format": "edgeq reference 1"}, "a": {}}),
    "a safetensors file": head({"__metadata__": {"format": "pt"}, "a": {}}),
    "a PyTorch pickle": archive("archive/data.pkl", "archive/data/0"),
    "a Python pickle": pickle.dumps({"a": [1]}, 4),
    "a ZIP archive": archive("some/file.txt"),
    "a compressed file": gzip.compress(b"x" * 1000),
    "a PNG image": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "a JPEG image": b"\xff\xd8\xff\xe0" + bytes(50),
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(50),
    "a TensorFlow Lite model": b"\x1c\0\0\0TFL3" + bytes(50),
    "an ONNX model": b"\x08\x08\x12\x07pytorch\x1a\x052.1.0",
    "a NumPy array": array(),
    "a program": b"\x7fELF\2\1\1" + bytes(50),
    "begins with zeros": bytes(64),
    "a JSON text": b'{\n  "model_type": "llama"}',
    "a text": b"Once upon a time\n",
}


@pytest.mark.parametrize("what", CASES)
def test_a_kind_is_known_by_its_first_bytes(what: str) -> None:
    found = kind_of(CASES[what])
    assert found is not None and what in found.what
    sentence = refusal(CASES[what], "a file", b"NONE")
    assert sentence == f"not a file but {found.what}: {found.instead}" and sentence.isprintable()


def test_every_row_has_a_case_and_a_way_out() -> None:
    assert {kind_of(data) for data in CASES.values()} == set(KINDS)
    assert all(re.match(r"(a|an|statistics) ?", kind.what) and kind.instead for kind in KINDS)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_all_protocols(protocol: int) -> None:
    for value in ({"a": 1}, [1, 2], ("x", "y"), np.ones(3)):
        found = kind_of(pickle.dumps(value, protocol))
        assert found is not None and "pickle" in found.what, value


@pytest.mark.parametrize(
    "data", [b"", b"GG", b"GGML\3\0\0\0", b"EDGEQ\0\n\n" + bytes(56), bytes(range(128, 192))]
)
def test_what_no_row_knows(data: bytes) -> None:
    assert kind_of(data) is None
    sentence = refusal(data, "a GGUF file", b"GGUF")
    assert sentence.startswith("not a GGUF file: it starts with ") and sentence.endswith(foreign.RIGHT)
    assert (data[:4].hex(" ") or "nothing") in sentence

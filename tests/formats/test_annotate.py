"""Words that come into the header of a whole file."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq import formats
from edgeq.errors import FormatError
from tests.formats import samples


def test_tensors_keep_their_bytes_and_the_header_its_words(tmp_path: Path) -> None:
    path = samples.write_sample(tmp_path / "a.edgeq")
    raw = path.read_bytes()
    with formats.open_model(path) as file:
        before = {name: (t.scheme, t.layout, t.shape, bytes(t.data)) for name, t in file.tensors.items()}
        header = {k: v for k, v in file.header.items() if k != "tensors"}
        extra = [row.get("method") for row in file.header["tensors"]]
    words = {"cache": {"kind": "f16"}, "license": "x" * 5000}  # so that all tensors move
    with formats.annotated(path, path, words) as writer:
        assert formats.verify(path) == [] and path.read_bytes() == raw
        writer.commit()
    assert formats.verify(path) == []
    with formats.open_model(path) as file:
        assert before == {n: (t.scheme, t.layout, t.shape, bytes(t.data)) for n, t in file.tensors.items()}
        assert {k: v for k, v in file.header.items() if k != "tensors"} == {**header, **words}
        assert [row.get("method") for row in file.header["tensors"]] == extra


def test_what_breaks_the_rules_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = samples.write_sample(tmp_path / "a.edgeq")
    raw = path.read_bytes()
    with pytest.raises(FormatError, match='header field "cache" is not an object or null'):
        formats.annotated(path, path, {"cache": "f16"})
    assert path.read_bytes() == raw and list(tmp_path.iterdir()) == [path]

"""Files of named arrays: what comes back, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import EdgeqError, FormatError, UsageError
from edgeq.formats import arrays
from edgeq.formats.arrays import DTYPES, ArraysWriter, open_arrays

WHAT = "numbers 1"
ABOUT = {"format": WHAT, "name": 'ä\n"x"'}
GIVEN: dict[str, Any] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([-1, 1 << 62]),
    "c": np.ones((1, 1, 5), np.float16), "d": np.full(1, np.pi), "e": np.array([7], np.int32),
}  # fmt: skip
SHAPES = {
    name: (word, GIVEN[name].shape)
    for name, word in zip("abcde", ("F32", "I64", "F16", "F64", "I32"), strict=True)
}


def written(path: Path) -> Path:
    with ArraysWriter(path, ABOUT, SHAPES) as writer:
        for name, array in GIVEN.items():
            writer.write(name, array)
        writer.commit()
    return path


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def one(**changes: Any) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return raw({"__metadata__": {"format": WHAT}, "a": entry}, bytes(8))


def test_arrays_come_back(tmp_path: Path) -> None:
    about, found = open_arrays(written(tmp_path / "a"), WHAT)
    assert about == ABOUT and list(found) == list(GIVEN)
    for name, array in GIVEN.items():
        assert np.array_equal(found[name], array) and found[name].dtype == DTYPES[SHAPES[name][0]]
        assert not found[name].flags.writeable
    assert os.listdir(tmp_path) == ["a"]


def test_it_is_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(written(tmp_path / "a"), "np") as file:
        assert file.metadata() == ABOUT
        assert all(np.array_equal(file.get_tensor(name), array) for name, array in GIVEN.items())


def test_what_is_not_committed_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with ArraysWriter(path, ABOUT, SHAPES) as writer:
        writer.write("a", GIVEN["a"])
        with pytest.raises(UsageError, match=r"array c \(1, 1, 5\) is written where b \(2,\) is due"):
            writer.write("c", GIVEN["c"])
    with ArraysWriter(path, ABOUT, SHAPES) as writer, pytest.raises(UsageError, match="array a is missing"):
        writer.commit()
    assert os.listdir(tmp_path) == ["a"] and path.read_bytes() == b"before"


@pytest.mark.parametrize("call", ["write", "flush", "close"])
def test_a_full_disk_leaves_no_half_file(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing writes what is in the buffer, and fails once more."""
    create = arrays.create

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            def fails(*_: object) -> None:
                if name == "close":
                    self.file.close()
                raise OSError(errno.ENOSPC, "No space left on device")

            return fails if name in (call, "close") else getattr(self.file, name)

    def created(path: Path) -> Any:
        place, file = create(path)
        return place, Full(file)

    monkeypatch.setattr(arrays, "create", created)
    if call == "close":  # of a file that is in its place already
        written(tmp_path / "a")
        assert os.listdir(tmp_path) == ["a"]
        return
    with pytest.raises(EdgeqError, match="a cannot be written: No space left on device"):
        written(tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_places_that_are_no_output(tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match="cannot be written: No such file"):
        written(tmp_path / "b" / "a")
    with pytest.raises(EdgeqError, match="cannot be written: Is a directory"):
        written(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "its header would have 0 bytes"),
        (bytes(4), "its header would have 0 bytes"),
        (raw({}, length=1 << 63), "its header would have 9223372036854775808 bytes"),
        (raw({}, length=3), "its header would have 3 bytes"),
        (raw([]), "its header does not say so"),
        (raw({"__metadata__": []}), "its header does not say so"),
        (raw({"__metadata__": {"format": [WHAT]}}), "its header does not say so"),
        (raw({"__metadata__": {"format": WHAT, "x": 1}}), "its metadata are not all texts"),
        (raw(b'{"a": 1, "a": 1}'), "the key 'a' twice"),
        (raw(b'{"a": NaN}'), "NaN, which is not JSON"),
        (raw(b"\xff\xff"), "not UTF-8"),
        (raw(b"[" * 99), "nested deeper than 8 levels"),
        (raw({"__metadata__": {"format": WHAT}}, b"x"), "1 bytes belong to no array"),
        (raw({"__metadata__": {"format": WHAT}, "a": [1]}), "has no dtype and shape that are known"),
        (one(dtype="BF16"), "has no dtype and shape that are known"),
        (one(dtype=["F32"]), "has no dtype and shape that are known"),
        (one(dtype=None), "has no dtype and shape that are known"),
        (one(shape="2"), "has no dtype and shape that are known"),
        (one(shape=[1, 1, 1, 1, 2]), "has no dtype and shape that are known"),
        (one(shape=[-2]), "has extents that are none"),
        (one(shape=[2.0]), "has extents that are none"),
        (one(shape=[True, 2]), "has extents that are none"),
        (one(shape=[1 << 40]), "has extents that are none"),
        (one(shape=[0, (1 << 40) - 1, (1 << 40) - 1]), "has extents that are none"),
        (one(shape=[(1 << 40) - 1] * 4), "does not lie where its shape says"),
        (one(shape=[1]), "does not lie where its shape says"),
        (one(shape=[1], data_offsets=[0, 4]), "4 bytes belong to no array"),
        (one(shape=[1], data_offsets=[4, 8]), "does not lie where its shape says"),
        (one(shape=[3], data_offsets=[0, 12]), "does not lie where its shape says"),
        (one(data_offsets=[0, 8, 9]), "does not lie where its shape says"),
        (one(data_offsets={"0": 8}), "does not lie where its shape says"),
    ],
)  # fmt: skip
def test_what_is_no_such_file(data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError, match=sentence):
        open_arrays(tmp_path / "a", WHAT)


def test_every_end(tmp_path: Path) -> None:
    """Cut anywhere it is no such file; with another byte in the header no error but edgeq's own."""
    whole = written(tmp_path / "a").read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for end in [*range(0, length, 7), *range(length, len(whole))]:
        (tmp_path / "a").write_bytes(whole[:end])
        with pytest.raises(FormatError):
            open_arrays(tmp_path / "a", WHAT)
    for at in range(length):
        for mask in (1, 0x80):
            changed = bytearray(whole)
            changed[at] ^= mask
            (tmp_path / "a").write_bytes(changed)
            with suppress(EdgeqError):
                open_arrays(tmp_path / "a", WHAT)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match="cannot be read: No such file"):
        open_arrays(tmp_path / "a", WHAT)
    with pytest.raises(UsageError, match="is not a regular file"):
        open_arrays(tmp_path, WHAT)
    with pytest.raises(EdgeqError, match="cannot be read"):
        open_arrays("a\0b", WHAT)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with a name")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(UsageError, match="is not a regular file"):
        open_arrays(tmp_path / "a", WHAT)

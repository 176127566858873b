"""Writing and reading whole files: what is written comes back, in place, aligned, and only when whole."""

from __future__ import annotations

import errno
import gc
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import formats
from edgeq.errors import UnsupportedError, UsageError
from tests.formats.samples import HEADER, SHAPES, forge, numbers, plans, split_file, write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample") / "sample.edgeq")


def test_what_is_written_comes_back(sample: Path) -> None:
    with formats.open_model(sample) as file:
        assert file.family == "llama" and file.config == HEADER["config"]
        assert {key: file.header[key] for key in HEADER} == HEADER
        assert file.bytes_total == sample.stat().st_size
        assert list(file.tensors) == list(SHAPES)
        for name, values in numbers().items():
            tensor = file.tensors[name]
            scheme, layout, shape = SHAPES[name]
            assert (tensor.scheme.name, tensor.layout, tensor.shape) == (scheme, layout, shape)
            assert np.array_equal(tensor.data, formats.encode(values, scheme))
            if scheme == "bytes":
                assert bytes(tensor.data) == values.tobytes()
            else:
                decoded = tensor.array()
                assert decoded.dtype == np.float32 and decoded.shape == shape
                data = formats.encode(values, scheme)
                assert np.array_equal(decoded, formats.decode(data, scheme, shape))
    assert formats.verify(sample) == []


def test_views_are_parts_of_the_map(sample: Path) -> None:
    with formats.open_model(sample) as file:
        whole = file.view(0, file.bytes_total)
        for tensor in file.tensors.values():
            for view in (tensor.data, *tensor.parts.values()):
                assert not view.flags.writeable
                assert np.shares_memory(view, whole)
            assert tensor.data.ctypes.data % 64 == 0
            assert tensor.data.ctypes.data == whole.ctypes.data + tensor.offset
        q = file.tensors["blocks.0.q"]
        assert (q.rows_padded, q.cols_padded, q.tiles) == (48, 64, 3)
        codes, scales = q.parts.values()
        assert list(q.parts) == ["low", "scale"]
        assert codes.shape == (3, 8, 64) and codes.dtype == np.uint8
        assert scales.shape == (3, 2, 16) and scales.dtype == np.float16
        assert scales.ctypes.data == codes.ctypes.data + codes.nbytes
        assert file.tensors["blocks.0.k"].part("value").shape == (1, 3, 16)
        assert file.tensors["norm"].part("value").shape == (1, 40)


def test_wrong_views_say_so(sample: Path) -> None:
    with formats.open_model(sample) as file:
        with pytest.raises(UsageError, match="tensor norm of scheme f32 has no part scale"):
            file.tensors["norm"].part("scale")
        with pytest.raises(UsageError, match="tensor embed of scheme q8 has no part value"):
            file.tensors["embed"].part("value")
        with pytest.raises(UnsupportedError, match="bytes holds no numbers"):
            file.tensors["tokenizer"].array()


def test_views_outlive_the_file(sample: Path) -> None:
    file = formats.open_model(sample)
    view = file.tensors["tokenizer"].data
    file.close()
    file.close()
    gc.collect()
    assert bytes(view) == b"hello"
    with pytest.raises(UsageError, match="was closed"):
        _ = file.tensors["tokenizer"].data


def test_a_replaced_file_leaves_an_open_one_alone(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "a.edgeq")
    with formats.open_model(path) as file:
        before = file.tensors["embed"].data.copy()
        with formats.Writer(path, HEADER, plans()[-1:]) as writer:
            writer.write("tokenizer", b"other")
            writer.commit()
        assert np.array_equal(file.tensors["embed"].data, before)
    with formats.open_model(path) as file:
        assert list(file.tensors) == ["tokenizer"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, sample: Path) -> None:
    assert write_sample(tmp_path / "again.edgeq").read_bytes() == sample.read_bytes()


def test_prelude_is_the_specification(sample: Path) -> None:
    raw = sample.read_bytes()
    magic, read, write, header_bytes, file_bytes, header_crc = struct.unpack_from("<8sIIQQI", raw)
    assert magic == b"EDGEQ\0\r\n" and (read, write) == (1, 1)
    assert file_bytes == len(raw)
    assert header_crc == zlib.crc32(raw[64 : 64 + header_bytes])
    assert raw[36:60] == bytes(24)
    assert raw[60:64] == struct.pack("<I", zlib.crc32(raw[:60]))


def test_large_tensors_start_on_64_kib(tmp_path: Path) -> None:
    rows = [("a", (100,)), ("big", (1 << 20,)), ("b", (1,)), ("c", ((1 << 20) - 1,)), ("d", (1 << 20,))]
    path = tmp_path / "large.edgeq"
    plan = [formats.TensorPlan(name, "bytes", "plain", shape) for name, shape in rows]
    with formats.Writer(path, HEADER, plan) as writer:
        for name, (size,) in rows:
            half = bytes([7]) * (size // 2)
            writer.write(name, half)
            writer.write(name, half, bytes(size - 2 * len(half)))
        writer.commit()
    assert formats.verify(path) == []
    with formats.open_model(path) as file:
        offsets = {name: tensor.offset for name, tensor in file.tensors.items()}
    assert offsets["big"] == 65536 and offsets["b"] == 65536 + (1 << 20)
    assert offsets["c"] == offsets["b"] + 64
    assert offsets["d"] == -(-(offsets["c"] + (1 << 20) - 1) // 65536) * 65536


def test_a_file_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "empty.edgeq"
    with formats.Writer(path, {"family": "llama", "config": {}}, []) as writer:
        writer.commit()
    with formats.open_model(path) as file:
        assert file.tensors == {} and file.bytes_total == path.stat().st_size
    assert formats.verify(path) == []


def test_header_length_settles_when_offsets_gain_digits(tmp_path: Path) -> None:
    """Offsets near a power of ten change the header's length, which moves the offsets."""
    for size in range(9000, 9960, 16):
        plan = [formats.TensorPlan(n, "bytes", "plain", (s,)) for n, s in [("a", size), ("b", 8), ("c", 9)]]
        path = tmp_path / "digits.edgeq"
        with formats.Writer(path, {"family": "llama", "config": {}}, plan) as writer:
            writer.write("a", bytes(size))
            writer.write("b", bytes(8))
            writer.write("c", bytes(9))
            writer.commit()
        formats.open_model(path).close()


def test_unknown_optional_fields_are_kept(tmp_path: Path) -> None:
    plan = [formats.TensorPlan("a", "bytes", "plain", (1,), {"error": 0.5, "name": "ignored"})]
    path = tmp_path / "more.edgeq"
    with formats.Writer(path, HEADER | {"mood": {"good": [1, 2.5, None, "ü"]}}, plan) as writer:
        writer.write("a", b"x")
        writer.commit()
    with formats.open_model(path) as file:
        assert file.header["mood"] == {"good": [1, 2.5, None, "ü"]}
        assert file.header["tensors"][0]["error"] == 0.5 and list(file.tensors) == ["a"]


def test_a_newer_writer_stays_readable_and_a_newer_reader_is_asked_for(tmp_path: Path, sample: Path) -> None:
    raw = sample.read_bytes()
    header_bytes = int.from_bytes(raw[16:24], "little")
    header, rest = raw[64 : 64 + header_bytes], raw[64 + header_bytes :]
    path = tmp_path / "new.edgeq"
    path.write_bytes(forge(header, rest, write=77))
    with formats.open_model(path) as file:
        assert file.prelude.write_version == 77
    path.write_bytes(forge(header, rest, read=2, write=77))
    with pytest.raises(
        UnsupportedError, match="needs a newer edgeq: its read version is 2, this one reads 1"
    ):
        formats.open_model(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path / "none", "none cannot be opened: No such file or directory"),
        (tmp_path / "pipe", "pipe is not a regular file"),
        (tmp_path, "is not a regular file"),
        (tmp_path / "a\0b", "cannot be opened"),
    ]:
        with pytest.raises(UsageError, match=message):
            formats.open_model(path)


def test_a_file_that_cannot_be_mapped(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("edgeq.formats.reader.mmap.mmap", fail)
    with pytest.raises(UsageError, match="its 5893 bytes cannot be mapped: .*Cannot allocate memory"):
        formats.open_model(sample)


def test_names_in_a_debugger(sample: Path) -> None:
    with formats.open_model(sample) as file:
        assert repr(file) == f"ModelFile('{sample}', llama, 7 tensors)"
        assert repr(file.tensors["embed"]) == "Tensor('embed', q8, lines16, [17, 33])"


def test_split_and_forge_make_the_same_file(sample: Path) -> None:
    """The forge of the other tests makes sound files when it changes nothing."""
    raw = sample.read_bytes()
    header, rest = split_file(raw)
    assert header["tensors"] and forge(raw[64 : len(raw) - len(rest)], rest) == raw


# ---- files of the past ----


def test_the_first_version_is_written_and_read_for_ever(sample: Path) -> None:
    """v1.edgeq was written by the first writer: today's writes the same bytes, and reads the same numbers."""
    golden = Path(__file__).parent / "v1.edgeq"
    assert golden.read_bytes() == sample.read_bytes()
    assert formats.verify(golden) == []
    with formats.open_model(golden) as file:
        assert np.array_equal(file.tensors["norm"].array(), numbers()["norm"])
        assert file.tensors["embed"].array()[16, 32] == np.float32(-1.636528)
        assert file.tensors["blocks.0.q"].array()[32, 39] == np.float32(-1.875)

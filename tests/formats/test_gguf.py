"""The GGUF reader: right on files by others and by hand, quick and precise on broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import FormatError, UnsupportedError, UsageError
from edgeq.formats.ggml import NUMBERED
from edgeq.formats.gguf import GGUFFile, open_gguf, part_paths
from edgeq.formats.gguf_cursor import Strings
from tests.formats.gguf_samples import (
    ARRAY,
    F32,
    I32,
    STRING,
    U8,
    U16,
    U32,
    build,
    pair,
    sample,
    tensor,
    value,
)


def opened(path: Path, raw: bytes) -> GGUFFile:
    path.write_bytes(raw)
    return open_gguf(path)


def test_values_and_tensors_of_a_file_made_by_hand(tmp_path: Path) -> None:
    raw = sample()
    with opened(tmp_path / "a.gguf", raw) as file:
        assert file.version == 3
        assert file.metadata == {
            "general.architecture": "llama",
            "a.u8": 255,
            "a.i8": -128,
            "a.u16": 65535,
            "a.i16": -32768,
            "a.u32": 2**32 - 1,
            "a.i32": -(2**31),
            "a.f32": 0.5,
            "a.bool": True,
            "a.u64": 2**64 - 1,
            "a.i64": -(2**63),
            "a.f64": 1e300,
            "a.text": "tokén\n",
            "a.strings": ["<s>", "", "Ġa"],
            "a.floats": [0.0, -1.5],
            "a.bools": [True, False],
            "a.nested": [[1, 2], ["x"]],
            "a.empty": [],
        }
        assert file.metadata["a.bool"] is True and file.metadata["a.bools"][1] is False
        assert {t.name: (t.type, t.shape, t.nbytes) for t in file.tensors.values()} == {
            "vector": ("F32", (3,), 12),
            "half": ("F16", (2, 4), 16),
            "brain": ("BF16", (2, 4), 16),
            "q4": ("Q4_0", (3, 64), 108),
            "q8": ("Q8_0", (2, 32), 68),
        }
        data = raw[-(224 + 68) :]
        for name, start in [("vector", 0), ("half", 32), ("brain", 64), ("q4", 96), ("q8", 224)]:
            found = file.tensors[name]
            assert bytes(found.data) == data[start : start + found.nbytes]
            assert not found.data.flags.writeable
        view = file.tensors["q8"].data
    assert bytes(view) == data[224:]  # outlives the file
    with pytest.raises(UsageError, match="was closed"):
        _ = file.tensors["q8"].data


def test_version_2_and_other_alignments(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    assert opened(path, build([pair("k", U8, 1)], version=2)).metadata == {"k": 1}
    for alignment in (1, 8, 64, 4096):
        raw = build(
            [pair("general.alignment", U32, alignment)],
            [tensor("b", (4,), 0, 0), tensor("a", (4,), 0, max(alignment, 16))],
            bytes(max(alignment, 16)) + b"0123456789abcdef",
            alignment=alignment,
        )
        assert bytes(opened(path, raw).tensors["a"].data) == b"0123456789abcdef"


def test_a_vocabulary_without_tensors_opens(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.gguf", build([pair("tokenizer.ggml.tokens", ARRAY, (STRING, ["a", "b"]))]))
    assert file.tensors == {} and file.metadata["tokenizer.ggml.tokens"] == ["a", "b"]


def test_strings_are_a_sequence(tmp_path: Path) -> None:
    words = ["<s>", "", "é", "x" * 70_000, "z"]
    found = opened(tmp_path / "a.gguf", build([pair("k", ARRAY, (STRING, words))])).metadata["k"]
    assert isinstance(found, Strings) and len(found) == 5 and list(found) == words == found
    assert found[0] == "<s>" and found[-1] == "z" and found[1:3] == ["", "é"] and found != words[1:]
    assert "é" in found and found.index("z") == 4
    with pytest.raises(IndexError):
        found[5]


def test_unknown_tensor_types_are_listed_and_not_read(tmp_path: Path) -> None:
    rows = [tensor("new", (7, 3), 999, 0), tensor("old", (4,), 0, 64), tensor("last", (5,), 4, 96)]
    file = opened(tmp_path / "a.gguf", build([], rows, bytes(96 + 5)))
    assert [(t.name, t.type, t.type_number, t.nbytes) for t in file.tensors.values()] == [
        ("new", "type 999", 999, 64),
        ("old", "F32", 0, 16),
        ("last", "Q4_2", 4, 5),
    ]
    assert file.tensors["old"].data.size == 16
    assert repr(file.tensors["new"]) == "GGUFTensor('new', type 999, [3, 7])"
    with pytest.raises(UnsupportedError, match="tensor new is the unknown type 999, which cannot be read"):
        _ = file.tensors["new"].data


STRANGE = {
    4: "Q4_2, a type that ggml withdrew", 33: "Q4_0_8_8, a type that ggml withdrew",
    36: "IQ4_NL_4_4 or I2_S, a type that ggml withdrew", 9: "Q8_1, a type of activations",
    99: "type 99, a type of ik_llama.cpp", 139: "IQ4_K, a type of ik_llama.cpp",
    210: "type 210, a type of ik_llama.cpp", 400: "the unknown type 400",
}  # fmt: skip


@pytest.mark.parametrize("number", STRANGE)
def test_types_of_others_are_refused_by_name(tmp_path: Path, number: int) -> None:
    file = opened(tmp_path / "a.gguf", build([], [tensor("x", (256,), number, 0)], bytes(64)))
    with pytest.raises(UnsupportedError, match=f"^tensor x is {STRANGE[number]}, which cannot be read$"):
        _ = file.tensors["x"].data


def test_type_table_is_gguf_pys() -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    theirs = {kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    ours = {number: (row.name, row.columns, row.nbytes) for number, row in NUMBERED.items()}
    assert set(theirs) - set(ours) == {9, 15}  # of activations
    assert set(ours) - set(theirs) <= {39, 40, 41, 42}  # newer than some of its versions
    assert all(ours[number] == theirs[number] for number in set(ours) & set(theirs))


def test_a_file_by_gguf_py(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    path = tmp_path / "a.gguf"
    x = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    q4 = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q4_0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_token_list(["a", "é"])
    writer.add_token_scores([1.0, -2.0])
    writer.add_add_bos_token(False)
    writer.add_tensor("x", x)
    writer.add_tensor("q", q4, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_gguf(path) as file:
        assert file.metadata["general.architecture"] == "llama"
        assert file.metadata["tokenizer.ggml.tokens"] == ["a", "é"]
        assert file.metadata["tokenizer.ggml.scores"] == [1.0, -2.0]
        assert file.metadata["tokenizer.ggml.add_bos_token"] is False
        assert np.array_equal(file.tensors["x"].data.view("<f4").reshape(6, 64), x)
        assert file.tensors["q"].shape == (6, 64) and bytes(file.tensors["q"].data) == q4.tobytes()


def write_parts(folder: Path, count: int = 3) -> list[Path]:
    """A model of two tensors in each of some files, by gguf-py."""
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    writer = gguf.GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=2)
    writer.add_token_list(["a", "b"])
    for number in range(2 * count):
        writer.add_tensor(f"x{number}", np.full((4, 8), number, np.float32))
    writer.write_header_to_file(folder / "m.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("*.gguf"))


@pytest.mark.parametrize("given", [0, 1, 2])
def test_parts_are_read_as_one(tmp_path: Path, given: int) -> None:
    paths = write_parts(tmp_path)
    assert [path.name for path in paths] == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    with open_gguf(paths[given]) as file:
        assert file.paths == tuple(paths) == tuple(part_paths(paths[given])) and file.path == paths[0]
        assert file.metadata["tokenizer.ggml.tokens"] == ["a", "b"]
        assert list(file.tensors) == [f"x{n}" for n in range(6)]
        assert [found.data.view("<f4")[0] for found in file.tensors.values()] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(UsageError, match="was closed"):
        _ = file.tensors["x5"].data


def part(number: int, count: int, tensors: list[str], total: int, *more: bytes) -> bytes:
    pairs = [
        pair("split.no", U16, number),
        pair("split.count", U16, count),
        pair("split.tensors.count", I32, total),
    ]
    return build(
        [*pairs, *more],
        [tensor(name, (8,), 0, 32 * i) for i, name in enumerate(tensors)],
        bytes(32 * len(tensors)),
    )


BAD_PARTS = {  # files by number; the error; what it says
    "missing": ({1: part(0, 2, ["a"], 2)}, UsageError,
                "m-00002-of-00002.gguf is missing: m-00001-of-00002.gguf is one of several"),
    "number": ({1: part(0, 2, ["a"], 2), 2: part(0, 2, ["b"], 2)}, FormatError,
               r"m-00002-of-00002.gguf: split.no and split.count are \(0, 2\), but by its name it is part 2"),
    "count": ({1: part(0, 3, ["a"], 2), 2: part(1, 2, ["b"], 2)}, FormatError,
              "it is one of 3 parts, but its name does not end in a part's -00001-of-00003.gguf"),
    "too many": ({1: part(0, 257, ["a"], 2)}, FormatError,
                 "split.count is 257, but a model has at most 256 parts"),
    "no part": ({1: part(0, 2, ["a"], 2), 2: build([], [tensor("b", (8,), 0, 0)], bytes(32))}, FormatError,
                r"are \(None, None\), but"),
    "twice": ({1: part(0, 2, ["a"], 2), 2: part(1, 2, ["a"], 2)}, FormatError,
              "tensor a is in an earlier part, too"),
    "total": ({1: part(0, 2, ["a"], 3), 2: part(1, 2, ["b"], 3)}, FormatError,
              "split.tensors.count is 3, but the parts hold 2"),
    "no file": ({1: part(0, 2, ["a"], 2), 2: b"GGML"}, FormatError,
                "m-00002-of-00002.gguf: not a GGUF file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PARTS)
def test_parts_that_do_not_go_together(tmp_path: Path, case: str) -> None:
    files, error, match = BAD_PARTS[case]
    for number, raw in files.items():
        (tmp_path / f"m-{number:05}-of-00002.gguf").write_bytes(raw)
    with pytest.raises(error, match=match):
        open_gguf(tmp_path / "m-00001-of-00002.gguf")


def test_a_part_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(part(0, 2, ["a"], 2))
    with pytest.raises(FormatError, match="one of 2 parts, but its name does not end in"):
        open_gguf(tmp_path / "m.gguf")
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(build([], [tensor("a", (8,), 0, 0)], bytes(32)))
    assert list(open_gguf(tmp_path / "m-00001-of-00002.gguf").tensors) == [
        "a"
    ]  # the file counts, not its name


def test_the_limit_of_memory_is_for_all_parts(tmp_path: Path) -> None:
    words = pair("k", ARRAY, (STRING, ["x" * 60_000] * 400))
    for number in range(3):
        (tmp_path / f"m-{number + 1:05}-of-00003.gguf").write_bytes(
            part(number, 3, ["abc"[number]], 3, words)
        )
    with pytest.raises(FormatError, match="need more than the limit"):
        open_gguf(tmp_path / "m-00001-of-00003.gguf")


def test_real_vocabularies_read_as_gguf_py_reads_them(data_dir: Path) -> None:
    """All of them open; the smallest is compared, for the reference reader takes half a minute for others."""
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    paths = sorted((data_dir / "vocab").glob("*.gguf"))
    assert paths
    for path in paths:
        with open_gguf(path) as file:
            assert len(file.metadata["tokenizer.ggml.tokens"]) > 30_000
    for path in sorted(paths, key=lambda path: path.stat().st_size)[:1]:
        reference = gguf.GGUFReader(path)
        with open_gguf(path) as file:
            fields = {k: f for k, f in reference.fields.items() if not k.startswith("GGUF.")}
            assert list(file.metadata) == list(fields)
            assert list(file.tensors) == [t.name for t in reference.tensors]
            for key, field in fields.items():
                ours = file.metadata[key]
                if isinstance(ours, list | Strings):
                    assert len(ours) == len(field.data)
                    places = range(0, len(ours), max(1, len(ours) // 50))
                    assert [ours[i] for i in places] == [field.contents(i) for i in places]
                else:
                    assert ours == field.contents()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError):
            open_gguf(path)


def test_the_samples_are_right(tmp_path: Path) -> None:
    """The handmade files of these tests are sound when nothing is wrong with them."""
    gguf = pytest.importorskip("gguf", reason="the gguf package is the reference here")
    path = tmp_path / "a.gguf"
    pairs: list[Any] = [pair("k", F32, 1.0), pair("s", ARRAY, (STRING, ["a"]))]
    path.write_bytes(build(pairs, [tensor("a", (8,), 0, 0), tensor("b", (8,), 0, 32)], bytes(64)))
    reference = gguf.GGUFReader(path)
    assert [t.name for t in reference.tensors] == list(open_gguf(path).tensors) == ["a", "b"]
    assert value(U8, 3) == b"\3"

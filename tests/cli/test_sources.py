"""MODEL on the way to an .edgeq file: conversion into the cache, once per state of the source."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from edgeq.cli import sources
from edgeq.library import find
from tests.cli.conftest import Call


@pytest.fixture
def checkpoint(tmp_path: Path, demo_checkpoint: Path) -> Path:
    """A copy that a test may change."""
    path = tmp_path / "my model"
    shutil.copytree(demo_checkpoint, path)
    return path


def converted(cache: Path) -> list[Path]:
    return sorted((cache / "edgeq" / "models").iterdir())


def test_a_directory_is_converted_once(call: Call, checkpoint: Path, fresh_cache: Path) -> None:
    first = call("run", str(checkpoint), "-p", "x")
    assert f"converting {checkpoint} to q4" in first.err
    (file,) = converted(fresh_cache)
    assert file.name.startswith("my-model-q4-") and file.suffix == ".edgeq"
    assert first.models[0].file.path == file
    stamp = file.stat().st_mtime_ns
    second = call("run", str(checkpoint), "-p", "x")
    assert "converted earlier" in second.err and "converting" not in second.err
    assert file.stat().st_mtime_ns == stamp
    assert call("run", str(checkpoint), "-p", "x", "-q").err == ""


def test_what_is_measured_is_not_rounded(
    checkpoint: Path, fresh_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its copy stands beside the one that runs, and neither takes the other's place."""
    small = sources.resolve(str(checkpoint), quiet=True)
    exact = sources.resolve(str(checkpoint), keep=True)
    assert f"converting {checkpoint} to keep, once" in capsys.readouterr().err
    assert converted(fresh_cache) == sorted([small, exact])
    names = [path.name.rsplit("-", 2)[0] for path in (small, exact)]
    assert names == ["my-model-q4", "my-model-keep"]
    assert sources.resolve(str(checkpoint), quiet=True) == small
    assert sources.resolve(str(checkpoint), keep=True) == exact
    assert "converted earlier" in capsys.readouterr().err
    os.utime(checkpoint / "config.json", ns=(1, 1))
    changed = sources.resolve(str(checkpoint), quiet=True, keep=True)
    assert converted(fresh_cache) == sorted([small, changed])


def test_an_old_copy_that_cannot_be_removed(
    call: Call, checkpoint: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("run", str(checkpoint), "-p", "x")
    (old,) = converted(fresh_cache)
    os.utime(checkpoint / "config.json", ns=(1, 1))

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    assert call("run", str(checkpoint), "-p", "x").code == 0
    assert old in converted(fresh_cache)


def test_a_changed_source_is_converted_again_and_replaces_the_old(
    call: Call, checkpoint: Path, fresh_cache: Path
) -> None:
    call("run", str(checkpoint), "-p", "x")
    (old,) = converted(fresh_cache)
    os.utime(checkpoint / "config.json", ns=(1, 1))
    call("run", str(checkpoint), "-p", "x")
    (new,) = converted(fresh_cache)
    assert new != old


def test_the_cache_is_private(call: Call, checkpoint: Path, fresh_cache: Path) -> None:
    call("run", str(checkpoint), "-p", "x")
    assert (fresh_cache / "edgeq" / "models").stat().st_mode & 0o077 == 0


def test_a_failed_conversion_leaves_nothing(call: Call, checkpoint: Path, fresh_cache: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_type": "mamba"}')
    result = call("run", str(checkpoint), "-p", "x")
    assert result.code == 3 and "mamba" in result.err.splitlines()[-1]
    assert converted(fresh_cache) == []


def test_a_cache_that_cannot_be_made(
    call: Call, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = call("run", str(checkpoint), "-p", "x")
    assert result.code == 2 and "XDG_CACHE_HOME" in result.err


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF....")
    (tmp_path / "b").write_bytes(b"")
    found = [find.kind(path) for path in (tmp_path, tmp_path / "a.gguf", tmp_path / "b")]
    assert found == ["directory", "gguf", "edgeq"]


@pytest.mark.parametrize(
    ("type_name", "scheme"), [("Q8_0", "keep"), ("Q4_0", "keep"), ("Q5_1", "keep"), ("F16", "q4")]
)
def test_a_gguf_keeps_its_bits(tmp_path: Path, type_name: str, scheme: str) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    kind = getattr(gguf.GGMLQuantizationType, type_name)
    weights = gguf.quants.quantize(np.ones((32, 64), np.float32), kind)
    writer.add_tensor("blk.0.attn_q.weight", weights, raw_dtype=kind)
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert find.scheme_of(path, "gguf") == scheme


def test_parts_of_a_model_are_one_source(tmp_path: Path) -> None:
    """Whichever part is named, it is the same copy, and a new one when any part changes."""
    parts = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"GGUF")
    first, second = (find.cached_path(part, "keep") for part in parts)
    assert first == second and first.name.startswith("m-00001-of-00002-keep-")
    os.utime(parts[1], ns=(1, 1))
    assert find.cached_path(parts[0], "keep") != first


def test_growth_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for output, source, words in [
        (1_040_000, 1_000_000, ""),
        (1_000_000, 2_000_000, ""),
        (1_250_000, 1_000_000, "the result takes 1.25 MB, 1.25 times the source's 1 MB\n"),
    ]:
        sources.tell_growth(output, source)
        assert capsys.readouterr().err == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied): name a file that"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
    ],
)
def test_a_file_that_cannot_be_read(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    """Whoever runs the test: root may read everything."""

    def refused(*_: object, **__: object) -> None:
        raise error

    (tmp_path / "m.edgeq").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refused)
    result = call("run", str(tmp_path / "m.edgeq"), "-p", "x")
    assert result.code == 2 and result.err.startswith(f"edgeq: error: {tmp_path / 'm.edgeq'} {words}")


def test_the_nearest_name_of_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stories-q4.edgeq", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert find.near_file(tmp_path / "storeis-q4.edgeq") == "; did you mean 'stories-q4.edgeq'?"
    assert find.near_file(tmp_path / "mistral.gguf") == find.near_file(tmp_path / "no" / "notes.txt") == ""
    (tmp_path / "s.edgeq").write_bytes(b"x")
    assert find.near_file(tmp_path / "missing.edgeq") == ""  # the suffix alone is no likeness
    monkeypatch.setattr(find, "NEAR_MAX", 0)
    assert find.near_file(tmp_path / "note.txt") == ""


def test_a_directory_keeps_its_whole_name(tmp_path: Path) -> None:
    for name in ("Qwen3-0.6B", "plain"):
        (tmp_path / name).mkdir()
        assert find.cached_path(tmp_path / name, "q4").name.startswith(f"{name}-q4-")
    (tmp_path / "Qwen3-0.6B.gguf").write_bytes(b"GGUF")
    assert find.cached_path(tmp_path / "Qwen3-0.6B.gguf", "keep").name.startswith("Qwen3-0.6B-keep-")


def test_a_name_tells_what_was_meant_to_be(tmp_path: Path) -> None:
    """A file that begins like neither is of the kind that its name says."""
    for name, start, kind in (
        ("a.gguf", b"<html>", "gguf"), ("a.edgeq", b"<html>", "edgeq"), ("b.gguf", b"EDGEQ\0\r\n", "edgeq"),
        ("b.edgeq", b"GGUF", "gguf"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(start)
        assert find.kind(tmp_path / name) == kind

"""What was converted is kept: listed, removed, and within a limit, the least recently used first."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from edgeq.converters import convert
from edgeq.errors import UsageError
from edgeq.formats import open_model
from edgeq.library import find, kept

HOUR = 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


def file(folder: Path, name: str, source: str = "0" * 12, nbytes: int = 100, hours: float = 0.0) -> Path:
    """A file as a conversion leaves it, used so many hours ago."""
    path = folder / f"{name}-q4-{source}-{'1' * 12}.edgeq"
    path.write_bytes(bytes(nbytes))
    os.utime(path, (time.time() - hours * HOUR, 1000.0))
    return path


def names(folder: Path) -> list[str]:
    return [entry.name for entry in kept.entries(folder)]


def test_the_last_used_is_the_first(folder: Path) -> None:
    file(folder, "old", hours=9)
    new = file(folder, "new", hours=1)
    middle = file(folder, "a-b.c", hours=5)
    (folder / "other.txt").touch()
    assert names(folder) == ["new-q4", "a-b.c-q4", "old-q4"]
    kept.use(middle)
    assert names(folder) == ["a-b.c-q4", "new-q4", "old-q4"]
    assert middle.stat().st_mtime == 1000.0  # which says when it was converted
    assert kept.entries(folder)[1].path == new and kept.entries(folder)[1].nbytes == 100
    assert kept.entries(folder / "none") == []


def test_names_that_are_not_enough_have_the_source_too(folder: Path) -> None:
    file(folder, "m", "a" * 12)
    file(folder, "m", "b" * 12)
    (folder / "mine.edgeq").touch()
    assert sorted(names(folder)) == [f"m-q4-{'a' * 12}", f"m-q4-{'b' * 12}", "mine"]
    with pytest.raises(UsageError, match=r"'m-q4' means 2 converted models: name one of m-q4-[ab]+, m-q4-"):
        kept.named(folder, ["m-q4"])
    assert [entry.name for entry in kept.named(folder, ["mine", "mine.edgeq"])] == ["mine"]
    with pytest.raises(UsageError, match=r"no converted model is called 'x': `edgeq list` shows the names"):
        kept.named(folder, [f"m-q4-{'a' * 12}", "x"])
    assert len(names(folder)) == 3


def test_what_a_header_says(folder: Path, demo_checkpoint: Path) -> None:
    convert(demo_checkpoint, folder / "m-q8-000000000000-000000000000.edgeq", scheme="q8")
    os.utime(next(folder.iterdir()), (1.0, 2.0))
    (entry,) = kept.entries(folder)
    assert entry.name == "m-q8" and kept.origin(entry) == (demo_checkpoint.name, "q8")
    assert kept.named(folder, [demo_checkpoint.name]) == [entry]
    assert kept.entries(folder)[0].used == 1.0  # to look is no use


def test_no_name_is_no_models_name(folder: Path) -> None:
    file(folder, "damaged")  # without a source: `edgeq rm "$UNSET"` must not mean it
    for name in ("", "*", "..", str(folder)):
        with pytest.raises(UsageError, match="no converted model is called"):
            kept.named(folder, [name])


@pytest.mark.parametrize("letter", ["m", "é", "模"])
def test_a_long_name_of_a_source_is_cut(tmp_path: Path, letter: str) -> None:
    source = tmp_path / (letter * (250 // len(letter.encode())) + ".gguf")
    source.write_bytes(b"GGUF")
    assert len(os.fsencode(find.cached_path(source, "q4").name)) <= 255  # bytes, as file systems allow


def test_removing(folder: Path) -> None:
    first, second = file(folder, "a", nbytes=7), file(folder, "b", nbytes=5)
    there = kept.entries(folder)
    first.unlink()  # by another process
    assert kept.remove(there) == 12 and not second.exists()


# the limit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "limit"), [("300", 300), ("2k", 2000), ("1.5G", 1_500_000_000), ("2GiB", 2 << 30), ("0", None)]
)
def test_limits(folder: Path, monkeypatch: pytest.MonkeyPatch, given: str, limit: int | None) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_LIMIT", given)
    assert kept.limit_of(folder) == limit


def test_a_limit_that_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match="EDGEQ_CACHE_LIMIT is 'much', but must be a size such as 20G, or 0"):
        kept.limit_of(folder)


def test_the_limit_without_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEQ_CACHE_LIMIT", raising=False)
    for total, limit in ((32 * 10**9, 8 * 10**9), (2 * 10**12, 50 * 10**9)):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _, total=total: shutil._ntuple_diskusage(total, 0, 0)
        )
        assert kept.limit_of(folder) == limit


def test_the_least_recently_used_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_LIMIT", "350")
    monkeypatch.setattr(kept, "in_use", set())
    for hours, name in enumerate(("a", "b", "c")):
        file(folder, name, hours=1 + hours)
    told: list[str] = []
    kept.make_room(folder, 50, told.append)
    assert names(folder) == ["a-q4", "b-q4", "c-q4"] and told == []
    kept.make_room(folder, 51, told.append)
    assert names(folder) == ["a-q4", "b-q4"]
    kept.make_room(folder, 1000, told.append)
    assert names(folder) == []
    assert told == [
        f"removed {gone}, used least recently, to keep the converted models within 350 B (EDGEQ_CACHE_LIMIT)"
        for gone in ("c-q4 (100 B)", "b-q4, a-q4 (200 B)")
    ]


def test_what_this_process_uses_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_LIMIT", "100")
    monkeypatch.setattr(kept, "in_use", set())
    used = file(folder, "used", hours=9)
    kept.use(used)
    os.utime(used, (1.0, 1.0))  # whatever else touches it
    file(folder, "other")
    kept.make_room(folder, 10, list[str]().append)
    assert names(folder) == ["used-q4"]


def test_what_this_process_uses_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_LIMIT", "250")
    monkeypatch.setattr(kept, "in_use", {file(folder, "used")})
    file(folder, "other", hours=1)
    kept.make_room(folder, 100, list[str]().append)
    assert names(folder) == ["used-q4"]


def test_a_file_that_another_process_has_open_stays_whole_for_it(folder: Path, demo_checkpoint: Path) -> None:
    path = folder / "m-q8-000000000000-000000000000.edgeq"
    convert(demo_checkpoint, path, scheme="q8")
    with open_model(path) as opened:
        before = opened.tensors["embed"].nbytes
        kept.remove(kept.entries(folder))
        assert not path.exists()
        assert sum(part.nbytes for part in opened.tensors["embed"].parts.values()) == before


def test_a_conversion_makes_room_and_counts_as_use(
    tmp_path: Path, demo_checkpoint: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models fit. Of those that an earlier process used the one used less recently goes."""
    monkeypatch.setenv("EDGEQ_CACHE_LIMIT", "500k")
    sources = [shutil.copytree(demo_checkpoint, tmp_path / name) for name in ("one", "two", "three")]
    told: list[str] = []
    monkeypatch.setattr(kept, "in_use", set())
    one, two = (find.resolve(source, tell=told.append) for source in sources[:2])
    assert one.is_file() and two.is_file()
    monkeypatch.setattr(kept, "in_use", set())
    os.utime(one, (time.time() - HOUR, 1.0))
    three = find.resolve(sources[2], tell=told.append)
    assert not one.exists() and three.is_file()
    assert any(line.startswith("removed one-q4") for line in told)


def test_a_wrong_limit_is_told_before_the_work(
    demo_checkpoint: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_LIMIT", "-3")
    with pytest.raises(UsageError, match="EDGEQ_CACHE_LIMIT"):
        find.resolve(demo_checkpoint)
    assert list(find.cache_directory().iterdir()) == []


def test_what_a_killed_conversion_left_goes(folder: Path) -> None:
    left = folder / ".edgeq-00000000-0123456789abcdef.partial"
    left.write_bytes(b"half")
    other = folder / "mine.partial"
    other.touch()
    kept.clean(folder)
    assert not left.exists() and other.exists()

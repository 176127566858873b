"""edgeq kernels and what doctor says of packs: real files, and a compiler that takes no time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.cli.engine import Compiling
from edgeq.packs import build, folder, store
from edgeq.packs.pack import Pack, decoded
from edgeq.simd.host import host_isa
from edgeq.simd.isa import ISAS
from edgeq.simd.tag import Request
from edgeq.simd.target import Target
from tests.cli.conftest import Call
from tests.simd.objects import adding, made

HERE = Target.of(host_isa().name)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of packs, and a compiler that makes one small function of every kernel."""
    monkeypatch.setenv("EDGEQ_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")

    def compiling(requests: list[Request], target: Target, *_: object) -> Iterator[tuple[Request, bytes]]:
        return ((request, made(adding(0), target)) for request in requests)

    monkeypatch.setattr(build, "compiling", compiling)
    return tmp_path / "kernels"


def read(path: Path) -> Pack:
    return decoded(memoryview(path.read_bytes()))


def test_build_is_for_this_processor(call: Call, place: Path) -> None:
    result = call("kernels", "build", "-j", "1")
    path = place / f"{HERE.name}.pack"
    assert result.code == 0 and result.out == "" and f"{HERE}: " in result.err and str(path) in result.err
    assert set(read(path).kernels) == {tag.named(name) for name, tag in build.all_kernels(HERE)}
    addresses = store.Kernels().load(build.all_kernels(HERE))
    assert len(addresses) == len(read(path).kernels)


def test_update_leaves_alone_what_is_right(call: Call, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack of these kernels stays as it is; one of other kernels, of a part of them, or none is made."""
    path = place / f"{HERE.name}.pack"
    assert call("kernels", "build", "--update", "-q", "-j", "1").code == 0
    whole = path.read_bytes()
    made_at = path.stat().st_mtime_ns
    result = call("kernels", "build", "--update", "-j", "1")
    assert result.code == 0 and "is of these kernels" in result.err and str(path) in result.err
    assert path.stat().st_mtime_ns == made_at
    pack = read(path)
    part = replace(pack, kernels=dict(list(pack.kernels.items())[:1]))
    for other in (replace(pack, sources="of others").encoded(), part.encoded(), b"no pack"):
        path.write_bytes(other)
        assert call("kernels", "build", "--update", "-q", "-j", "1").code == 0
        assert path.read_bytes() == whole


def test_build_for_a_board(call: Call, tmp_path: Path, place: Path) -> None:
    """By its processor, into a file; found where it is copied to, by machines of that tier."""
    result = call(
        "kernels", "build", "--cpu", "cortex-a76", "-o", str(tmp_path / "pi5.pack"), "-q", "-j", "1"
    )
    assert (result.code, result.out, result.err) == (0, "", "")
    target = Target("dotprod", "aarch64")
    assert read(tmp_path / "pi5.pack").target == target and not place.exists()
    place.mkdir()
    (tmp_path / "pi5.pack").rename(place / "pi5.pack")
    (loaded,) = store.packs(target)
    assert loaded.path == place / "pi5.pack" and len(loaded.pack.kernels) == len(build.all_kernels(target))


def test_build_every_tier_into_a_directory(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no directory" in call("kernels", "build", "--all", "-o", str(out)).err
    out.mkdir()
    assert call("kernels", "build", "--all", "-o", str(out), "-q", "-j", "1").code == 0
    wanted = {f"{row.machine}-{row.name}.pack" for row in ISAS if row.machine}
    assert {path.name for path in out.iterdir()} == wanted
    assert all(read(path).target.name == path.stem for path in out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tier", "avx1024"], ["--tier", "avx1024", "avx2"]),
        (["--cpu", "cortex-a77x"], ["cortex-a77x", "cortex-a77"]),
        (["--cpu", "haswell", "--all"], ["exclude"]),
        (["--tier", "neon", "--cpu", "haswell"], ["exclude"]),
        (["-j", "0"], ["-j"]),
        (["-o", "nowhere/my.pack"], ["no directory", "nowhere"]),
    ],
)
def test_wrong_calls(call: Call, arguments: list[str], words: list[str]) -> None:
    result = call("kernels", "build", *arguments)
    assert result.code == 2 and result.err.startswith("edgeq: error: ") and result.err.count("\n") == 1
    assert all(word in result.err for word in words)


def test_a_folder_that_cannot_be_used_is_an_error(call: Call, place: Path) -> None:
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    result = call("kernels", "build", "-j", "1")
    if hasattr(os, "getuid"):
        assert result.code == 1 and "others can write it" in result.err and str(place) in result.err


def test_interrupted_build_leaves_nothing(call: Call, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> Iterator[tuple[Request, bytes]]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(build, "compiling", interrupt)
    assert call("kernels", "build", "-j", "1").code == 130
    assert list(place.iterdir()) == []


def test_list_tells_what_is_used_and_why_not(call: Call, place: Path) -> None:
    answer = json.loads(call("kernels", "list", "--json").out)
    assert answer == {"folder": str(place), "tier": HERE.name, "packs": []}
    call("kernels", "build", "-j", "1")
    call("kernels", "build", "--tier", "neon", "-j", "1")
    call("kernels", "build", "--tier", "avx512vnni", "-j", "1")
    (place / "odd.pack").write_bytes(b"odd" * 50)
    pack = read(place / f"{HERE.name}.pack")
    old = Pack(pack.target, "older", pack.compiler, pack.kernels, bytes(pack.image))
    folder.publish(place / "old.pack", old.encoded())
    foreign = Pack(pack.target, pack.sources, "numba 0", pack.kernels, bytes(pack.image))
    folder.publish(place / f"{HERE.name}.compiled", foreign.encoded())
    answer = json.loads(call("kernels", "list", "--json").out)
    states = {Path(row["file"]).name: row["state"] for row in answer["packs"]}
    assert states[f"{HERE.name}.pack"] == "used"
    assert "for another tier" in states.values()
    assert states["odd.pack"] == "refused: it is no pack of kernels"
    assert "build it again" in states["old.pack"]
    assert states[f"{HERE.name}.compiled"] == "refused: another compiler made it"
    (mine,) = (row for row in answer["packs"] if row["state"] == "used")
    assert mine["tier"] == HERE.name and mine["kernels"] == len(pack.kernels)
    assert mine["compiler"] == build.compiler() and mine["bytes"] == Path(mine["file"]).stat().st_size
    table = call("kernels", "list").out
    assert str(place) in table and "odd.pack" in table and HERE.name in table.splitlines()[0]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions as on POSIX systems")
def test_list_tells_of_an_unsafe_folder(call: Call, place: Path) -> None:
    call("kernels", "build", "-j", "1")
    place.chmod(0o777)
    (row,) = json.loads(call("kernels", "list", "--json").out)["packs"]
    assert row["state"].startswith("refused: others can write it")


def test_clear_removes_packs_alone(call: Call, place: Path) -> None:
    assert f"{place}: 0" in call("kernels", "clear").err
    call("kernels", "build", "-j", "1")
    (place / "notes.txt").write_text("mine")
    assert f"{place}: 1" in call("kernels", "clear").err
    assert [path.name for path in place.iterdir()] == ["notes.txt"]


def test_doctor_tells_where_kernels_come_from(call: Call, place: Path) -> None:
    facts = json.loads(call("doctor", "--json").out)
    every = len(build.all_kernels(HERE))
    assert facts["kernels"]["to_compile"] == every and facts["kernels"]["packs"] == {}
    assert facts["instructions"]["chosen"] == HERE.isa and facts["instructions"]["forced"] is False
    call("kernels", "build", "-j", "1")
    facts = json.loads(call("doctor", "--json").out)
    assert facts["kernels"]["to_compile"] == 0 and facts["problems"] == []
    assert facts["kernels"]["packs"] == {str(place / f"{HERE.name}.pack"): f"{every} kernels"}
    assert facts["kernels"]["tier"] == HERE.name and facts["kernels"]["compiler"] == build.compiler()


def test_doctor_tells_of_packs_that_are_refused(call: Call, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "odd.pack").write_bytes(b"odd" * 50)
    result = call("doctor")
    lines = result.out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("kernels ")]
    assert result.code == 1 and lines[at].endswith(": not well")
    assert lines[at + 1].startswith("            a pack of kernels is not used")


def test_one_kernel_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    telling = Compiling(quiet=False)
    telling(0, 1, "one")
    telling.end()
    assert capsys.readouterr().err.startswith(
        "compiling 1 kernel for this processor, once\ncompiled 1 kernel in "
    )


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_tells_that_it_waits_and_compiles(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    telling = Compiling(quiet)
    telling(0, 2, store.WAITING)
    telling(0, 2, "one")
    telling(1, 2, "two")
    telling(2, 2, "")
    telling.end()
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines == [] if quiet else lines[:2] == [store.WAITING, "compiling 2 kernels for this processor, once"]
    )
    assert quiet or (len(lines) == 3 and lines[2].startswith("compiled 2 kernels in "))

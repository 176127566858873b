"""doctor: what it finds, in words for people, and what it tells of a machine that is not well."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeq import idle, tune, tuned
from edgeq.cli import examine, machine
from tests.cli.conftest import Call

FOUND = tuned.Tuned({"matmul q4": 6}, 1)
TILES = tune.Choice("matmul q4", 4, "GMAC/s", {4: 50.0, 6: 60.0})
THREADS = tune.Choice("threads", 2, "of the default's rate", {1: 0.9, 2: 1.0})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, fresh_cache: Path) -> list[str]:
    """Nothing is measured, and the machine is idle; a list to which each measuring adds."""
    times: list[str] = []

    def measure(progress: object) -> tuple[tuned.Tuned, list[tune.Choice]]:
        times.append("measured")
        return FOUND, [TILES, THREADS]

    monkeypatch.setattr(tune, "tune", measure)
    monkeypatch.setattr(idle, "wait", lambda tell: 0.0)
    monkeypatch.setattr(idle, "times", lambda: idle.Times(0, 0, 0))
    return times


# what it tells ------------------------------------------------------------------------------------------


def test_a_line_for_each_part_says_whether_it_is_well(call: Call) -> None:
    out = call("doctor").out
    *lines, last = out.splitlines()
    names = ["edgeq", "system", "processor", "memory", "kernels", "cache", "disk", "temporary", "tuned"]
    assert [line.split()[0] for line in lines] == names and last == "all is well"
    assert all(line.endswith(": well") for line in lines)
    assert not re.search(r"None|True|False|[{}\[\]]|'", out)


def test_json_has_the_keys_that_it_had(call: Call) -> None:
    facts = json.loads(call("doctor", "--json").out)
    assert {"edgeq", "machine", "instructions", "kernels", "tuned", "cache", "problems"} <= set(facts)
    assert {
        "system",
        "page_size",
        "memory_bytes",
        "memory_free_bytes",
        "cores_physical",
        "cores_allowed",
    } <= set(facts["machine"])
    assert {"directory", "writable", "converted_models", "files", "bytes", "disk_free_bytes"} <= set(
        facts["cache"]
    )


@pytest.mark.parametrize(
    ("free", "code", "words"),
    [
        (0, 1, "has only 0 B left"),
        (4_000_000, 1, "has only 4 MB left"),
        (9 * 10**9, 0, "9 GB of 64 GB are free"),
    ],
)
def test_a_disk_that_is_full(
    call: Call, monkeypatch: pytest.MonkeyPatch, free: int, code: int, words: str
) -> None:
    usage = SimpleNamespace(total=64 * 10**9, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    result = call("doctor")
    assert result.code == code and words in result.out
    assert ("XDG_CACHE_HOME" in result.out) == ("2 things are not well" in result.out) == bool(code)


def test_memory_that_is_not_there(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.cores.free_memory", lambda: 30_000_000)
    result = call("doctor")
    assert result.code == 1 and "only 30 MB of memory are free" in result.out
    assert "\n1 thing is not well\n" in result.out and "are free: not well" in result.out


def test_a_folder_that_cannot_be_written(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine.os, "access", lambda *_: False)
    result = call("doctor")
    assert result.code == 1 and "cannot be written: set XDG_CACHE_HOME" in result.out


def test_no_folder_for_temporary_files(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(examine.tempfile, "gettempdir", nowhere)
    result = call("doctor")
    assert result.code == 1 and "set TMPDIR to one that can be" in result.out


def test_an_instruction_set_that_is_not_here(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.simd import host

    host.host_isa.cache_clear()
    monkeypatch.setenv("EDGEQ_ISA", "mmx")
    try:
        result = call("doctor")
    finally:
        host.host_isa.cache_clear()
    assert result.code == 1 and "EDGEQ_ISA: " in result.out and "None" not in result.out


def test_a_file_that_goes_meanwhile(tmp_path: Path) -> None:
    """As the hidden one of a conversion that another process ends."""
    (tmp_path / "there").write_bytes(b"abc")
    assert [examine.bytes_of(tmp_path / name) for name in ("there", "gone")] == [3, 0]


# the machine's names ------------------------------------------------------------------------------------

PI = """processor\t: 0
CPU implementer\t: 0x41
CPU part\t: 0xd0b
{}
processor\t: 1
CPU implementer\t: 0x41
CPU part\t: {}

Revision\t: c04170
"""


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "processor : 0\nmodel name\t: AMD EPYC 7763\n\nprocessor : 1\nmodel name\t: AMD EPYC 7763\n",
            "AMD EPYC 7763",
        ),
        (PI.format("", "0xd0b"), "ARM Cortex-A76"),
        (PI.format("", "0xd03"), "ARM Cortex-A76 and ARM Cortex-A53"),
        (PI.format("", "0xeee"), "ARM Cortex-A76 and ARM core 0x41 0xeee"),
        (PI.format("", "odd"), "ARM Cortex-A76 and ARM core 0x41 odd"),
        ("hart : 0\nisa : rv64gc\n", ""),
        ("", ""),
    ],
)
def test_names_of_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, name: str
) -> None:
    monkeypatch.setattr(machine.sys, "platform", "linux")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    assert machine.processor(tmp_path) == name
    assert machine.processor(tmp_path / "no") == ""


def test_the_name_of_a_board(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert (
        machine.board(tmp_path) == "Raspberry Pi 5 Model B Rev 1.0" and machine.board(tmp_path / "no") == ""
    )


# tuning -------------------------------------------------------------------------------------------------


def test_tuning_says_what_it_keeps_and_where(call: Call, measured: list[str], fresh_cache: Path) -> None:
    out = call("doctor", "--tune").out
    assert measured == ["measured"] and tuned.file().is_file()
    assert "matmul q4: 6 tokens to a tile, 20% faster than 4" in out
    assert "2 threads, the default, nothing is faster" in out
    assert f"kept        in {fresh_cache / 'edgeq' / 'tuned.json'}; `edgeq doctor --forget` undoes it" in out
    assert "tuned       matmul q4 in tiles of 6" in out


def test_forgetting_undoes_it(call: Call, measured: list[str]) -> None:
    before = json.loads(call("doctor", "--json").out)["tuned"]
    call("doctor", "--tune")
    assert json.loads(call("doctor", "--json").out)["tuned"] != before
    result = call("doctor", "--forget")
    assert result.code == 0 and "forgotten   what --tune had found here" in result.out
    assert json.loads(call("doctor", "--json").out)["tuned"] == before and not tuned.file().exists()
    again = json.loads(call("doctor", "--forget", "--json").out)
    assert again["forgotten"] is False and again["tuned"] == before


def test_a_busy_machine_is_not_measured(
    call: Call, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "wait", lambda tell: 1.3)
    result = call("doctor", "--tune")
    assert result.code == 1 and measured == [] and not tuned.file().exists()
    assert result.err.startswith("edgeq: error: other programs take ") and "--force" in result.err
    assert call("doctor", "--tune", "--force").code == 0 and measured == ["measured"]


def test_what_was_measured_beside_others_is_not_kept(
    call: Call, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([idle.Times(0, 0, 0), idle.Times(10, 15, 10)])
    monkeypatch.setattr(idle, "times", looks.__next__)
    result = call("doctor", "--tune")
    assert result.code == 1 and measured == ["measured"] and not tuned.file().exists()
    assert "take 0.5 of" in result.err or "take 50% of" in result.err


def test_findings_that_cannot_be_kept(
    call: Call, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tuned, "keep", keep)
    result = call("doctor", "--tune")
    assert result.code == 1 and "Read-only file system" in result.err and "XDG_CACHE_HOME" in result.err

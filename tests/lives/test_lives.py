"""Every scenario, a few times (`python -m tests.lives` takes thousands)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lives.__main__ import run
from tests.lives.scenarios import ENDINGS, SCENARIOS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc and at signals")
COUNTS = {
    "a_compiler_is_killed": 1,
    "break_off_loading": 40,
    "drop": 30,
    "fork": 16,
    "fork_while_compiling": 1,
    "interrupt_while_compiling": 1,
    "little_memory_while_compiling": 1,
    "load_in_the_progress_of_another": 1,
    "run_in_a_handler": 50,
}  # 5 where nothing is said


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Path:
    from edgeq.converters import convert

    path = tmp_path_factory.mktemp("lives") / "demo.edgeq"
    convert(demo_checkpoint, path, scheme="q4")
    return path


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("name", ENDINGS)
def test_ends(name: str, threads: int, file: Path) -> None:
    assert run(name, file, threads, 1) == ""


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - set(ENDINGS)))
def test_scenario(name: str, file: Path) -> None:
    assert run(name, file, 3, COUNTS.get(name, 5)) == ""


def test_a_failure_is_seen(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above can fail: a scenario that raises, and one that crashes."""
    monkeypatch.setenv("PYTHONPATH", "")
    assert "KeyError" in run("there is no such scenario", file, 1, 1)

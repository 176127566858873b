"""The parts of the proof on emulated PCs that need no emulator."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.board import wheels
from tests.patience import STUCK_S
from tests.pc import disc
from tests.pc.__main__ import PCS
from tests.pc.emulator import Emulator
from tests.pc.machine import Machine

BOCHS = f"""#!{sys.executable}
# Says what Bochs with Linux in it would say: the guest, on the second serial line.
import re, sys
sys.path.insert(0, {str(disc.GUEST.parent)!r})
import guest
settings = open(sys.argv[-1]).read()
open(re.search("mode=file, dev=(.*)", settings)[1], "w").write("the kernel's last words")
guest.serve(re.search("mode=term, dev=(.*)", settings)[1])
"""

AS_LONG_AS_ITS_PC = """import time
while True:  # until nobody takes what it says
    print(flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    program = Emulator(tmp_path).program
    program.parent.mkdir()
    program.write_text(BOCHS)
    program.chmod(0o755)
    machine = Machine("tigerlake", Emulator(tmp_path), tmp_path / "disc", tmp_path)
    yield machine
    machine.stop()


def python(machine: Machine, code: str, timeout: float = STUCK_S) -> subprocess.CompletedProcess[str]:
    return machine.run([sys.executable, "-c", code], {"WORD": "Grüße"}, timeout)


def test_programs_run_one_after_the_other(machine: Machine) -> None:
    done = python(
        machine, "import os, sys; print(os.environ['WORD']); print('no', file=sys.stderr); sys.exit(3)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "Grüße\n", "no\n")
    assert len(python(machine, "print('x' * 300_000)" + " " * 10_000).stdout) == 300_001


def test_a_pc_that_goes_off_has_failed(machine: Machine) -> None:
    done = python(machine, "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    assert (done.returncode, done.stdout) == (-1, "the kernel's last words")
    assert python(machine, "print(1)").returncode == -1


def test_a_program_that_takes_too_long_ends_with_its_pc(machine: Machine) -> None:
    assert python(machine, "").returncode == 0
    with pytest.raises(subprocess.TimeoutExpired):
        python(machine, AS_LONG_AS_ITS_PC, timeout=0.5)
    assert python(machine, "print(1)").returncode == -1


def test_what_goes_onto_the_disc(tmp_path: Path) -> None:
    for name in ("usr/bin", "usr/share/doc", "srv/board", "var/lib"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    (tmp_path / "bin").symlink_to("usr/bin")
    assert disc.taken(tmp_path) == [
        *("bin", "srv", "usr", "srv/board", "srv/board/file"),
        *("usr/bin", "usr/bin/file"),
    ]


def test_every_processor_of_the_table_is_emulated() -> None:
    manual = (wheels.TREE / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \| .+ \|$", manual, re.MULTILINE)
    assert rows == [(pc.name, pc.isa) for pc in PCS]

"""What a shell lets programs ignore changes nothing in the tests, and edgeq keeps to it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli import fakes
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parent.parent
BACKGROUND = ["sh", "-c", "trap '' INT HUP TERM; exec \"$@\"", "sh"]  # as a shell starts `nohup COMMAND &`

PARENT = """
import os, signal, subprocess, sys
from tests.conftest import usual_signals
usual_signals()
child = subprocess.Popen(["sleep", "3600"])
child.send_signal(getattr(signal, sys.argv[1]))
print(child.wait())
for name in ("SIGHUP", "SIGTERM"):
    os.kill(os.getpid(), getattr(signal, name))
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("alive")
"""


def test_signals_that_a_shell_ignores_are_usual_in_tests() -> None:
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        command = [*BACKGROUND, sys.executable, "-c", PARENT, name]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=STUCK_S)
        assert done.stdout.split() == [str(-getattr(signal, name)), "alive"], done.stderr


def test_a_background_job_goes_on_after_ctrl_c(tmp_path: Path) -> None:
    """The convention of shells: what was started with SIGINT ignored ignores it."""
    model = tmp_path / "fake.edgeq"
    model.write_bytes(b"not read")
    code = fakes.program("halting", "run", str(model), "-p", "x", "-q")
    command = [*BACKGROUND, sys.executable, "-c", code]
    pipes: Any = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True, cwd=ROOT) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.read(3) == "one"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        process.stdin.close()  # it goes on
        assert process.stdout.read() == fakes.SONG[3:] + "\n"
        assert process.wait(STUCK_S) == 0

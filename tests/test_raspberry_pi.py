"""docs/raspberry-pi.md and its service: figures are computed, the unit is sound, the service answers."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeq
from bench import memory
from bench.known import KNOWN
from edgeq import converters
from edgeq.cache import CacheShape
from edgeq.formats import open_model
from examples.service import answer
from tests.board import proof
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parent.parent
MANUAL = (ROOT / "docs" / "raspberry-pi.md").read_text(encoding="utf-8")
SERVICE = ROOT / "examples" / "service"


def test_the_memory_table_is_what_is_computed() -> None:
    assert memory.table() in MANUAL, f"the table of docs/raspberry-pi.md should be\n{memory.table()}"


def test_a_need_is_what_the_file_and_the_cache_take(tmp_path: Path, demo_checkpoint: Path) -> None:
    """On the bundled model, whose file can be looked at."""
    words = json.loads((demo_checkpoint / "config.json").read_text())
    path = tmp_path / "demo.edgeq"
    converters.convert(demo_checkpoint, path, scheme="q4")
    need = memory.Need.of(words, "q4", "q8")
    with open_model(path) as file:
        assert need.file == sum(t.nbytes for name, t in file.tensors.items() if name != "tokenizer")
    assert need.token * 512 == CacheShape.of("q8", 5, 4, 8, 512).nbytes


def test_a_context_fits_and_one_step_more_does_not() -> None:
    need = memory.Need.of(KNOWN["Qwen3-4B"][0], "q4", "q8")
    fits, room = need.context(4), memory.SHARE * (4 << 30) - need.runtime - need.file
    assert 0 < fits * need.token <= room < (fits + memory.STEP) * need.token
    assert need.context(2) == 0 and need.context(64) == need.tokens_max


def test_the_boards_commands_are_three() -> None:
    commands = proof.documented()
    assert len(commands) == 3 and commands[0].startswith("sudo apt install")
    assert commands[2] == "edgeq/bin/edgeq demo"


def test_every_processor_of_the_table_is_emulated() -> None:
    rows = re.findall(r"^\| (.+?) \| .+ \| `(\w+)` \| the bits of x86-64 \|$", MANUAL, re.MULTILINE)
    assert rows == [(board.name, board.isa) for board in proof.BOARDS]


# ---- the service ----
def unit(tmp_path: Path) -> Path:
    """The unit with a program that this machine has, so that only the unit can be wrong."""
    text = (SERVICE / "edgeq.service").read_text(encoding="utf-8")
    path = tmp_path / "edgeq.service"
    path.write_text(text.replace("ExecStart=/opt/edgeq/bin/python", "ExecStart=/bin/true"))
    return path


def systemd_analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=STUCK_S)


def test_the_unit_is_right(tmp_path: Path) -> None:
    done = systemd_analyze("verify", str(unit(tmp_path)))
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def test_the_unit_is_closed(tmp_path: Path) -> None:
    """systemd's own measure of what a service could do, 0 to 10, is at most 1."""
    done = systemd_analyze("security", "--offline=true", "--threshold=10", str(unit(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_runs_what_there_is() -> None:
    """The command of the unit parses, and its quota is a processor for each thread."""
    text = (SERVICE / "edgeq.service").read_text(encoding="utf-8")
    (command,) = re.findall(
        r"^ExecStart=/opt/edgeq/bin/python /opt/edgeq/answer.py (.*)$", text, re.MULTILINE
    )
    given = answer.parse(command.split())
    assert f"CPUQuota={given.threads}00%" in text and given.does == "serve"
    assert given.path.startswith("/run/edgeq/") and "RuntimeDirectory=edgeq\n" in text


PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1


def deny_write_execute() -> None:
    """What MemoryDenyWriteExecute= asks for, by the kernel's own means; before Linux 6.3 it does nothing."""
    ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Iterator[Path]:
    """Of a running answer.py with the bundled model which can make no memory executable; it ends if asked."""
    folder = tmp_path_factory.mktemp("service")
    model, path = folder / "demo.edgeq", folder / "socket"
    converters.convert(demo_checkpoint, model, scheme="q8")
    with edgeq.load(model):
        pass  # so that there is a pack with its kernels
    command = [sys.executable, str(SERVICE / "answer.py"), "serve", str(model), str(path)]
    with subprocess.Popen(
        [*command, "--max-tokens", "24", "--threads", "1"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=deny_write_execute,
    ) as service:  # fmt: skip
        assert service.stdout is not None and "is ready" in service.stdout.readline()
        yield path
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=STUCK_S) == 0
    assert not path.exists() or path.is_socket()


def ask(path: Path, text: str) -> str:
    """What the service answers, by the client that comes with it."""
    command = [sys.executable, str(SERVICE / "answer.py"), "ask", str(path), text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=STUCK_S, cwd=ROOT)
    return done.stdout


def test_the_service_answers_one_after_the_other(socket_path: Path) -> None:
    assert len(ask(socket_path, "Once upon a time")) > 20
    assert len(ask(socket_path, "There was a")) > 20


def test_what_cannot_be_answered_ends_that_connection_alone(socket_path: Path) -> None:
    assert ask(socket_path, "word " * 2000) == ""  # more than the context
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(socket_path))
        connection.sendall(b"\xff\xfe")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    with socket.socket(socket.AF_UNIX) as connection:  # gone before the answer
        connection.connect(str(socket_path))
        connection.sendall(b"Once upon a time")
    assert len(ask(socket_path, "Once upon a time")) > 20


def test_the_kernel_denies_what_the_unit_denies() -> None:
    """So that the tests above mean something where the kernel can do it."""
    code = "import mmap; mmap.mmap(-1, 4096, prot=7)"
    command = [sys.executable, "-c", code]
    denied = subprocess.run(command, preexec_fn=deny_write_execute, capture_output=True, text=True)
    if denied.returncode == 0:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert "PermissionError" in denied.stderr

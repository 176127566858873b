"""docs/raspberry-pi.md and the service it describes: figures are computed, the unit is sound, the service answers."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import memory
from bench.known import KNOWN
from edgeq import converters
from edgeq.cache import CacheShape
from tests.board import proof

ROOT = Path(__file__).resolve().parent.parent
MANUAL = (ROOT / "docs" / "raspberry-pi.md").read_text(encoding="utf-8")
SERVICE = ROOT / "examples" / "service"


def test_the_memory_table_is_what_is_computed() -> None:
    assert memory.table() in MANUAL, f"the table of docs/raspberry-pi.md should be\n{memory.table()}"


def test_a_need_is_what_the_file_and_the_cache_take(tmp_path: Path, demo_checkpoint: Path) -> None:
    """On the bundled model, whose file can be looked at."""
    import json

    from edgeq.formats import open_model

    words = json.loads((demo_checkpoint / "config.json").read_text())
    path = tmp_path / "demo.edgeq"
    converters.convert(demo_checkpoint, path, scheme="q4")
    need = memory.Need.of(words, "q4", "q8")
    with open_model(path) as file:
        assert need.file == sum(t.nbytes for name, t in file.tensors.items() if name != "tokenizer")
    assert need.token * 512 == CacheShape.of("q8", 5, 4, 8, 512).nbytes


def test_a_context_fits_and_one_step_more_does_not() -> None:
    need = memory.Need.of(KNOWN["Qwen3-4B"][0], "q4", "q8")
    fits, room = need.context(4), memory.SHARE * (4 << 30) - memory.RUNTIME - need.file
    assert 0 < fits * need.token <= room < (fits + memory.STEP) * need.token
    assert need.context(2) == 0 and need.context(64) == need.tokens_max


def test_the_boards_commands_are_three() -> None:
    commands = proof.documented()
    assert len(commands) == 3 and commands[0].startswith("sudo apt install")
    assert commands[2] == "edgeq/bin/edgeq demo"


def test_every_processor_of_the_table_is_emulated() -> None:
    for board in proof.BOARDS:
        assert f"| `{board.isa}` |" in MANUAL and board.cpu.title().replace("-A", "-A") in MANUAL.title()


# ---- the service ----
@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Iterator[Path]:
    """Of a running answer.py with the bundled model; it must end by itself when asked to."""
    folder = tmp_path_factory.mktemp("service")
    model, path = folder / "demo.edgeq", folder / "socket"
    converters.convert(demo_checkpoint, model, scheme="q8")
    command = [sys.executable, str(SERVICE / "answer.py"), "serve", str(model), str(path), "--max-tokens", "24"]
    with subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.PIPE, text=True, cwd=ROOT) as service:
        assert service.stdout is not None and "is ready" in service.stdout.readline()
        yield path
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=20) == 0


def ask(path: Path, text: str) -> str:
    command = [sys.executable, str(SERVICE / "answer.py"), "ask", str(path), text]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT).stdout


def test_the_service_answers_one_after_the_other(socket_path: Path) -> None:
    assert len(ask(socket_path, "Once upon a time")) > 20
    assert len(ask(socket_path, "There was a")) > 20

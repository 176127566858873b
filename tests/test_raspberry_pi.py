"""docs/raspberry-pi.md: its figures are computed, its commands run or at least parse, its files are there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from bench import boards, memory
from bench.known import KNOWN
from edgeq import cli, converters
from edgeq.cache import LayerShape, Plan, kind_of
from edgeq.cli import run_command
from edgeq.formats import open_model
from examples.service import answer
from tests.board import proof

ROOT = Path(__file__).resolve().parent.parent
MANUAL = (ROOT / "docs" / "raspberry-pi.md").read_text(encoding="utf-8")
SERVICE = ROOT / "examples" / "service"


# ---- figures ----
@pytest.mark.parametrize("table", [memory.table, *boards.TABLES], ids=lambda table: table.__qualname__)
def test_a_table_is_what_is_computed(table: Any) -> None:
    assert table() in MANUAL, f"the table of docs/raspberry-pi.md should be\n{table()}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Path:
    """The bundled model in q4, which stands for all models of the page."""
    path = tmp_path_factory.mktemp("demo") / "demo.edgeq"
    converters.convert(demo_checkpoint, path, scheme="q4")
    return path


def test_a_need_is_what_the_file_and_the_cache_take(demo: Path, demo_checkpoint: Path) -> None:
    """On the bundled model, whose file can be looked at. Its embedding is its head, so a token reads all."""
    words = json.loads((demo_checkpoint / "config.json").read_text())
    need = memory.Need.of(words, "q4", "q8")
    with open_model(demo) as file:
        assert need.file == sum(t.nbytes for name, t in file.tensors.items() if name != "tokenizer")
    plan = Plan.of(kind_of("q8"), 512, [LayerShape(4, 8)] * 5)
    assert need.read == need.file and need.token * 256 == plan.page_bytes


def test_an_embedding_that_is_no_head_is_not_read() -> None:
    words = KNOWN["TinyLlama-1.1B"][0]
    need = memory.Need.of(words, "q4", "q8")
    assert need.file - need.read == 32000 * 2048 * 8.5 / 8  # q8


def test_a_context_fits_and_one_step_more_does_not() -> None:
    need = memory.Need.of(KNOWN["Qwen3-4B"][0], "q4", "q8")
    fits, left = need.context(4), memory.room(4) - need.runtime - need.file
    assert 0 < fits * need.token <= left < (fits + memory.STEP) * need.token
    assert need.context(2) == 0 and need.context(64) == need.tokens_max


def test_what_is_left_to_the_system() -> None:
    """Three quarters of a large board are a model's; of a small one the system needs more than the rest."""
    assert memory.room(8) == 0.75 * 8 * 2**30
    assert memory.room(0.5) == 2**29 - memory.SYSTEM < 0.75 * 2**29


def test_rates_are_bandwidth_over_bytes() -> None:
    need = memory.Need(file=400_000_000, read=300_000_000, runtime=0, token=100_000, tokens_max=4096)
    board = next(board for board in boards.BOARDS if board.name == "Pi 5")
    assert boards.rate(board, need, filled=1000) == board.read * 1e9 / 400_000_000
    assert boards.rate(board, need, filled=5000) is None  # more than the model was made for
    assert [boards.shown(rate) for rate in (None, 9.949, 9.95, 112.6)] == ["–", "9.9", "10", "113"]


def test_what_was_measured_of_a_board_is_below_what_its_bus_carries() -> None:
    for board in boards.BOARDS:
        assert 0.4 * board.peak < board.read < 0.8 * board.peak and board.source.startswith("https://")
    sizes = {size for board in boards.BOARDS for size in board.sizes_gb}
    assert sizes == set(memory.BOARDS_GB)


def test_the_counts_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| (Cortex-A\d+) \| [^|]+ \| \d+ \| [\d.]+, ([\d.]+) \|", MANUAL, re.MULTILINE)
    counted = {core: float(macs) for core, macs in rows}
    for board in boards.BOARDS:
        assert board.macs == counted[board.core]
        assert board.units > board.read  # the page says so


# ---- commands ----
# what the page shows in blocks; in its lines commands are named in part
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)
COMMANDS = [part.strip() for block in BLOCKS for line in block.splitlines() for part in line.split(" && ")]
EDGEQ = [
    found[1] for line in COMMANDS if (found := re.match(r"(?:\S*/)?edgeq ([^#]*)", line.split("  #")[0]))
]
HERE = {"bench", "chat", "convert", "doctor", "show"}  # demo has a test of its own; packs take minutes
RUN = [line for line in dict.fromkeys(EDGEQ) if line.split()[0] in HERE]


def test_the_boards_commands_are_three() -> None:
    commands = proof.documented()
    assert len(commands) == 3 and commands[0].startswith("sudo apt install")
    assert commands[2] == "edgeq/bin/edgeq demo"


def test_only_the_pi_does_what_the_readme_does() -> None:
    """The README's command, which .ci/run runs, after the package that a board lacks."""
    (block,) = re.findall(r"^<!-- alone -->\n```sh\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)
    system, *commands = block.splitlines()
    assert system == proof.documented()[0]
    assert f"\n{' && '.join(commands)}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[:30])
def test_a_block_is_shell(block: str) -> None:
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", dict.fromkeys(EDGEQ))
def test_a_command_of_edgeq_parses(line: str) -> None:
    group: click.Command = cli.cli
    words, parent = shlex.split(line), None
    while isinstance(group, click.Group):
        parent = click.Context(group, info_name="edgeq", parent=parent, **group.context_settings)
        command = group.get_command(parent, words[0])
        assert command is not None, f"there is no command {words[0]}"
        group, words = command, words[1:]
    group.make_context("edgeq", words, parent=parent)


@pytest.mark.parametrize("line", RUN)
def test_a_command_that_can_run_here_runs(
    line: str, demo: Path, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bundled model for each that the page names, and its longest context for one that is longer."""
    words = shlex.split(line)
    for index, word in enumerate(words):
        if index and words[index - 1] == "-c":
            words[index] = str(min(int(word), 512))
        elif "/" in word:
            words[index] = str(demo_checkpoint)
        elif word.endswith(".edgeq") and words[0] != "convert":
            words[index] = str(demo)
    monkeypatch.chdir(tmp_path)
    with open("/dev/null", encoding="utf-8") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert run_command(words) == 0
    if words[0] == "convert":
        with open_model(tmp_path / words[words.index("-o") + 1]) as file:
            assert file.tensors


def test_commands_are_found() -> None:
    assert {line.split()[0] for line in EDGEQ} == {*HERE, "demo", "kernels"}


def test_files_that_are_installed_are_there() -> None:
    (asked,) = re.findall(r"^/opt/edgeq/bin/python /opt/edgeq/answer\.py (ask .*)$", MANUAL, re.MULTILINE)
    assert answer.parse(shlex.split(asked)).does == "ask"
    installed = re.findall(r"^sudo install .* (\S+) /\S+$", MANUAL, re.MULTILINE)
    assert set(installed) == {"answer.py", "edgeq.service", "model.edgeq"}
    assert {path.name for path in SERVICE.iterdir() if path.is_file()} >= {"answer.py", "edgeq.service"}


# ---- what was emulated ----
def test_every_processor_of_the_table_is_emulated() -> None:
    rows = re.findall(r"^\| (.+?) \| .+ \| `(\w+)` \| the bits of x86-64 \|$", MANUAL, re.MULTILINE)
    assert rows == [(board.name, board.isa) for board in proof.BOARDS]

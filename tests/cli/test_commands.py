"""The frame of the command line: help, version, lazy modules, errors as one line with an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgeq
from edgeq import cli, idle, tune, tuned
from edgeq.errors import (
    EdgeqError,
    FormatError,
    NetworkError,
    OutOfMemoryError,
    UnsupportedError,
    UsageError,
)
from tests.cli.conftest import Call
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [*cli.COMMANDS, "eval ppl", "eval kld", "eval choice", "calibration build", "calibration show"]


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeq", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S, cwd=ROOT)


def test_version_and_help_of_a_process() -> None:
    assert process("--version").stdout == f"edgeq {edgeq.__version__}\n"
    done = process("--help")
    assert done.returncode == 0 and not done.stderr
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)


def test_help_is_quick() -> None:
    """The bar is 0.15 s; what takes time is imports: about 60 modules beyond an interpreter's own."""
    code = "import sys; before = len(sys.modules); from edgeq.cli import run_command; run_command(['--help'])"
    command = [sys.executable, "-c", f"{code}; print(len(sys.modules) - before)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S, cwd=ROOT)
    assert 0 < int(done.stdout.splitlines()[-1]) < 100 and "Usage" in done.stdout


LIGHT = ["numba", "llvmlite", "huggingface_hub", "tokenizers", "sentencepiece", "jinja2", "safetensors"]
SEEN = "import sys; print([m for m in sys.argv[1].split() if m in sys.modules])"


@pytest.mark.parametrize("arguments", [["--help"], ["show", "FILE"], ["verify", "FILE"], ["run", "--help"]])
def test_light_commands_import_nothing_heavy(arguments: list[str], story: Path) -> None:
    words = [str(story) if word == "FILE" else word for word in arguments]
    code = f"from edgeq.cli import run_command; code = run_command({words!r}); {SEEN}; sys.exit(code)"
    command = [sys.executable, "-c", code, " ".join(LIGHT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call: Call, command: str) -> None:
    for flag in ("-h", "--help"):
        result = call(*command.split(), flag)
        assert result.code == 0 and result.out.startswith(f"Usage: edgeq {command} ")


def test_no_arguments_show_help(call: Call) -> None:
    assert call().out.startswith("Usage: edgeq ")
    assert call("eval").out.startswith("Usage: edgeq eval ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "No such command 'rum'"),
        (["run", "--foo"], "--foo"),
        (["run"], "no model is given"),
        (["run", "a", "-m", "b", "-p", "x"], "two models are given, a and -m b"),
        (["run", "nowhere.edgeq", "-p", "x"], "there is no file or directory nowhere.edgeq"),
        (["run", "x", "-t", "0"], "0 is not in the range"),
        (["run", "x", "--kv", "q3"], "'q3' is not one of"),
        (["bench", "x", "-t", "1,,2"], "no list of whole numbers"),
        (["eval", "ppl", "x"], "-f"),
        (["verify", "."], "is no .edgeq file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(call: Call, arguments: list[str], words: str) -> None:
    result = call(*arguments)
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("edgeq: error: ") and result.err.count("\n") == 1
    assert words in result.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EdgeqError("broken"), 1),
        (UsageError("broken"), 2),
        (FormatError("broken"), 3),
        (UnsupportedError("broken"), 3),
        (MemoryError("broken"), 4),
        (OutOfMemoryError("broken"), 4),
        (NetworkError("broken"), 5),
        (OSError(28, "broken", "file"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_exit_codes(
    call: Call, monkeypatch: pytest.MonkeyPatch, model: str, error: BaseException, code: int
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(edgeq, "load", load)
    result = call("run", model, "-p", "x")
    assert result.code == code
    assert result.err == ("" if code > 100 else result.err)
    assert code > 100 or (result.err.startswith("edgeq: error: ") and "broken" in result.err)


def test_an_error_stays_one_clean_line(call: Call, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    def load(*_: object, **__: object) -> None:
        raise FormatError("tensor \x1b]0;pwned\x07 is\nbad")

    monkeypatch.setattr(edgeq, "load", load)
    assert call("run", model, "-p", "x").err == "edgeq: error: tensor ]0;pwned is bad\n"


def test_doctor_tells_what_it_finds(call: Call) -> None:
    facts = json.loads(call("doctor", "--json").out)
    assert facts["edgeq"]["version"] == edgeq.__version__
    assert facts["machine"]["page_size"] >= 4096 and facts["machine"]["memory_bytes"] > 0
    assert facts["cache"]["writable"] is True
    assert facts["problems"] == []
    assert "all is well" in call("doctor").out


def test_doctor_tunes(call: Call, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found is told, kept where the engine looks, and told again by the next doctor."""
    tiles = tune.Choice("matmul q4", 4, "GMAC/s", {4: 50.0, 6: 60.0})
    found = tuned.Tuned({"matmul q4": 6}, 1)
    monkeypatch.setattr(tune, "tune", lambda progress: (found, [tiles]))
    monkeypatch.setattr(idle, "wait", lambda tell: 0.0)
    monkeypatch.setattr(idle, "times", lambda: idle.Times(0, 0, 0))
    facts = json.loads(call("doctor", "--tune", "--json").out)
    assert facts["measured"] == {"matmul q4": {"chosen": 6, "default": 4, "GMAC/s": {"4": 50.0, "6": 60.0}}}
    again = json.loads(call("doctor", "--json").out)
    assert "measured" not in again
    for one in (facts, again):
        assert one["tuned"]["tiles"] == {"matmul q4": 6} and one["tuned"]["threads"] == 1
        assert one["tuned"]["file"] == str(fresh_cache / "edgeq" / "tuned.json")


def test_doctor_sees_a_cache_that_others_can_write(call: Call, fresh_cache: Path) -> None:
    (fresh_cache / "edgeq").mkdir(parents=True)
    (fresh_cache / "edgeq").chmod(0o777)
    result = call("doctor", "--json")
    assert result.code == 1
    assert any("written by other users" in problem for problem in json.loads(result.out)["problems"])

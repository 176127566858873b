"""The commands with the real engine, on the bundled model."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.cli import run_command
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parents[2]

# What stories260K says greedily after "Once upon a time", in float32; transformers and plain NumPy agree.
GOLDEN = [
    432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338,
    401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265, 282,
]  # fmt: skip
EXACT = ("--temp", "0", "--kv", "f32", "--act", "f32")


def process(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeq", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=STUCK_S, cwd=ROOT)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> str:
    path = str(tmp_path_factory.mktemp("exact") / "story-f32.edgeq")
    assert run_command(["convert", str(demo_checkpoint), "-o", path, "--scheme", "f32", "-q"]) == 0
    return path


def test_demo_tells_a_story() -> None:
    done = process("demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time, there was a little girl named Lily.")
    assert done.stdout.endswith(".\n") and len(done.stdout) > 400
    assert "converted stories260K to q8" in done.stderr and "generated" in done.stderr


@pytest.mark.parametrize("threads", ["1", "2"])
def test_run_gives_the_golden_ids(exact: str, threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command(
            ["run", exact, "-p", "Once upon a time", "-n", "24", *EXACT, "-t", threads, "--json", "-q"]
        )
        == 0
    )
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["prompt_ids"] == [1, 403, 407, 261, 378]
    assert answer["ids"] == GOLDEN
    assert answer["text"] == ", there was a little girl named Lily. She loved to play outside in the p"
    assert answer["timings"]["load_seconds"] > 0
    assert err == ""


def test_a_warm_run_needs_no_compiler(exact: str) -> None:
    """Kernels come from the store, so numba is not even imported."""
    words = ["run", exact, "-p", "Once upon a time", "-n", "4", *EXACT, "-q"]
    assert run_command(words) == 0
    code = (
        f"import sys; from edgeq.cli import run_command; run_command({words!r}); "
        "sys.exit('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=STUCK_S)
    assert done.returncode == 0


def test_bench(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command(["bench", str(story), "-p", "32", "-n", "4", "-r", "1", "-t", "1,2", "--json", "-q"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["threads"] for row in rows] == [1, 2]
    assert all(row["prefill"]["median"] > 0 and row["decode"]["median"] > 0 for row in rows)
    assert run_command(["bench", str(story), "-p", "32", "-n", "0", "-r", "1", "-t", "1", "-q"]) == 0
    assert "prompt 32" in capsys.readouterr().out


def test_eval(
    story: Path, exact: str, demo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time, there was a little girl named Lily. She loved to play outside. " * 20)
    assert run_command(["eval", "ppl", exact, "-f", str(text), "-c", "128", "--json", *EXACT[2:]]) == 0
    assert 1 < json.loads(capsys.readouterr().out)["perplexity"] < 30
    same = ["eval", "kld", exact, "--reference", exact, "-f", str(text), "-c", "128", *EXACT[2:], "--json"]
    assert run_command(same) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kld_max"] == 0 and result["agreement"] == 1
    assert (
        run_command(["eval", "kld", str(story), "--reference", exact, "-f", str(text), "-c", "128", "--json"])
        == 0
    )
    assert 0 < json.loads(capsys.readouterr().out)["kld_mean"] < 0.1
    kept = str(tmp_path / "kept.reference")
    saving = ["eval", "kld", str(story), "--reference", exact, "-f", str(text), "-c", "128", "--json"]
    assert run_command([*saving, "--save-reference", kept]) == 0
    fresh = json.loads(capsys.readouterr().out)
    assert run_command([*saving, "--save-reference", kept]) == 2
    assert "exists: name another file, or replace it with --force" in capsys.readouterr().err
    assert run_command([*saving[:4], kept, *saving[5:]]) == 0
    out, err = capsys.readouterr()
    assert f"reference {kept}: what {Path(exact).name} said" in err and "reference exact" not in err
    found = json.loads(out)
    assert found["perplexity_ratio"] == fresh["perplexity_ratio"] and found["agreement"] == fresh["agreement"]
    assert abs(found["kld_mean"] - fresh["kld_mean"]) < 1e-3 * fresh["kld_mean"]
    assert 0 < found["reference_floor"] < 1e-6 and fresh["reference_floor"] is None
    for other, words in (
        (str(story), "the same at every token: one result, not two"),
        (exact, "mean KLD, less"),
    ):
        assert run_command([*saving[:4], kept, *saving[5:-1], "--against", other]) == 0
        assert words in capsys.readouterr().out
    source = str(demo_checkpoint)  # a checkpoint is measured as it is, not as the copy that would run
    assert run_command(["eval", "kld", exact, "--reference", source, *same[5:]]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["kld_max"] == 0
    assert f"reference {source}: weights f32, activations f32, cache f32" in err
    assert run_command(["eval", "ppl", str(story), "-f", str(text), "-c", "128", "--chars", "400", "-q"]) == 0
    assert capsys.readouterr().out.startswith("perplexity ")


def test_a_gate_is_an_exit_code(story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time, there was a little girl named Lily. " * 20)
    command = ["eval", "ppl", str(story), "-f", str(text), "-c", "64", "-q", "--json", "--gate"]
    assert run_command([*command, "ppl < 1000"]) == 0
    assert not capsys.readouterr().err
    assert run_command([*command, "ppl < 1.5"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["perplexity"] > 1.5  # the figures are there all the same
    assert "the gate is not passed: ppl is " in err
    assert run_command([*command[:2], "no-such-model", *command[3:], "kld < 1"]) == 2
    assert "no figure is called 'kld'; a gate knows ppl" in capsys.readouterr().err


def test_chat(story: Path) -> None:
    done = process("chat", str(story), "-n", "8", "--seed", "1", stdin="Hi\nMore\n/stats\n")
    assert done.returncode == 0, done.stderr
    assert "4 messages" in done.stdout
    again = process("chat", str(story), "-n", "8", "--seed", "1", stdin="Hi\nMore\n/stats\n")
    assert again.stdout.splitlines()[:2] == done.stdout.splitlines()[:2]


@pytest.fixture
def endless(tmp_path: Path, demo_checkpoint: Path) -> str:
    """The demo model with a context of a million tokens: it has not filled that before the signal comes."""
    source, path = tmp_path / "endless", str(tmp_path / "endless.edgeq")
    shutil.copytree(demo_checkpoint, source)
    words = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(words | {"max_position_embeddings": 1 << 20}))
    assert run_command(["convert", str(source), "-o", path, "-q"]) == 0
    return path


def test_ctrl_c_while_it_generates(endless: str) -> None:
    command = [sys.executable, "-m", "edgeq", "run", endless, "-p", "Once", "--ignore-eos", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.read(8)
        child.send_signal(signal.SIGINT)
        _, complaint = child.communicate(timeout=STUCK_S)
        assert (child.returncode, complaint) == (130, b"")

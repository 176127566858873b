"""lm-eval's local-completions: what it finds over HTTP is what the engine says in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import STUCK_S
from tests.serve.clients.conftest import client_package
from tests.serve.clients.lm_tasks import KINDS, in_process, write
from tests.serve.live import Live

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("HF_HUB_OFFLINE", "1")  # it is read at the import, and nobody else's tests are to see it
    client_package("lm_eval.models.api_models")
pytestmark = pytest.mark.filterwarnings("ignore")
LENGTH = 64  # tokens at the most, so that rolling texts have several windows
Responses = dict[str, list[Any]]  # of a task, by document


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write(folder)
    return folder


def evaluated(tasks: Path, model: Any, arguments: dict[str, Any] | None = None) -> tuple[Any, Responses]:
    """(the tables, each document's responses), as lm-eval sees them."""
    lm_eval, manager = client_package("lm_eval"), client_package("lm_eval.tasks").TaskManager
    found = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=list(KINDS),
        task_manager=manager(include_path=str(tasks), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = {
        name: [sample["resps"] for sample in sorted(rows, key=lambda row: row["doc_id"])]
        for name, rows in found["samples"].items()
    }
    return found["results"], samples


@pytest.fixture(scope="module")
def wanted(tasks: Path, smollm2: Any) -> tuple[Any, Responses]:
    return evaluated(tasks, in_process(smollm2, LENGTH))


@pytest.mark.parametrize("at_once", [1, 8])
def test_local_completions(chats: Live, tasks: Path, wanted: tuple[Any, Responses], at_once: int) -> None:
    arguments = {
        "base_url": f"{chats.url}/v1/completions",
        "model": "smollm2",
        "num_concurrent": at_once,
        "max_length": LENGTH + 2,
    }
    results, samples = evaluated(tasks, "local-completions", arguments)
    for name in KINDS:
        assert len(samples[name]) == len(wanted[1][name]) > 0
        for ours, theirs in zip(wanted[1][name], samples[name], strict=True):
            compare(ours, theirs)
        for metric, value in wanted[0][name].items():
            if isinstance(value, float):
                assert results[name][metric] == pytest.approx(value, abs=1e-9), (name, metric)


def compare(ours: Any, theirs: Any) -> None:
    """Nested lists of the same numbers, truths and texts."""
    if isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            compare(one, other)
    elif isinstance(ours, float):
        assert abs(ours - theirs) <= 1e-9
    else:
        assert ours == theirs


def test_command(chats: Live, tasks: Path, tmp_path: Path) -> None:
    """As docs/serve.md has it."""
    arguments = f"base_url={chats.url}/v1/completions,model=any,num_concurrent=4"
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", arguments,
        "--tasks", "local_choice", "--include_path", str(tasks), "--output_path", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=STUCK_S, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (table,) = tmp_path.rglob("results_*.json")
    assert json.loads(table.read_text(encoding="utf-8"))["results"]["local_choice"]["acc,none"] >= 0.5

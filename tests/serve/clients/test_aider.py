"""aider, the command, over a small repository. Its pins differ from those of the others, so that it has an
environment of its own: EDGEQ_TEST_AIDER names the command, else the one on the path is taken.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.patience import STUCK_S, until
from tests.serve.live import Live

AIDER = os.environ.get("EDGEQ_TEST_AIDER") or shutil.which("aider")
if AIDER is None or shutil.which("git") is None:
    pytest.skip("aider or git is not installed", allow_module_level=True)
QUIET = (
    "--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings", "--no-pretty",
    "--no-gitignore", "--no-suggest-shell-commands", "--no-show-release-notes", "--map-tokens", "0",
)  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "hello.py").write_text('print("hello")\n', encoding="utf-8")
    for words in (["init", "-q"], ["add", "hello.py"], ["commit", "-q", "-m", "hello"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    return tmp_path


def command_of(server: Live, message: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """The command line, and its environment: settings and caches of this test alone."""
    assert AIDER is not None
    asked = ["--model", "openai/smollm2", "--openai-api-base", f"{server.url}/v1", "--message", message]
    env = {**os.environ, "OPENAI_API_KEY": "none", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return [AIDER, *QUIET, *asked, *words, "hello.py"], env


@pytest.mark.parametrize("words", [("--edit-format", "whole"), ("--edit-format", "diff", "--no-stream")])
def test_edits(chats: Live, repository: Path, words: tuple[str, ...]) -> None:
    """What the model makes of it is the model's affair: that it was asked and answered is looked at."""
    env_home = {"HOME": str(repository / "home")}
    (repository / "home").mkdir()
    metadata = repository / "home" / "settings.yml"
    metadata.write_text(
        "- name: openai/smollm2\n  use_temperature: 0\n  extra_params:\n    max_tokens: 120\n",
        encoding="utf-8",
    )
    settings = ("--model-settings-file", str(metadata))
    command, env = command_of(chats, "Print goodbye in place of hello.", *words, *settings)
    done = subprocess.run(
        command, cwd=repository, env={**env, **env_home}, capture_output=True, text=True, timeout=STUCK_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answered = "Tokens:" in done.stdout or "has hit a token limit" in done.stdout
    assert answered and "litellm." not in done.stdout, done.stdout + done.stderr


def test_leaves(chats: Live, repository: Path) -> None:
    command, env = command_of(chats, "Write a very long program.", "--no-git")
    with subprocess.Popen(command, cwd=repository, env=env, stdout=subprocess.DEVNULL) as process:
        until(lambda: any(work.generations for work in works_of(chats)), "the request")
        process.send_signal(signal.SIGKILL)
    until(lambda: chats.app.running == 0, "the request's end")


def works_of(server: Live) -> list[Any]:
    worker = server.worker
    return list(worker.works)

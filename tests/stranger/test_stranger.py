"""The half hour, from its first step to its last: each stands in a page, and prints what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq import cli
from tests.stranger import first, home, mistakes, numbers, pages, python, talk
from tests.stranger.script import Ended, Snippet, Step, Talk

CHAPTERS = (first, talk, python, numbers, mistakes)
STEPS: list[Step | Snippet | Talk] = [step for chapter in CHAPTERS for step in chapter.STEPS]


@pytest.mark.slow
def test_a_half_hour_with_readme_and_docs(tmp_path: Path, demo_checkpoint: Path) -> None:
    """All steps are taken, also behind one that went wrong, and all that is wrong is told."""
    home.furnish(tmp_path, demo_checkpoint)
    env = home.environment(tmp_path)
    wrong: list[str] = []
    for number, step in enumerate(STEPS, 1):
        wrong += [f"{number}. {step.want}: {problem}" for problem in step.run(tmp_path, env)]
    assert not wrong, "\n".join(["", *wrong])


def test_every_command_is_met() -> None:
    lines = [step.line() for step in STEPS if isinstance(step, Step)]
    lines += [step.command for step in STEPS if isinstance(step, Talk)]
    missing = [name for name in cli.COMMANDS if not any(f"edgeq {name}" in line for line in lines)]
    assert not missing and len(STEPS) >= 40


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(0, "edgeq 0\n", ""), None),
        (Ended(0, "edgeq\n", ""), "stdout has no"),
        (Ended(0, "edgeq 0\n", "a line\n"), "stderr has no"),
        (Ended(1, "edgeq 0\n", ""), "exit code 1, not 0"),
        (Ended(0, "edgeq 0\nTraceback\n", ""), "there is a traceback"),
        (Ended(0, "edgeq 0\n", "edgeq: error: x\n"), "1 lines of stderr are errors"),
    ],
)
def test_a_step_sees_what_is_wrong(ended: Ended, problem: str | None, tmp_path: Path) -> None:
    step = Step("its version", "docs/usage.md", "edgeq --version", (r"^edgeq \d",), (r"\A(edgeq: .*\n)?\Z",))
    found = list(step.judged(ended, tmp_path))
    assert not found if problem is None else found[0].startswith(problem)


@pytest.mark.parametrize(
    ("command", "also", "told"),
    [
        ("edgeq --version", "", True),
        ("edgeq --wersion", "", False),
        ("edgeq verify", "--tensors", True),
        ("edgeq verify", "--tensor", False),
    ],
)
def test_what_no_page_tells_of_is_seen(command: str, also: str, told: bool) -> None:
    assert bool(list(Step("it", "docs/usage.md", command, also=also).told())) != told


def test_what_stands_in_backquotes_and_blocks() -> None:
    assert "edgeq COMMAND --help" in pages.spans("docs/usage.md")  # over a line's end too
    assert {".venv/bin/pip install .", ".venv/bin/edgeq demo"} <= pages.commands("README.md")
    assert "edgeq list" in pages.commands("docs/usage.md")  # without its comment
    assert pages.has_word("/save") and not pages.has_word("/sav")

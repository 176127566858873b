"""The half hour, from its first step to its last: each stands in a page, and prints what it should."""

from __future__ import annotations

from pathlib import Path

from tests.stranger import first, home, mistakes, numbers, python, talk
from tests.stranger.script import Snippet, Step, Talk

STEPS: tuple[Step | Snippet | Talk, ...] = (
    *first.STEPS,
    *talk.STEPS,
    *python.STEPS,
    *numbers.STEPS,
    *mistakes.STEPS,
)


def test_a_half_hour_with_readme_and_docs(tmp_path: Path, demo_checkpoint: Path) -> None:
    """All steps are taken, also behind one that went wrong, and all that is wrong is told."""
    home.furnish(tmp_path, demo_checkpoint)
    env = home.environment(tmp_path)
    wrong: list[str] = []
    for number, step in enumerate(STEPS, 1):
        problems = list(step.run(tmp_path, env))
        wrong += [f"{number}. {step.want}: {problem}" for problem in problems]
    assert not wrong, "\n".join(["", *wrong])

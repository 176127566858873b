"""The parts of the board proof that need no board."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.converters import convert
from tests.board import __main__ as board
from tests.board import proof, root, wheels


def test_logits_are_the_engines(tmp_path: Path, demo_checkpoint: Path) -> None:
    model = tmp_path / "demo.edgeq"
    convert(demo_checkpoint, model, scheme="q8")
    found = proof.logits_here([proof.case(model, 5, 2, {})], "")
    with edgeq.load(model) as loaded:
        logits = loaded.logits([1, *(3 + 37 * n % 509 for n in range(4))])
        assert found["isa"] == loaded.isa
    assert logits.dtype == np.float32
    assert found["digests"] == [hashlib.sha256(logits.tobytes()).hexdigest()]


def test_an_unprivileged_user_is_told_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(root.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["board"])
    assert board.main() == board.EXIT_UNAVAILABLE
    assert capsys.readouterr().out == "no board can be emulated here: debootstrap needs root\n"


def test_a_step_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(root.Unavailable, match="(?s)`sh -c .*` failed \\(3\\):.no such mirror"):
        root.attempt(["sh", "-c", "echo no such mirror >&2; exit 3"])


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(root.Unavailable, match="not empty"):
        root.make(root.Unpacked(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


class FakeRoot(root.Unpacked):
    """Answers of a board, without one."""

    def run(self, cpu, words, environment, timeout):  # type: ignore[no-untyped-def]
        facts = {
            "instructions": {"chosen": "neon"},
            "isa": "neon",
            "digests": ["a", "x"],
            "compilers": [],
            "text": "b",
        }
        return subprocess.CompletedProcess(words, 0, json.dumps(facts), "")


def test_what_differs_is_a_failure(tmp_path: Path) -> None:
    site = proof.Site(FakeRoot(tmp_path), "python3", {}, tmp_path)
    cases = [proof.case(tmp_path / name, 1, 1, {}) for name in ("one", "two")]
    right = proof.Expected(tmp_path, cases, ("avx2",), ["a", "x"], {"one": "b"})
    wrong = proof.Expected(tmp_path, cases, ("avx2",), ["a", "b"], {"one": "c"})
    neon, dotprod = proof.BOARDS[0], proof.BOARDS[2]
    for check in (proof.doctor, proof.logits, proof.stories):
        assert check(site, neon, right)
    with pytest.raises(proof.Failure, match="chose neon where dotprod is right"):
        proof.doctor(site, dotprod, right)
    with pytest.raises(proof.Failure, match="other bits than on avx2: two$"):
        proof.logits(site, neon, wrong)
    with pytest.raises(proof.Failure, match="tells"):
        proof.stories(site, neon, wrong)


def test_wheels_are_for_the_roots_python() -> None:
    options = wheels.target("aarch64")
    assert f"--python-version={root.PYTHON}" in options and "--abi=abi3" in options
    assert f"--platform=manylinux_2_{root.GLIBC}_aarch64" in options
    assert f"--platform=manylinux_2_{root.GLIBC + 1}_aarch64" not in options

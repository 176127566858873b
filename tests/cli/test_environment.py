"""The way of the demo (convert, load, run) in the environments that programs are put into."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def environment(story: Path) -> dict[str, str]:
    """This environment, with the packs that the test run has compiled named apart from the cache."""
    import edgeq
    from edgeq.packs.folder import packs_folder

    with edgeq.load(story, threads=1):
        pass
    return {**os.environ, "PYTHONPATH": str(ROOT), "EDGEQ_KERNELS": str(packs_folder())}


def python(words: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=STUCK_S
    )


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["-W", "error", "-X", "dev"], {}),
        (["-O"], {}),
        (["-OO", "-B"], {}),
        (["-P", "-s"], {"PYTHONDONTWRITEBYTECODE": "1"}),
        ([], {"HOME": None}),
        ([], {"HOME": "/dev/null", "XDG_CACHE_HOME": None}),  # there is no home, as for services
        ([], {"XDG_CACHE_HOME": "/proc/self"}),  # there is a cache, but it cannot be written, even by root
        ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "TERM": None, "PATH": None}),
    ],
    ids=lambda words: " ".join(words),
)
def test_demo(
    flags: list[str], changed: dict[str, str | None], environment: dict[str, str], tmp_path: Path
) -> None:
    given = {name: value for name, value in (environment | changed).items() if value is not None}
    done = python([*flags, "-m", "edgeq", "demo", "-n", "40", "-q"], given, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time, there was a little girl named Lily.")
    assert done.stderr == "" and not list(tmp_path.iterdir())


COMPILE = """
from edgeq.kernels import sources
from edgeq.simd import compile
from edgeq.simd.tag import Tag
print(compile.compile_kernel(sources.entry("argmax", Tag("generic")), "kernel").hex())
"""


def test_the_compiler_too(environment: dict[str, str], tmp_path: Path) -> None:
    """What it makes does not hang on assertions, and it warns of nothing."""
    from edgeq.kernels import sources
    from edgeq.simd import compile
    from edgeq.simd.tag import Tag

    done = python(["-O", "-W", "error", "-c", COMPILE], environment, tmp_path)
    usual = compile.compile_kernel(sources.entry("argmax", Tag("generic")), "kernel")
    assert (done.stdout, done.stderr) == (usual.hex() + "\n", "")

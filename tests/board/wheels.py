"""edgeq's wheel, and the wheels of others that it needs there, fetched and unpacked by the host's pip.

An emulated pip would need minutes for what the host's does in seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.board.root import GLIBC, PYTHON, attempt

TREE = Path(__file__).resolve().parents[2]
ABI = f"cp{PYTHON.replace('.', '')}"
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def target(machine: str) -> list[str]:
    """pip's options for a root of that machine."""
    return [
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"),
        *(f"--abi={abi}" for abi in (ABI, "abi3", "none")),
        *(f"--platform={system}_{machine}" for system in ("linux", "manylinux2014")),
        *(f"--platform=manylinux_2_{minor}_{machine}" for minor in range(17, GLIBC + 1)),
    ]  # fmt: skip


def build(directory: Path, tiers: Iterable[str]) -> Path:
    """The wheel of the tree as it stands, with packs of `tiers`, built as a release is, by an sdist."""
    command = ["-m", "build", "--no-isolation", f"-Cpacks={','.join(tiers)}", "--outdir", str(directory)]
    done = subprocess.run([sys.executable, *command, str(TREE)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"edgeq's wheel cannot be built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (wheel,) = directory.glob("edgeq-*.whl")
    return wheel


def gather(wheel: Path, directory: Path, machine: str, more: tuple[str, ...] = ()) -> None:
    """Put edgeq's wheel and every wheel that it (or a requirement in `more`) needs on that machine into
    `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("edgeq-*.whl"):
        old.unlink()
    shutil.copy2(wheel, directory)
    attempt(
        [*PIP, "download", *target(machine), "--find-links", directory, "--dest", directory, wheel, *more]
    )


def unpack(directory: Path, site: Path, machine: str) -> None:
    """Install all wheels of `directory` into the folder `site`, for PYTHONPATH."""
    if site.exists():
        shutil.rmtree(site)
    wheels = sorted(directory.glob("*.whl"))
    attempt([*PIP, "install", *target(machine), "--no-deps", "--no-index", "--target", site, *wheels])

"""The build backend: setuptools, and sdists that carry packs of compiled kernels.

`python -m build` makes an sdist and from it the wheel, so both have the packs of every tier, and whoever
installs that wheel compiles nothing. `pip install .` in a checkout makes its wheel directly: that compiles
nothing either, and its kernels are compiled when they are first used. `-C packs=avx2,neon` chooses tiers,
`-C packs=none` makes none.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import editable
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that are setuptools' own)

PACKS = Path("edgeq/packs/shipped")  # in the tree, which is where hooks are run
COMPILING = ("click", "llvmlite", "numba", "numpy", "psutil")  # what `edgeq kernels build` imports
Settings = dict[str, Any] | None

build_editable = editable.build_editable


def tiers(settings: Settings) -> list[str]:
    """What to build, as options of `edgeq kernels build`, one entry for each call of it."""
    chosen = (settings or {}).get("packs", "all")
    if chosen == "none" or list(PACKS.glob("*.pack")):  # an sdist's packs go on to its own sdists
        return []
    return ["--all"] if chosen == "all" else [f"--tier={tier}" for tier in chosen.split(",")]


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    if not tiers(config_settings):
        return []
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for line in project["dependencies"] if re.split(r"[^\w-]", line)[0] in COMPILING]


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    with packs(tiers(config_settings)):
        return build_meta.build_sdist(sdist_directory)


@contextlib.contextmanager
def packs(options: list[str]) -> Iterator[None]:
    """The packs in the tree, for as long as it takes to make an sdist of it."""
    if not options:
        yield
        return
    PACKS.mkdir()
    try:
        with tempfile.TemporaryDirectory() as folder:
            package = Path(
                folder, "edgeq"
            )  # as it is installed; in the tree, formats and converters are links
            shutil.copytree("edgeq", package, ignore=shutil.ignore_patterns("formats", "converters"))
            for part in ("formats", "converters"):
                shutil.copytree(part, package / part)
            environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
            for option in options:
                command = [
                    sys.executable,
                    "-m",
                    "edgeq",
                    "kernels",
                    "build",
                    option,
                    "-o",
                    str(PACKS.resolve()),
                ]
                subprocess.run(command, cwd=folder, env=environment, check=True)
        yield
    finally:
        shutil.rmtree(PACKS)

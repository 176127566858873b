"""The build backend: setuptools, and sdists that carry packs of compiled kernels.

`python -m build` makes an sdist and from it the wheel, so both have the packs of every tier, and whoever
installs that wheel compiles nothing. `-C packs=avx2,neon` chooses tiers, `-C packs=none` makes none. The
packs stay in the checkout, where git does not see them; the next build makes anew what is of other kernels.

`pip install .` in a checkout makes its wheel directly and compiles nothing. It takes along the packs that are
there, of a build or of `edgeq kernels build -o edgeq/packs/shipped`; without, kernels are compiled when they
are first used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
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
    if chosen == "none" or (Path("PKG-INFO").exists() and any(PACKS.glob("*.pack"))):
        return []  # an sdist's packs go on to its own sdists
    return ["--all"] if chosen == "all" else [f"--tier={tier}" for tier in chosen.split(",")]


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    if not tiers(config_settings):
        return []
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for line in project["dependencies"] if re.split(r"[^\w-]", line)[0] in COMPILING]


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    make_packs(tiers(config_settings))
    return build_meta.build_sdist(sdist_directory)


def make_packs(options: list[str]) -> None:
    """Have the packs in the tree."""
    if not options:
        return
    PACKS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "edgeq")  # as it is installed; in the tree, formats and converters are links
        shutil.copytree("edgeq", package, ignore=shutil.ignore_patterns("formats", "converters", "shipped"))
        for part in ("formats", "converters"):
            shutil.copytree(part, package / part)
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "edgeq", "kernels", "build", "--update", "-o", str(PACKS.resolve())]
        for option in options:
            subprocess.run([*command, option], cwd=folder, env=environment, check=True)

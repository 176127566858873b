"""What `pip install -e .` installs: a .pth file that names the checkout.

setuptools would install a finder of modules, which Python asks last: where a program stands beside a folder
named edgeq, a clone for one, Python has taken that folder for a package by then, an empty one. A package that
is found through sys.path comes before such a folder, wherever in the path it is. Editors and type checkers
follow a .pth file too, and no process has to import a finder before it begins.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta

LINKS = ("formats", "converters")  # of edgeq/ to folders beside it; without them it takes setuptools' finder
WHEEL = b"Wheel-Version: 1.0\nGenerator: edgeq\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """The hook of PEP 660: write the wheel into the directory; its name."""
    if not all(Path("edgeq", name, "__init__.py").is_file() for name in LINKS):
        return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    with tempfile.TemporaryDirectory() as folder:
        info = Path(folder, build_meta.prepare_metadata_for_build_editable(folder, config_settings))
        found = sorted(path for path in info.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    files[f"__editable__.{info.stem}.pth"] = os.fsencode(f"{Path.cwd()}\n")
    files[f"{info.name}/WHEEL"] = WHEEL
    record = f"{info.name}/RECORD"
    files[record] = "".join([*(line(*file) for file in files.items()), f"{record},,\n"]).encode()
    wheel = f"{info.stem}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


def line(path: str, content: bytes) -> str:
    """A file's line in RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(content)}\n"

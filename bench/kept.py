"""Files that a bench makes once and keeps, each under a key of all that it is made of.

Beside FILE lies FILE.json: the key, and what the making took. A file is used again where its key is the one
asked for; it appears whole, by rename. Keys are of contents and recipes, not of dates or places.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files import say
from bench.quantize import ROOT
from bench.timed import timed


@dataclass(frozen=True)
class Kept:
    """A file that is there, and what is known of its making (`bench.timed`'s note, or nothing)."""

    path: Path
    key: str
    note: dict[str, Any]


def digest(*parts: object) -> str:
    """A key of the texts of `parts`, in order."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:24]


def content(path: Path) -> str:
    """A key of a file's bytes, or of all files of a folder and their names."""
    if path.is_dir():
        return digest(*((file.name, content(file)) for file in sorted(path.iterdir()) if file.is_file()))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]


def code(folders: Iterable[str]) -> str:
    """A key of the sources in folders of edgeq."""
    files = sorted(file for name in folders for file in (ROOT / "edgeq" / name).rglob("*.py"))
    return digest(*((file.relative_to(ROOT), content(file)) for file in files))


def keep(path: Path, key: str, make: Callable[[Path], dict[str, Any] | None]) -> Kept:
    """`path`, written by `make` under another name where no file of that key is there."""
    beside = path.with_name(f"{path.name}.json")
    if path.exists() and beside.exists():
        told = json.loads(beside.read_text())
        if told["key"] == key:
            return Kept(path, key, told["note"])
    say(f"making {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        note = make(part) or {}
        part.replace(path)
        part.write_text(json.dumps({"key": key, "note": note}))
        part.replace(beside)
    finally:
        part.unlink(missing_ok=True)
    return Kept(path, key, note)


def spelled(template: str, places: Mapping[str, object]) -> list[str]:
    """The words of a command line, each {name} replaced; KeyError for a name that `places` lacks."""
    return [re.sub(r"\{(.*?)\}", lambda m: str(places[m[1]]), word) for word in template.split()]


def run(
    path: Path,
    program: list[str],
    template: str,
    places: Mapping[str, object],
    by: str,
    warm: Callable[[], object] = lambda: None,
) -> Kept:
    """`path`, which a command writes at {out}; `by` is a key of the program itself.

    warm: called before the command is timed, where it is run at all. RuntimeError where the command fails.
    """
    keys = {name: place.key if isinstance(place, Kept) else place for name, place in places.items()}
    paths = {name: place.path if isinstance(place, Kept) else place for name, place in places.items()}

    def make(part: Path) -> dict[str, Any]:
        warm()
        return timed([*program, *spelled(template, {**paths, "out": part})])

    return keep(path, digest(by, *spelled(template, {**keys, "out": ""})), make)

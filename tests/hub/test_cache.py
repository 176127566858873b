"""Where the cache is: as the hub's client has it, which is asked in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.hub import cache
from edgeq.hub.listing import Entry, Listing
from tests.patience import STUCK_S

NAMES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME")
PLACES: list[dict[str, str]] = [
    {"HOME": "/h"},
    {"HOME": "/h", "XDG_CACHE_HOME": "/x"},
    {"HOME": "/h", "HF_HOME": "~/hf", "XDG_CACHE_HOME": "/x"},
    {"HOME": "/h", "HF_HOME": "/hf", "HF_HUB_CACHE": "$HOME/hub"},
    {"HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"},
]
ASK = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"


@pytest.mark.parametrize("place", PLACES)
def test_the_root_is_the_clients(place: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=STUCK_S)
    assert os.fspath(cache.root()) == done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"files": [["../x", 1, "0"]], "checked": []}', "[" * 99_999]
)
def test_a_note_that_is_none(note: str, tmp_path: Path) -> None:
    """It is made anew, as if there had been none."""
    repository = cache.Repository(tmp_path)
    (tmp_path / "edgeq").mkdir()
    (tmp_path / "edgeq" / f"{'0' * 40}.json").write_text(note)
    assert repository.listing("0" * 40) is None
    repository.keep(Listing("0" * 40, ()), (), "v1")
    assert repository.listing("0" * 40) == (Listing("0" * 40, ()), frozenset())
    assert repository.commit("v1") == "0" * 40


@pytest.mark.parametrize("text", ["", "main", "../" * 20, "\xff"])
def test_a_ref_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "main").write_bytes(text.encode("latin-1"))
    assert cache.Repository(tmp_path).commit("main") is None


def test_a_link_that_another_process_of_the_same_number_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container's, which is process 1 each time, or another thread of this one."""
    repository, entry = cache.Repository(tmp_path), Entry("a/x.json", 2, "0" * 40)
    place = repository.file("1" * 40, entry.name)
    place.parent.mkdir(parents=True)
    repository.blob(entry).parent.mkdir()
    repository.blob(entry).write_bytes(b"{}")
    place.with_name(f"{os.getpid()}.tmp").touch()
    repository.link("1" * 40, entry)
    assert place.is_symlink() and place.read_bytes() == b"{}"

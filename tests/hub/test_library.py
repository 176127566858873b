"""A hub's name where a model is meant: fetched, converted once, and found again without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq import library
from edgeq.cli import run_command
from edgeq.errors import NetworkError, UsageError
from edgeq.formats import open_model
from edgeq.hub import Name, Snapshot
from tests.converters.checkpoints import config, weights, write_gguf
from tests.hub.server import Hub, Repository


@pytest.fixture
def gguf(tmp_path: Path) -> bytes:
    """A small model with Q8_0 weights."""
    words = config()
    path = tmp_path / "made.gguf"
    write_gguf(path, words, weights(words), kind="Q8_0")
    data = path.read_bytes()
    path.unlink()
    return data


def test_resolve(hub: Hub, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    seen: list[str] = []
    found = library.resolve("o/story", tell=lines.append, progress=lambda _, __, what: seen.append(what))
    commit = hub.repositories["o/story"].commit
    assert found.parent == fresh_cache / "edgeq" / "models" and found.name.startswith("story-q4-")
    assert [line.split()[0] for line in lines] == ["asking", "fetching", "converting"]
    assert f"converting o/story@{commit[:12]} to q4, once" in lines[2]
    assert "model.safetensors" in seen and "embed" in seen
    assert open_model(found).header["source"] == {
        "kind": "hub", "name": "o/story", "revision": commit, "recipe": "q4",
    }  # fmt: skip
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert library.resolve("o/story") == found and library.resolve(f"hf://o/story@{commit}") == found
    assert not hub.asked


def test_resolve_a_gguf_file(hub: Hub, fresh_cache: Path, gguf: bytes) -> None:
    """Its numbers are kept, as those of a local file are."""
    hub.repositories["o/g"] = Repository({"a-Q8_0.gguf": gguf})
    found = library.resolve("o/g:q8_0")
    source = open_model(found).header["source"]
    assert (source["kind"], source["name"], source["recipe"]) == ("gguf", "o/g/a-Q8_0.gguf", "keep")
    assert source["revision"] == hub.repositories["o/g"].commit and found.name.startswith("a-Q8_0-keep-")


def test_resolve_an_edgeq_file(hub: Hub, fresh_cache: Path) -> None:
    made = library.resolve("o/story").read_bytes()
    hub.repositories["o/e"] = Repository({"s.edgeq": made})
    found = library.resolve("o/e/s.edgeq")
    assert found.read_bytes() == made and open_model(found).header["family"] == "llama"


def test_what_is_here_wins(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "o" / "story").mkdir(parents=True)
    assert library.locate("o/story") == Path("o/story")
    assert isinstance(library.locate("hf://o/story"), Snapshot)
    with pytest.raises(UsageError, match=r"there is no file or directory o/story/x.gguf: .* as OWNER/NAME"):
        library.locate("o/story/x.gguf")
    assert library.hub_name("hf://o/story/x.gguf") == Name("o/story", file="x.gguf")


def test_what_is_neither_here_nor_a_name(hub: Hub) -> None:
    for text in ("name", "./o/story", "o/story.gguf"):
        with pytest.raises(UsageError, match="there is no file or directory"):
            library.locate(text)
    assert not hub.asked


def test_pull(hub: Hub, fresh_cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["pull", "o/story", "--no-convert"]) == 0
    out, err = capfd.readouterr()
    commit = hub.repositories["o/story"].commit
    assert Path(out.strip()).name == commit and (Path(out.strip()) / "config.json").is_file()
    assert err.splitlines()[0] == f"asking 127.0.0.1:{hub.port} for o/story, revision main"
    assert run_command(["pull", "o/story", "--json", "-q"]) == 0
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert (told["repository"], told["revision"], err) == ("o/story", commit, "")
    assert open_model(told["file"]).header["source"]["name"] == "o/story"
    assert run_command(["pull", "o/story", "-q"]) == 0
    assert capfd.readouterr().out == told["file"] + "\n"
    assert len(hub.paths("/api/")) == 3  # it asks each time


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (
            "o/none",
            5,
            "'o/none' is no local file or directory, and it could not be fetched from the hub: it was",
        ),
        ("o/story@v9", 5, "it has no revision 'v9'"),
        (
            "o/story-GGUF:Q2_K",
            2,
            "o/story-GGUF has no file of type Q2_K; it has Q6_K/m-Q6_K-00001-of-00002.gguf, m-",
        ),
        ("o/story:Q4_0", 3, "o/story has no GGUF file, and so none of type Q4_0"),
        ("name", 2, "'name' is no name on the hub: pull takes OWNER/NAME, OWNER/NAME:TYPE or"),
        (".", 2, "'.' is a file or directory here: pull takes OWNER/NAME"),
    ],
)
def test_pull_that_fails(
    hub: Hub, fresh_cache: Path, capfd: pytest.CaptureFixture[str], name: str, code: int, words: str
) -> None:
    assert run_command(["pull", name, "-q"]) == code
    out, err = capfd.readouterr()
    assert not out and err.startswith("edgeq: error: ") and words in err and err.count("\n") == 1


def test_run_of_a_name_that_is_not_to_be_had(
    hub: Hub, fresh_cache: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run_command(["run", "o/story", "-p", "x"]) == 5
    assert "HF_HUB_OFFLINE keeps the client offline" in capfd.readouterr().err
    with pytest.raises(NetworkError):
        library.resolve("o/story")


def test_convert_and_its_outputs_name(
    hub: Hub, tmp_path: Path, gguf: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["o/g"] = Repository({"a-Q8_0.gguf": gguf})
    for name, file in (("o/story", "story"), ("o/g:q8_0", "g-q8_0"), ("o/g/a-Q8_0.gguf", "a-Q8_0")):
        assert run_command(["convert", name, "-q"]) == 0, capfd.readouterr().err
        assert open_model(tmp_path / f"{file}.edgeq").header["source"]["name"].startswith(name[:3])


@pytest.mark.parametrize("command", ["show", "verify"])
def test_what_only_looks_at_a_file_fetches_none(
    command: str, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command([command, "o/story"]) == 2
    assert "`edgeq pull o/story` fetches it if it is a model on the hub" in capfd.readouterr().err
    assert not hub.asked

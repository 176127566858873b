"""A model comes from the hub into its cache: whole, checked, once; and what goes wrong on the way."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.errors import EdgeqError, NetworkError
from edgeq.hub import Snapshot, client, fetch, filling, parse, transfer
from tests.hub.conftest import GGUF, PARTS
from tests.hub.server import Hub, sha256
from tests.patience import until

FILE = "m-Q4_K_M.gguf"
DATA = GGUF[FILE]


def get(text: str, **words: object) -> Snapshot:
    name = parse(text)
    assert name is not None
    return fetch(name, **words)  # type: ignore[arg-type]


def cache(tmp_path: Path, repository: str = "story-GGUF") -> Path:
    return tmp_path / "hf" / "hub" / f"models--o--{repository}"


def part(tmp_path: Path, data: bytes = DATA) -> Path:
    return cache(tmp_path) / "blobs" / f"{sha256(data)}.edgeq-part"


def test_a_checkpoint(hub: Hub, tmp_path: Path, demo_checkpoint: Path) -> None:
    lines: list[str] = []
    seen: list[tuple[int, int, str]] = []
    found = get("o/story", tell=lines.append, progress=lambda *row: seen.append(row))
    assert found.commit == hub.repositories["o/story"].commit and found.label == "story"
    assert {path.name for path in found.path.iterdir()} == {path.name for path in demo_checkpoint.iterdir()}
    for path in demo_checkpoint.iterdir():
        assert (found.path / path.name).read_bytes() == path.read_bytes()
    assert lines[0] == f"asking 127.0.0.1:{hub.port} for o/story, revision main"
    assert lines[1].startswith("fetching 5 files, ") and len(lines) == 2
    total = sum(path.stat().st_size for path in demo_checkpoint.iterdir())
    assert seen[-1][:2] == (total, total) and all(row[1] == total for row in seen)
    assert [row[0] for row in seen] == sorted(row[0] for row in seen)


def test_what_is_there_asks_nobody(hub: Hub) -> None:
    first = get("o/story")
    hub.asked.clear()
    lines: list[str] = []
    assert get("o/story", tell=lines.append) == first
    assert get(f"o/story@{first.commit}") == first
    assert not hub.asked and not lines


def test_the_clients_own_functions_find_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout is the hub's: other programs share what was fetched."""
    import huggingface_hub

    found = get("o/story-GGUF")
    place = Path(os.environ["HF_HOME"]) / "hub"
    path = huggingface_hub.hf_hub_download("o/story-GGUF", FILE, cache_dir=place, local_files_only=True)
    assert path == os.fspath(found)
    (row,) = huggingface_hub.scan_cache_dir(place).repos
    assert row.repo_id == "o/story-GGUF" and not huggingface_hub.scan_cache_dir(place).warnings


def test_what_the_client_fetched_is_checked_and_taken(hub: Hub, tmp_path: Path) -> None:
    """And the server here is one that the client takes for the hub."""
    import huggingface_hub

    place = Path(os.environ["HF_HOME"]) / "hub"
    path = huggingface_hub.hf_hub_download("o/story-GGUF", FILE, cache_dir=place, endpoint=hub.endpoint)
    hub.asked.clear()
    lines: list[str] = []
    assert os.fspath(get("o/story-GGUF", tell=lines.append)) == path
    assert len(lines) == 1 and not hub.paths("/bytes/") and len(hub.asked) == 1


def test_wrong_bytes_of_another_program_are_fetched_again(hub: Hub, tmp_path: Path) -> None:
    blob = cache(tmp_path) / "blobs" / sha256(DATA)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * len(DATA))
    assert Path(get("o/story-GGUF")).read_bytes() == DATA
    assert len(hub.paths("/bytes/")) == 1


def test_a_file_that_was_truncated_later(hub: Hub) -> None:
    found = get("o/story-GGUF")
    os.truncate(found, 10)
    assert Path(get("o/story-GGUF")).read_bytes() == DATA


def test_parts_types_files_and_revisions(hub: Hub) -> None:
    hub.repositories["o/story-GGUF"].revisions = ("main", "v1", "refs/pr/1")
    parts = get("o/story-GGUF:q6_k")
    assert sorted(path.name for path in parts.path.parent.iterdir()) == [Path(name).name for name in PARTS]
    assert get("o/story-GGUF@v1:Q4_0").path.read_bytes() == GGUF["m-Q4_0.gguf"]
    assert get("hf.co/o/story-GGUF@refs/pr/1/m-Q8_0.gguf").path.read_bytes() == GGUF["m-Q8_0.gguf"]
    assert parts.label == "m-Q6_K-00001-of-00002"


def test_a_branch_that_moved(hub: Hub) -> None:
    old = get("o/story-GGUF")
    hub.repositories["o/story-GGUF"].files["new.txt"] = b"new"
    assert get("o/story-GGUF") == old
    hub.asked.clear()
    new = get("o/story-GGUF", refresh=True)
    assert new.commit == hub.repositories["o/story-GGUF"].commit != old.commit
    assert not hub.paths("/bytes/") and new.path.resolve() == old.path.resolve()  # the same blob
    assert get("o/story-GGUF") == new and get(f"o/story-GGUF@{old.commit}") == old


def test_the_token_goes_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get("o/story-GGUF")
    told = {path.split("/")[1]: head.get("authorization") for _, path, head in hub.asked}
    assert told == {"api": "Bearer hf_secret", "o": "Bearer hf_secret", "bytes": None}


def test_a_cut_connection_goes_on_where_it_was(hub: Hub) -> None:
    hub.cut["m-Q4_K_M"] = [300_000, 200_000]
    assert Path(get("o/story-GGUF")).read_bytes() == DATA
    assert hub.starts("m-Q4_K_M") == ["", "bytes=300000-", "bytes=500000-"]


def test_a_connection_that_is_always_cut(hub: Hub, tmp_path: Path) -> None:
    hub.cut["m-Q4_K_M"] = [100_000] + [0] * 50
    with pytest.raises(
        NetworkError, match="the hub cut the connection; try again, what was fetched so far is"
    ):
        get("o/story-GGUF")
    assert len(hub.starts("m-Q4_K_M")) <= 2 * client.TRIES
    assert part(tmp_path).stat().st_size == 100_000 and not list(cache(tmp_path).glob("snapshots/*/*"))
    hub.cut.clear()
    assert Path(get("o/story-GGUF")).read_bytes() == DATA and not part(tmp_path).exists()
    assert hub.starts("m-Q4_K_M")[-1] == "bytes=100000-"


def test_a_hub_that_cuts_after_a_byte_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CUTS_MAX", 5)
    hub.cut["m-Q4_K_M"] = [1] * 100
    with pytest.raises(NetworkError, match="cut the connection"):
        get("o/story-GGUF")
    assert len(hub.starts("m-Q4_K_M")) == 6


def interrupt(after: int) -> Callable[[int, int, str], None]:
    def progress(done: int, _: int, __: str) -> None:
        if done > after:
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_keeps_what_came_and_the_next_call_goes_on(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        get("o/story-GGUF", progress=interrupt(400_000))
    came = part(tmp_path).stat().st_size
    assert 400_000 < came < len(DATA) and not list(cache(tmp_path).glob("snapshots/*/*"))
    assert not (cache(tmp_path) / "refs").exists()
    seen: list[int] = []
    assert Path(get("o/story-GGUF", progress=lambda done, *_: seen.append(done))).read_bytes() == DATA
    assert hub.starts("m-Q4_K_M")[-1] == f"bytes={came}-" and seen[0] == came


@pytest.mark.parametrize("left", [b"x" * 500, b"x" * len(DATA), b"x" * (len(DATA) + 1)])
def test_a_part_that_is_something_else(hub: Hub, tmp_path: Path, left: bytes) -> None:
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(left)
    assert Path(get("o/story-GGUF")).read_bytes() == DATA


def test_a_server_that_cannot_go_on(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(DATA[:1000])
    assert Path(get("o/story-GGUF")).read_bytes() == DATA
    assert hub.starts("m-Q4_K_M") == ["bytes=1000-"]


@pytest.mark.parametrize("word", ["m-Q4_K_M", "config.json"])
def test_a_wrong_checksum(hub: Hub, tmp_path: Path, word: str) -> None:
    """Of what large file storage has, SHA-256, and of a small file, git's."""
    hub.spoil.add(word)
    name = "o/story" if word == "config.json" else "o/story-GGUF"
    with pytest.raises(
        NetworkError, match=f"{word}.*not the checksum that the hub promises, and was deleted; try"
    ):
        get(name)
    folder = cache(tmp_path, name.partition("/")[2])
    assert not list(folder.glob("blobs/*edgeq-part")) and not list(folder.glob("snapshots/*/*"))
    hub.spoil.clear()
    get(name)


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        NetworkError, match="'o/story' is no local.*not in the hub's cache .*HF_HUB_OFFLINE keeps"
    ):
        get("o/story")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    first = get("o/story")
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get("o/story") == first and get("o/story", refresh=True) == first
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        get("o/story@v1")
    assert not hub.asked


def test_offline_with_what_another_program_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get("o/story-GGUF")
    shutil.rmtree(first.path.parents[2] / "edgeq")  # only edgeq makes that
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get("o/story-GGUF") == first
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        get("o/story-GGUF:Q8_0")


def test_offline_with_a_part_of_what_is_needed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get("o/story")
    shutil.rmtree(first.path.parents[1] / "edgeq")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get("o/story") == first
    (first.path / "tokenizer.model").unlink()
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        get("o/story")


def test_a_checkpoint_that_is_there_in_part_is_not_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of files is known: what lacks one is not there, also with no network."""
    first = get("o/story")
    (first.path / "tokenizer.model").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        get("o/story")


def test_a_hub_that_is_gone_and_a_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get("o/story-GGUF")
    shutil.rmtree(first.path.parents[2] / "edgeq")
    hub.refuse["/api/"] = (500, {})
    lines: list[str] = []
    assert get("o/story-GGUF", tell=lines.append) == first
    assert "the hub has trouble (status 500)" in lines[-1] and lines[-1].endswith("of main is used")
    with pytest.raises(NetworkError, match="status 500"):
        get("o/story-GGUF", refresh=True)


def test_a_full_disk_is_told_before_the_first_byte(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(filling.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        EdgeqError, match="needs 800 kB, but its disk has 1 kB free; make room, or set HF_HOME"
    ) as e:
        get("o/story-GGUF")
    assert not isinstance(e.value, NetworkError) and not hub.paths("/bytes/")


def test_a_disk_that_fills_up(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(transfer.FileIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "FileIO", Full)
    with pytest.raises(
        EdgeqError, match=r"the disk is full at .*edgeq-part; make room, or set HF_HOME"
    ) as caught:
        get("o/story-GGUF")
    assert not isinstance(caught.value, NetworkError) and len(hub.starts("m-Q4_K_M")) == 1


def test_a_cache_that_cannot_be_made(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    with pytest.raises(EdgeqError, match="file"):
        get("o/story-GGUF")


def test_two_processes_fetch_a_file_once(hub: Hub, tmp_path: Path) -> None:
    """One that finds the part locked waits, says so, and takes what the other made."""
    place = part(tmp_path)
    place.parent.mkdir(parents=True)
    lines: list[str] = []
    with place.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=get, args=("o/story-GGUF",), kwargs={"tell": lines.append})
        thread.start()
        until(lambda: any("another process is fetching" in line for line in lines), "a line about waiting")
        other.write(DATA)
        other.flush()
        place.rename(place.with_suffix(""))
    thread.join()
    assert not hub.paths("/bytes/") and not place.exists()
    assert Path(get("o/story-GGUF")).read_bytes() == DATA


def test_a_list_that_is_none(hub: Hub) -> None:
    for data in (b"<html>log in here</html>", b"[]", b"{}", b'{"sha": "x", "siblings": []}', b"[" * 100_000):
        hub.junk["/api/"] = data
        with pytest.raises(NetworkError, match="does not answer as the hub does .*; check HF_ENDPOINT, and"):
            get("o/story")


def test_names_in_a_list_that_lead_elsewhere(hub: Hub, tmp_path: Path) -> None:
    files = hub.repositories["o/story-GGUF"].files
    for name in ("../../m-Q2_K.gguf", "/tmp/m-Q2_K.gguf", "a/../../m-Q2_K.gguf", "m-Q2_K\n.gguf"):
        files[name] = b"evil"
    with pytest.raises(EdgeqError, match="no file of type Q2_K"):
        get("o/story-GGUF:Q2_K")


def test_a_part_is_never_written_through_a_link(hub: Hub, tmp_path: Path) -> None:
    """As another user of a shared cache may have left one."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"of the person's own")
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).symlink_to(mine)
    with pytest.raises(EdgeqError, match="edgeq-part: Too many levels of symbolic links"):
        get("o/story-GGUF")
    assert mine.read_bytes() == b"of the person's own"

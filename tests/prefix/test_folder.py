"""The folder of prefixes: what is read is what was written, whatever happens to the files."""

from __future__ import annotations

import os
import random
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import UsageError
from edgeq.formats import temporary
from edgeq.prefix import Folder, Found, Layout
from edgeq.prefix import file as files
from edgeq.prefix.pages import Pages, packed
from tests.patience import STUCK_S
from tests.prefix.fakes import CHUNK, LAYOUTS, WIDTH, FakePool, FakeSequence, NearFar, Plain, check

MODEL, OTHER = b"m" * 32, b"o" * 32
TEXT = [7, 1, 2, 3, 4, 5, 6, 7, 8, 9]  # two chunks and a half


def folder(path: Path, layout: Layout | None = None, **words: object) -> Folder:
    return Folder(path / "cache", MODEL, layout or Plain(), **words)  # type: ignore[arg-type]


def put(where: Folder, ids: list[int], salt: str = "") -> bool:
    sequence = FakeSequence(FakePool(), where.layout)
    sequence.feed(ids)
    return where.write(*sequence.kept(), salt)


def got(where: Folder, ids: list[int], salt: str = "") -> int:
    """How many tokens are found; their pages are checked."""
    stored = where.find(ids, salt)
    if stored is None:
        return 0
    pages = where.load(stored, FakePool().take, salt=salt)
    if pages is None:
        return 0
    check(Found(stored.length, pages, where.layout.chunk), ids, where.layout)
    return stored.length


def names(where: Folder) -> list[str]:
    return sorted(os.listdir(where.path))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: type(layout).__name__)
def test_what_is_written_is_found_in_another_process(tmp_path: Path, layout: Layout) -> None:
    assert put(folder(tmp_path, layout), TEXT)
    again = folder(tmp_path, layout)
    assert got(again, TEXT) == 10 and got(again, [*TEXT, 1]) == 10
    assert got(again, [7, 1, 2]) == 0  # less than a chunk
    assert got(again, [8, *TEXT[1:]]) == 0
    (name,) = names(again)
    assert stat.S_IMODE((again.path / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o700


def test_a_beginning_is_found_to_the_token(tmp_path: Path) -> None:
    where = folder(tmp_path)
    put(where, TEXT)
    assert [got(where, [*TEXT[:n], 99, 99]) for n in range(3, 11)] == [0, 4, 5, 6, 7, 8, 9, 10]


def test_random_prefixes(tmp_path: Path) -> None:
    """The longest beginning, a chunk at least, of all that was written."""
    rng, where, texts = random.Random(3), folder(tmp_path), list[list[int]]()
    for _ in range(120):
        ids = rng.choice(texts)[: rng.randrange(20)] if texts and rng.random() < 0.8 else []
        ids = ids + [rng.randrange(2) for _ in range(rng.randrange(1, 9))]
        most = max((n for text in texts for n in range(len(ids) + 1) if text[:n] == ids[:n]), default=0)
        assert got(where, ids) == (most if most >= CHUNK else 0)
        if put(where, ids):
            texts.append(ids)
        assert folder(tmp_path).find(ids) is not None or len(ids) < CHUNK


def test_the_same_prefix_is_the_same_bytes(tmp_path: Path) -> None:
    """Also where something else was in the pages before; what lies behind the last token is zeros."""
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    put(one, TEXT)
    sequence = FakeSequence(FakePool(), two.layout)
    sequence.feed([*TEXT, 11, 12])
    sequence.truncate(len(TEXT))
    two.write(*sequence.kept())
    (name,) = names(one)
    assert names(two) == [name]
    data = (one.path / name).read_bytes()
    assert data == (two.path / name).read_bytes() and data.endswith(bytes(2 * WIDTH))


def test_the_file_is_as_it_is_described(tmp_path: Path) -> None:
    """By the offsets in the module's words, read by other code."""
    where = folder(tmp_path)
    put(where, TEXT)
    data = (where.path / names(where)[0]).read_bytes()
    assert data[:8] == b"EDGEQKV\n" and struct.unpack_from("<IIQ", data, 8) == (1, 300, len(data))
    assert data[24:56] == MODEL and struct.unpack_from("<III", data, 88) == (CHUNK, 10, 3)
    assert struct.unpack_from("<10I", data, 100) == tuple(TEXT)
    assert struct.unpack_from("<II16sQ", data, 140 + 48) == (1, 0, bytes(16), CHUNK * WIDTH)
    assert len(data) == 300 + 3 * CHUNK * WIDTH == files.file_size(packed(TEXT), where.layout)


def test_a_longer_prefix_takes_the_place_of_its_beginnings(tmp_path: Path) -> None:
    where = folder(tmp_path)
    for n in (5, 8, 10):
        put(where, TEXT[:n])
        assert len(names(where)) == 1
    put(where, [*TEXT[:9], 3])
    assert len(names(where)) == 2
    near = folder(tmp_path / "near", NearFar())
    ids = list(range(40))
    for n in (10, 18, 33):  # of which each can be gone on from only by its own file
        put(near, ids[:n])
    assert len(names(near)) == 3 and [got(near, ids[:n]) for n in (10, 18, 33)] == [10, 18, 33]


def test_others_are_left_alone(tmp_path: Path) -> None:
    """Another model, another salt: neither found nor removed."""
    mine, other = folder(tmp_path), Folder(tmp_path / "cache", OTHER, Plain())
    put(mine, TEXT)
    put(mine, TEXT, "salt")
    assert got(other, TEXT) == 0
    put(other, TEXT)
    assert [got(mine, TEXT), got(mine, TEXT, "salt"), got(other, TEXT)] == [10, 10, 10]
    assert got(mine, TEXT, "other") == 0 and len(names(mine)) == 3
    data = b"".join((mine.path / name).read_bytes() for name in names(mine))
    assert b"salt" not in data


# ---- damage ----


def flips(data: bytes) -> list[bytes]:
    """One bit of each byte of the head, and of some of each page."""
    places = [*range(300), *range(300, len(data), 7)]
    return [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in places]


def sealed(data: bytes, at: int, form: str, *values: int) -> bytes:
    """With other numbers in the head, and the head's checksum right."""
    head = bytearray(data[:284])
    struct.pack_into(form, head, at, *values)
    return bytes(head) + files.xxh3(bytes(head)) + data[300:]


def lies(data: bytes) -> dict[str, bytes]:
    """Files whose checksums are right and whose numbers are not."""
    huge = (1 << 32) - 1
    return {
        "version": sealed(data, 8, "<I", 2),
        "head bytes": sealed(data, 12, "<I", huge),
        "file bytes": sealed(data, 16, "<Q", 1 << 62),
        "model": sealed(data, 24, "<Q", 1),
        "salt": sealed(data, 56, "<Q", 1),
        "chunk": sealed(data, 88, "<I", 256),
        "no tokens": sealed(data, 92, "<I", 0),
        "tokens": sealed(data, 92, "<I", huge),
        "pages": sealed(data, 96, "<I", huge),
        "a page behind the tokens": sealed(data, 140 + 96, "<I", 3),
        "a page twice": sealed(data, 140 + 48, "<I", 0),
        "not zero": sealed(data, 144, "<I", 1),
        "a form": sealed(data, 148, "<Q", 0x41),
        "no ASCII": sealed(data, 148, "<Q", 0xFF),
        "a large page": sealed(data, 164, "<Q", 1 << 40),
        "a page less": sealed(data, 96, "<I", 2),
        "a page's checksum": sealed(data, 172, "<Q", 1),
    }


def damaged(where: Folder, write: Callable[[bytes, Path], object]) -> None:
    """A damaged file is removed with one warning, and found never more."""
    put(where, TEXT)
    (name,) = names(where)
    path = where.path / name
    write(path.read_bytes(), path)
    check_damaged(where, path)
    assert put(where, TEXT) and got(where, TEXT) == 10
    path.unlink()


def check_damaged(where: Folder, path: Path) -> None:
    again = Folder(where.path, MODEL, where.layout)
    with pytest.warns(RuntimeWarning) as told:
        assert got(again, TEXT) == 0
    assert len(told) == 1 and "is removed" in str(told[0].message) and not path.exists()


def test_each_damage_is_seen(tmp_path: Path) -> None:
    where = folder(tmp_path)
    put(where, TEXT)
    path = where.path / names(where)[0]
    data = path.read_bytes()
    cut = [data[:n] for n in range(0, len(data), 13)]
    for at, bad in enumerate([*flips(data), *lies(data).values(), *cut, data + b"x"]):
        print(at)  # which one it was
        path.write_bytes(bad)
        check_damaged(where, path)


def test_a_page_with_a_wrong_checksum_leaves_the_others_usable(tmp_path: Path) -> None:
    """What is in memory is not read, so damage there goes unseen; and nothing is read of what is not used."""
    where = folder(tmp_path)
    put(where, TEXT)
    (name,) = names(where)
    data = bytearray((where.path / name).read_bytes())
    data[300] ^= 1
    (where.path / name).write_bytes(data)
    sequence = FakeSequence(FakePool(), where.layout)
    sequence.feed(TEXT[:4])
    stored = where.find(TEXT)
    assert stored is not None
    pages = where.load(stored, FakePool().take, sequence.pages)
    assert pages is not None and pages[0][""] is sequence.pages[0][""]
    check(Found(stored.length, pages, CHUNK), TEXT, where.layout)


def link(_: bytes, path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def test_a_link_is_no_prefix(tmp_path: Path) -> None:
    where = folder(tmp_path)
    put(where, TEXT)
    (name,) = names(where)
    link(b"", where.path / name)
    with pytest.warns(RuntimeWarning, match="is removed: it is a link"):
        assert got(where, TEXT) == 0
    assert names(where) == ["real"]


def test_a_pipe_and_a_folder_are_no_prefixes(tmp_path: Path) -> None:
    where = folder(tmp_path)
    put(where, TEXT)
    (name,) = names(where)
    (where.path / name).unlink()
    os.mkfifo(where.path / name)
    with pytest.warns(RuntimeWarning, match="it is no regular file"):
        assert got(where, TEXT) == 0
    (where.path / name).mkdir()
    assert got(where, TEXT) == 0 and not put(where, TEXT)


def test_what_others_can_write_is_not_read(tmp_path: Path) -> None:
    where = folder(tmp_path)
    damaged(where, lambda _, path: path.chmod(0o620))
    if os.geteuid() == 0:
        damaged(where, lambda _, path: os.chown(path, 12345, -1))
        os.chown(where.path, 12345, -1)
        with pytest.raises(
            UsageError, match=r"cannot be a prompt cache: it belongs to another user \(id 12345"
        ):
            folder(tmp_path)
        os.chown(where.path, 0, -1)
    where.path.chmod(0o777)
    with pytest.raises(UsageError, match="others can write it .chmod go-w makes it safe"):
        folder(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(UsageError, match="cannot be a prompt cache: File exists"):
        folder(tmp_path)
    with pytest.raises(UsageError, match="it is no folder"):
        folder(tmp_path, writable=False)


def test_another_prefix_under_a_name(tmp_path: Path) -> None:
    """Found by its own tokens, not by what the name says; exchanged under a reader, it is not read."""
    where = folder(tmp_path)
    put(where, TEXT)
    (name,) = names(where)
    stored = where.find(TEXT)
    put(where, [7, 1, 2, 3, 9, 9])
    (other,) = set(names(where)) - {name}
    os.replace(where.path / other, where.path / name)
    assert stored is not None
    with pytest.warns(RuntimeWarning, match="it is another prefix than its name says"):
        assert where.load(stored, FakePool().take) is None


def test_no_memory_for_pages(tmp_path: Path) -> None:
    where = folder(tmp_path)
    put(where, TEXT)
    stored = where.find(TEXT)
    assert stored is not None and where.load(stored, FakePool(limit=2 * CHUNK * WIDTH).take) is None
    assert got(where, TEXT) == 10


# ---- limits, failures, several processes ----


def test_what_is_unused_for_longest_goes(tmp_path: Path) -> None:
    nbytes = files.file_size(packed(TEXT), Plain())
    where = folder(tmp_path, limit=3 * nbytes + 5)
    texts = [[n, *TEXT[1:]] for n in range(5)]
    for age, ids in enumerate(texts[:3]):
        put(where, ids)
        os.utime(where.path / where.name(packed(ids), ""), (age, age))
    assert got(where, texts[0]) == 10  # used now
    put(where, texts[3])
    assert [where.find(ids) is not None for ids in texts] == [True, False, True, True, False]
    Folder(where.path, OTHER, Plain(), limit=nbytes).write(texts[4], pages_of(texts[4]))
    assert len(names(where)) == 1  # another model's limit counts for all


def pages_of(ids: list[int]) -> Sequence[Pages]:
    sequence = FakeSequence(FakePool(), Plain())
    sequence.feed(ids)
    return sequence.kept()[1]


def test_a_prefix_above_the_limit_is_not_written(tmp_path: Path) -> None:
    where = folder(tmp_path, limit=100)
    with pytest.warns(RuntimeWarning, match="a prefix of 10 tokens takes 396 B, more than 100 B"):
        assert not put(where, TEXT)
    assert names(where) == []


def test_a_folder_that_is_only_read(tmp_path: Path) -> None:
    reader = folder(tmp_path, writable=False)
    assert got(reader, TEXT) == 0 and not reader.path.exists()
    put(folder(tmp_path), TEXT)
    assert got(reader, TEXT) == 10 and not put(reader, [1, *TEXT]) and len(names(reader)) == 1


@pytest.mark.parametrize("call", ["fsync", "replace", "scandir", "open"])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Nothing half-written, one warning, and what was there is there."""
    where = folder(tmp_path)
    put(where, TEXT)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning, match="No space left") as told:
        patch.setattr(os, call, full)
        for n in range(3):
            written, found = put(where, [n, *TEXT]), got(where, TEXT)
            assert not written or call in ("scandir", "open")  # these are not what writing needs
            assert found == (10 if call in ("fsync", "replace") else 0)
    assert len(told) == 1 and got(where, TEXT) == 10
    assert not [name for name in names(where) if not name.endswith(".prefix")]


def test_interrupted_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = folder(tmp_path)

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", ctrl_c)
        put(where, TEXT)
    assert names(where) == []


PROCESS = """
import os, sys
from pathlib import Path
from tests.prefix import test_folder as t
where = t.folder(Path(sys.argv[1]))
"""


def process(tmp_path: Path, code: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROCESS + code, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE)


def test_killed_while_writing(tmp_path: Path) -> None:
    """What is left of it is removed by who comes next."""
    halts = "os.fsync = lambda _: (print('writes', flush=True), os.read(0, 1))\nt.put(where, t.TEXT)"
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS + halts, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        stdin=read,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"writes\n"
        cache = tmp_path / "cache"
        (part,) = os.listdir(cache)
        assert part.startswith(temporary.BEGINNING)
        assert stat.S_IMODE((cache / part).stat().st_mode) == 0o600
        assert names(folder(tmp_path)) == [part]  # it lives
        writer.send_signal(signal.SIGKILL)
        writer.wait(STUCK_S)
    os.close(read)
    os.close(write)
    where = folder(tmp_path)
    assert names(where) == [] and put(where, TEXT) and got(where, TEXT) == 10


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both write, read, and remove for want of room; nobody sees a wrong byte or an error."""
    works = (
        "import random; rng = random.Random(int(sys.argv[2])); where.limit = 2000\n"
        "for _ in range(150):\n"
        "    ids = [rng.randrange(2), *t.TEXT[1:rng.randrange(6, 11)]]\n"
        "    t.got(where, ids); t.put(where, ids)\n"
        "print('done')"
    )
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS + works, str(tmp_path), str(seed)],
            cwd=root,
            stdout=subprocess.PIPE,
        )
        for seed in range(2)
    ]
    for each in processes:
        with each:
            out, _ = each.communicate(timeout=STUCK_S)
            assert (out, each.returncode) == (b"done\n", 0)
    where = folder(tmp_path)
    assert all(name.endswith(".prefix") for name in names(where))
    for n in range(2):
        assert got(where, [n, *TEXT[1:]]) in (0, *range(4, 11))


def test_a_thousand_files_are_found_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only heads that may matter are read, and none twice."""
    where = folder(tmp_path)
    for n in range(40):
        put(where, [n // 4, 1, 2, 3, n, 9])
    read, read_head = list[object](), files.read_head

    def reads(*words: Any) -> files.Head:
        read.append(words)
        return read_head(*words)

    monkeypatch.setattr(files, "read_head", reads)
    again = folder(tmp_path)
    for _ in range(3):
        stored = again.find([5, 1, 2, 3, 22, 9, 8])
        assert stored is not None and stored.length == 6
    assert len(read) == 4

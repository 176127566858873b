"""The store of kernels: packs and what is wrong with them, unsafe folders, many processes at once.

Compiling takes no time here: every kernel is the same small function, which gives the sum of its arguments.
"""

from __future__ import annotations

import ctypes
import dis
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from edgeq import ownership
from edgeq.packs import build, executable, folder, store
from edgeq.packs.pack import Pack
from edgeq.simd.tag import Request, Tag
from edgeq.simd.target import Target
from tests.instructions import interfere
from tests.patience import STUCK_S
from tests.simd.objects import GENERIC, adding, made

TAG = Tag("generic")
ONE, TWO = ("argmax", TAG), ("rotate", TAG)
OWN = GENERIC.name + store.COMPILED
SUM = adding(0)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packs of this test's own, not there yet, and none that were installed."""
    path = tmp_path / "kernels"
    monkeypatch.setenv("EDGEQ_KERNELS", str(path))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    return path


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that were compiled."""
    names: list[str] = []

    def quick(requests: Sequence[Request], target: Target, *_: object) -> Iterator[tuple[Request, bytes]]:
        for request in requests:
            names.append(request[0])
            yield request, made(SUM, target)

    monkeypatch.setattr(build, "compiling", quick)
    return names


def pack(*requests: Request, target: Target = GENERIC, **changed: Any) -> Pack:
    whole = build.pack({request: made(SUM, target) for request in requests}, target)
    return replace(whole, **changed)


def check(*requests: Request, kernels: store.Kernels | None = None) -> None:
    """The kernels are to be had, and do what they should."""
    requests = requests or (ONE,)
    kernels = kernels or store.Kernels()
    addresses = kernels.load(requests)
    for request in requests:
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(addresses[request])
        assert function(1, 20, 300) == 321


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name != folder.LOCK)


# ---- the way of things ----
def test_compiled_once_and_kept(place: Path, compiled: list[str]) -> None:
    first = store.Kernels()
    check(kernels=first)
    check(kernels=first)
    check()
    assert compiled == ["argmax"]
    assert names(place) == [OWN] and place.stat().st_mode & 0o077 == 0


def test_what_runs_compile_is_kept_together(place: Path, compiled: list[str]) -> None:
    check(ONE)
    check(ONE, TWO)
    check(TWO, ONE)
    assert compiled == ["argmax", "rotate"] and names(place) == [OWN]


def test_tiers_are_kept_apart(place: Path, compiled: list[str]) -> None:
    other = ("argmax", Tag("avx2" if GENERIC.machine == "x86_64" else "neon"))
    check(ONE)
    store.Kernels().load([ONE, other])
    assert compiled == ["argmax", "argmax"]
    assert names(place) == sorted([OWN, Target.of(other[1].isa).name + store.COMPILED])


def test_every_part_of_a_tag_counts(place: Path, compiled: list[str]) -> None:
    tags = [TAG, replace(TAG, tokens=2), replace(TAG, scheme="q4"), replace(TAG, scheme="q4", tokens=2)]
    for tag in tags:
        check(("argmax", tag))
    check(*(("argmax", tag) for tag in tags))
    assert len(compiled) == len(tags)


def test_progress_counts_compilations(place: Path, compiled: list[str]) -> None:
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, name: str) -> None:
        seen.append((done, total, name))

    store.Kernels().load([ONE, TWO], progress)
    assert seen == [(0, 2, f"argmax {TAG}"), (1, 2, f"rotate {TAG}"), (2, 2, "")]
    store.Kernels().load([ONE], progress)
    assert len(seen) == 3


def test_packs_are_found_by_any_name(place: Path, compiled: list[str]) -> None:
    """Those that were put there come before what runs compiled; others' tiers are passed over."""
    place.mkdir()
    folder.publish(place / "from my laptop.pack", pack(ONE).encoded())
    other = Target("generic", "aarch64" if GENERIC.machine == "x86_64" else "x86_64")
    folder.publish(place / "another.pack", pack(TWO, target=other).encoded())
    check(ONE)
    assert compiled == []
    check(ONE, TWO)
    assert compiled == ["rotate"]


def test_a_pack_that_was_built_is_for_every_compiler(place: Path, compiled: list[str]) -> None:
    place.mkdir()
    folder.publish(place / "my.pack", pack(ONE, compiler="numba 1, llvmlite 2").encoded())
    check()
    assert compiled == []


def test_installed_packs_come_first(place: Path, compiled: list[str], tmp_path: Path) -> None:
    """And whoever changes kernels where edgeq is installed gets them compiled without a word."""
    store.SHIPPED.mkdir()
    path = store.SHIPPED / (GENERIC.name + store.BUILT)
    folder.publish(path, pack(ONE).encoded())
    path.chmod(0o666)  # as safe as edgeq's sources, whatever these are
    check()
    assert compiled == [] and not place.exists()
    folder.publish(path, pack(ONE, sources="others").encoded())
    check()
    assert compiled == ["argmax"]
    path.write_bytes(b"spoiled")
    with pytest.warns(RuntimeWarning, match="not used.*shipped"):
        check()


# ---- what is wrong with a pack ----
def spoiled(blob: bytes) -> Iterator[bytes]:
    yield b""
    for length in (1, 43, 44, len(blob) // 2, len(blob) - 1):
        yield blob[:length]
    yield blob + b"\0"
    yield bytes(len(blob))
    rng = np.random.default_rng(0)
    for bit in rng.choice(len(blob) * 8, 100, replace=False):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << (bit % 8)
        yield bytes(flipped)


def test_damaged_packs_are_made_again(place: Path, compiled: list[str]) -> None:
    """Truncated, empty, longer, zeros, and single bits: a warning, and never a crash or a wrong answer."""
    check()
    path = place / OWN
    whole = path.read_bytes()
    for n, blob in enumerate(spoiled(whole), 2):
        path.write_bytes(blob)
        with pytest.warns(RuntimeWarning, match="not used") as record:
            check()
        assert len({str(warning.message) for warning in record}) == 1
        assert len(compiled) == n and path.read_bytes() == whole
    assert len(compiled) > 100 and names(place) == [OWN]


OTHER = Target("generic", "aarch64" if GENERIC.machine == "x86_64" else "x86_64")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: pack(ONE, target=OTHER), "it is for"),
        (lambda: pack(ONE, target=GENERIC, sources="others"), None),
        (lambda: pack(ONE, compiler="numba 0.1, llvmlite 0.1"), None),
    ],
    ids=["machine", "sources", "compiler"],
)
def test_what_runs_compiled_is_made_again_when_it_is_not_right(
    wrong: Callable[[], Pack], words: str | None, place: Path, compiled: list[str]
) -> None:
    place.mkdir()
    folder.publish(place / OWN, wrong().encoded())
    if words:
        with pytest.warns(RuntimeWarning, match=words):
            check()
    else:
        check()
    assert compiled == ["argmax"]
    check()
    assert compiled == ["argmax"]


@pytest.mark.parametrize("sources", ["others", None])
def test_a_built_pack_that_cannot_be_used_is_told_and_left(
    sources: str | None, place: Path, compiled: list[str]
) -> None:
    place.mkdir()
    path = place / "my.pack"
    folder.publish(path, pack(ONE, sources=sources).encoded() if sources else b"no pack at all" * 9)
    blob = path.read_bytes()
    with pytest.warns(RuntimeWarning, match="my.pack.*(build it again|no pack)"):
        check()
    if sources:  # all is compiled now: an old pack costs nothing any more
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check()
    else:
        with pytest.warns(RuntimeWarning, match="my.pack.*no pack"):
            check()
    assert compiled == ["argmax"] and path.read_bytes() == blob


needs_owners = pytest.mark.skipif(
    not hasattr(os, "getuid"), reason="owners and permissions as on POSIX systems"
)


@needs_owners
@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(mode: int, place: Path, compiled: list[str]) -> None:
    check()
    (place / OWN).chmod(mode)
    with pytest.warns(RuntimeWarning, match="others can write it"):
        check()
    assert compiled == ["argmax", "argmax"]
    check()
    assert len(compiled) == 2


def owned_by_another(path: Path, patch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
    else:
        mine = os.getuid()
        patch.setattr(os, "getuid", lambda: mine + 1)


@needs_owners
def test_a_file_of_another_user_is_refused(
    place: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    owned_by_another(place / OWN, monkeypatch)
    with pytest.warns(RuntimeWarning, match="belongs to another user|not kept"):
        check()
    assert compiled == ["argmax", "argmax"]


@needs_owners
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a pipe", "a directory"])
def test_what_is_no_file_is_refused(make: Callable[[Path], None], place: Path, compiled: list[str]) -> None:
    place.mkdir()
    make(place / "strange.pack")
    with pytest.warns(RuntimeWarning, match="strange.pack: it is no regular file"):
        check()
    assert compiled == ["argmax"]


def test_where_files_may_not_be_run(
    place: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that is mounted noexec: the code is copied into memory."""
    check()
    real, tries = executable.Executable.of_file, []

    def refusing(descriptor: int, size: int) -> executable.Executable:
        tries.append(descriptor)
        if len(tries) == 1:
            raise OSError(errno.EPERM, "Operation not permitted")
        return real(descriptor, size)

    monkeypatch.setattr(executable.Executable, "of_file", refusing)
    check()
    assert compiled == ["argmax"] and tries


@pytest.mark.skipif(sys.platform == "win32", reason="memory as on POSIX systems")
def test_a_copy_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systems other than Linux do, and Linux where there are no files in memory."""

    def forbidden(name: str) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", forbidden, raising=False)
    blob = pack(ONE)
    code = executable.Executable.of_bytes(blob.image)
    (at,) = blob.kernels.values()
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(code.address + at)
    assert function(1, 20, 300) == 321 and bytes(code.view) == bytes(blob.image)


# ---- folders ----
def world_writable(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o777)


def group_writable(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o770)


def a_file(folder: Path, patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


@needs_owners
@pytest.mark.parametrize("state", [world_writable, group_writable, owned_by_another, a_file])
def test_an_unsafe_folder_is_not_used(
    state: Callable[[Path, pytest.MonkeyPatch], None],
    place: Path,
    compiled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One warning that names it; kernels are compiled and neither read from there nor written to it."""
    check()
    kept = (place / OWN).read_bytes()
    state(place, monkeypatch)
    kernels = store.Kernels()
    with pytest.warns(RuntimeWarning, match="not kept") as record:
        check(kernels=kernels)
        check(kernels=kernels)
    assert len(record) == 1 and str(place) in str(record[0].message)
    assert compiled == ["argmax", "argmax"]
    if place.is_dir():
        assert (place / OWN).read_bytes() == kept and names(place) == [OWN]


@pytest.fixture
def read_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def now() -> None:
        place.chmod(0o500)
        if os.geteuid() == 0:  # whom permissions do not bind
            monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)

    return now


def test_a_folder_that_cannot_be_written_is_read(
    place: Path, compiled: list[str], read_only: Callable[[], None]
) -> None:
    """A read-only home with all that is needed says nothing; what it lacks is compiled with one warning."""
    check(ONE)
    read_only()
    check(ONE)
    assert compiled == ["argmax"]
    with pytest.warns(RuntimeWarning, match="not kept") as record:
        check(ONE, TWO)
    assert len(record) == 1 and compiled == ["argmax", "rotate"] and names(place) == [OWN]


def test_no_place_for_a_folder(
    tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEQ_KERNELS", str(tmp_path / "file" / "kernels"))
    with pytest.warns(RuntimeWarning, match="not kept") as record:
        check()
    assert len(record) == 1


@pytest.mark.parametrize("call", ["tempfile.mkstemp", "os.replace"])
def test_a_full_disk(call: str, place: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, full)
    with pytest.warns(RuntimeWarning, match="not kept"):
        check()
    assert names(place) == []


def test_an_interrupted_write_leaves_nothing(
    place: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.Kernels().load([ONE])
    assert names(place) == []
    check()


def test_interrupted_what_was_compiled_is_kept(place: Path, compiled: list[str]) -> None:
    def interrupt(done: int, total: int, name: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.Kernels().load([ONE, TWO], interrupt)
    check(ONE, TWO)
    assert compiled == ["argmax", "rotate"]


# ---- processes ----
SCRIPT = """
import json, os, sys
from edgeq.packs import build, store
from edgeq.simd.tag import Tag
blob = bytes.fromhex(sys.argv[2])
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

waited, waits = os.pipe()

def when_another_waits(requests, target, *_):
    for request in requests:
        os.write(log, b"compiled\\n")
        if request[0] == "argmax":
            os.read(waited, 1)
        yield request, blob

def work():
    told = []
    requests = [(name, Tag("generic")) for name in ("argmax", "rotate", "norm")]
    build.compiling = when_another_waits
    def progress(done, total, name):
        told.append(name)
        if name == store.WAITING:
            os.write(waits, b".")
    store.Kernels().load(requests, progress)
    return store.WAITING in told

children = []
for _ in range(32):
    child = os.fork()
    if not child:
        os._exit(1 + work())
    children.append(child)
ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
light = not {"numba", "llvmlite"} & set(sys.modules)
print(json.dumps([ends.count(1), ends.count(2), light]))
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([*filter(None, sys.path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by fork")
def test_many_processes_at_once_compile_once(place: Path, tmp_path: Path) -> None:
    """32 begin with an empty folder: one compiles, the others wait and say so, and none fails."""
    log = tmp_path / "log"
    out, err = python(SCRIPT, str(log), made(SUM).hex()).communicate(timeout=STUCK_S)
    first, waited, light = json.loads(out or "[]") or pytest.fail(err)
    assert first + waited == 32 and waited >= 1 and light, (out, err)
    assert log.read_text().count("compiled") == 3
    assert names(place) == [OWN]


HOLD = """
import os, sys
from pathlib import Path
from edgeq.packs.folder import lock, lock_file
with lock_file(Path(sys.argv[1])) as file:
    lock(file, lambda: None)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_dead_holder_blocks_nobody(place: Path, compiled: list[str]) -> None:
    place.mkdir()
    holder = python(HOLD, str(place))
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, name: str) -> None:
        told.append((done, total, name))
        holder.kill()

    store.Kernels().load([ONE], progress)
    holder.communicate()
    assert told[0] == (0, 1, store.WAITING) and compiled == ["argmax"]


def test_a_lock_ends_with_its_block(place: Path) -> None:
    place.mkdir()
    waited: list[bool] = []
    for _ in range(3):
        with folder.lock_file(place) as file:
            folder.lock(file, lambda: waited.append(True))
    assert not waited


class Interrupt(BaseException):
    """What Ctrl-C raises, at a place where CPython looks for signals."""


def interrupted(work: Callable[[], object], files: set[str | None], at: int) -> int:
    """Do the work with an Interrupt at the at-th of such places in those files; how many there were."""
    looks = ("RESUME", "CALL", "JUMP_BACKWARD")
    last: dict[FrameType, str] = {}

    def behind_a_look(frame: FrameType) -> bool:
        before = last.get(frame, "")
        last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        return before.startswith(looks)

    def interrupt() -> None:
        raise Interrupt

    try:
        return interfere(work, files, at, interrupt, behind_a_look)
    finally:
        last.clear()


@pytest.mark.filterwarnings("ignore:unclosed file")  # the system closes what was broken off
def test_ctrl_c_leaves_nobody_waiting(place: Path, compiled: list[str]) -> None:
    """Whoever catches Ctrl-C, and keeps its traceback, can load anew; so can others."""
    files: set[str | None] = {store.__file__, folder.__file__, ownership.__file__}
    waited: list[bool] = []

    def one(at: int, kernels: store.Kernels) -> int:
        shutil.rmtree(place, ignore_errors=True)
        return interrupted(lambda: kernels.load([ONE], lambda *_: None), files, at)

    for at in range(one(-1, store.Kernels())):
        kernels = store.Kernels()
        try:
            one(at, kernels)
        except Interrupt as kept:
            check(kernels=kernels)  # while what was raised holds all that there was
            with folder.lock_file(place) as file:
                folder.lock(file, lambda: waited.append(True), lambda: True)
            assert kept and not waited, at


def test_a_callback_s_own_error_is_its_caller_s(place: Path, compiled: list[str]) -> None:
    """Also one of the kind that a folder's file system raises."""
    place.mkdir()

    def progress(done: int, total: int, name: str) -> None:
        if name == store.WAITING:
            raise BrokenPipeError

    with folder.lock_file(place) as file:
        folder.lock(file, lambda: None)
        with pytest.raises(BrokenPipeError):
            store.Kernels().load([ONE], progress)
    assert not compiled


def test_nobody_waits_for_a_callback_that_may_wait_for_him(place: Path, compiled: list[str]) -> None:
    """A thread's progress waits for another thread of the process that wants kernels, too."""
    kernels = store.Kernels()
    told: list[str] = []

    def other() -> None:
        kernels.load([TWO], lambda *about: told.append(about[2]))

    def progress(done: int, *_: object) -> None:
        if not done:
            thread = threading.Thread(target=other, daemon=True)
            thread.start()
            thread.join(STUCK_S)
            assert not thread.is_alive(), told

    kernels.load([ONE], progress)
    assert compiled == ["rotate", "argmax"]


def test_the_compiler_is_numba_and_llvmlite() -> None:
    import llvmlite
    import numba

    assert build.compiler() == f"numba {numba.__version__}, llvmlite {llvmlite.__version__}"
